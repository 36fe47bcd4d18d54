//! A path that belongs to a listening socket.

use rustix::fs::{FlockOperation, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A path, locked while a socket of this process listens there.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    file: FileId,
    lock: Lock,
}

/// What tells whether two paths lead to one file.
type FileId = (u64, u64);

impl Place {
    /// A socket that listens at `path`, with these permissions.
    pub(super) fn bind(path: &Path, mode: u32) -> io::Result<(OwnedFd, Self)> {
        let path = std::path::absolute(path)?;
        let address = SocketAddrUnix::new(&path)?;
        let lock = Lock::take(&path)?;
        let socket = stream_socket()?;
        // The permissions that the file gets: what the umask leaves of these.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
        match rustix::net::bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => {
                remove_stale(&path, &address)?;
                rustix::net::bind(&socket, &address)?;
            }
            result => result?,
        }
        let file = fs::symlink_metadata(&path)?;
        let place = Self { path, file: file_id(&file), lock };
        if file.mode() & 0o7777 != mode {
            // What the umask took; nobody gets in before it listens.
            set_mode(&place.path, place.file, mode)?;
        }
        rustix::net::listen(&socket, i32::MAX)?;
        Ok((socket, place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let is_ours = |metadata| file_id(&metadata) == self.file;
        if self.lock.is_own() && fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Sets the permissions of the file at `path`, if it still is the one that is meant: whoever
/// may write to the directory could have put a link to another one there.
fn set_mode(path: &Path, meant: FileId, mode: u32) -> io::Result<()> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if file_id(&metadata) != meant || !metadata.file_type().is_socket() {
        return Err(in_use(path));
    }
    // By its name: `fchmod` takes no descriptor that was opened so, as a socket must be.
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(opened, Permissions::from_mode(mode))
}

/// Removes what is at `path`, if that is a socket on which nobody listens.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => {
            let message = format!("{} is there and is no socket", path.display());
            return Err(io::Error::new(ErrorKind::AlreadyExists, message));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match rustix::net::connect(stream_socket()?, address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Err(Errno::NOENT) => Ok(()),
        // Also where its queue is full, or it is of another type.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(in_use(path)),
        Err(error) => Err(error.into()),
    }
}

fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

fn in_use(path: &Path) -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, format!("somebody listens at {}", path.display()))
}

fn file_id(metadata: &fs::Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// The right to listen at a path, among those who ask for it so. The kernel takes it back
/// when the process ends, however it does.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    process: u32,
    /// Locked as long as it is open.
    _file: File,
}

impl Lock {
    fn take(of: &Path) -> io::Result<Self> {
        let mut path = OsString::from(of);
        path.push(".lock");
        let path = PathBuf::from(path);
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                // Nor does it wait for whoever reads a pipe that somebody left there.
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Err(in_use(of)),
                result => result?,
            }
            // Whoever had it may have removed the file meanwhile.
            let locked = file_id(&file.metadata()?);
            if fs::symlink_metadata(&path).is_ok_and(|now| file_id(&now) == locked) {
                return Ok(Self { path, process: std::process::id(), _file: file });
            }
        }
    }

    /// Whether this process took it. A forked child's copy removes nothing.
    fn is_own(&self) -> bool {
        self.process == std::process::id()
    }
}

impl Drop for Lock {
    /// Removes the file, while it is locked.
    fn drop(&mut self) {
        if self.is_own() {
            drop(fs::remove_file(&self.path));
        }
    }
}
