//! The few system calls on sockets that the standard library does not offer.
//!
//! Invariant: every descriptor that is passed in is only used, never closed or
//! kept; every descriptor that is made here is owned by what is returned.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use shm_fifo::Interest;

/// `AF_UNIX`, of the type that addresses have.
const UNIX_FAMILY: libc::sa_family_t = 1;

/// Whether a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// As the socket's own mode says: these sockets are in blocking mode.
    AsLongAsItTakes,
    /// Not at all: `WouldBlock`.
    Never,
}

impl Waiting {
    const fn flags(self) -> libc::c_int {
        match self {
            Self::AsLongAsItTakes => 0,
            Self::Never => libc::MSG_DONTWAIT,
        }
    }
}

/// Receives from a socket. `Ok(0)` is its end, or an empty `target`.
pub(crate) fn receive(socket: RawFd, target: &mut [u8], waiting: Waiting) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `target.len()` bytes into a live slice.
    let received =
        unsafe { libc::recv(socket, target.as_mut_ptr().cast(), target.len(), waiting.flags()) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

/// Sends on a socket without waiting and without SIGPIPE.
pub(crate) fn send(socket: RawFd, source: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads at most `source.len()` bytes of a live slice.
    let sent = unsafe { libc::send(socket, source.as_ptr().cast(), source.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Waits until the socket is ready for what `interest` names, or has failed or
/// ended, which the next call on it will tell.
///
/// # Errors
/// `TimedOut` after `deadline`.
pub(crate) fn wait(socket: RawFd, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
    let mut events = 0;
    if interest.readable {
        events |= libc::POLLIN;
    }
    if interest.writable {
        events |= libc::POLLOUT;
    }
    let mut entry = libc::pollfd { fd: socket, events, revents: 0 };
    loop {
        match poll_one(&mut entry, deadline.map(left_until)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn left_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn poll_one(entry: &mut libc::pollfd, timeout: Option<Duration>) -> io::Result<libc::c_int> {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: one live entry; the time is null or a live timespec; no signal mask.
    let ready = unsafe { libc::ppoll(entry, 1, timeout, std::ptr::null()) };
    if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(ready) }
}

/// Ends the socket in both directions; its state afterwards is all that counts.
pub(crate) fn shut_down(socket: RawFd) {
    // SAFETY: takes no pointer.
    unsafe { libc::shutdown(socket, libc::SHUT_RDWR) };
}

/// Connects to the unix socket at `path`.
///
/// # Errors
/// What `connect(2)` says; `TimedOut` if the server did not take the connection
/// in time, its queue being full.
pub(crate) fn connect_unix(path: &Path, timeout: Option<Duration>) -> io::Result<UnixStream> {
    let (address, length) = unix_address(path)?;
    // SAFETY: takes no pointer.
    let socket = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made it for this process; nobody else owns it.
    let stream = UnixStream::from(unsafe { OwnedFd::from_raw_fd(socket) });
    // On unix sockets the send timeout limits `connect` too.
    stream.set_write_timeout(timeout)?;
    // SAFETY: the pointer and the length are those of a live address.
    let connected =
        unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), length) };
    if connected < 0 {
        let error = io::Error::last_os_error();
        let late = error.kind() == io::ErrorKind::WouldBlock;
        return Err(if late { io::ErrorKind::TimedOut.into() } else { error });
    }
    stream.set_write_timeout(None)?;
    Ok(stream)
}

fn unix_address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let path = path.as_os_str().as_bytes();
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = UNIX_FAMILY;
    // One byte remains for the zero that ends the path.
    if path.is_empty() || path.len() >= address.sun_path.len() || path.contains(&0) {
        let message = "a unix socket's path has 1 to 107 bytes and no zero byte";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    for (target, &byte) in address.sun_path.iter_mut().zip(path) {
        // `c_char` has a sign on some machines and none on others.
        *target = libc::c_char::from_ne_bytes([byte]);
    }
    let length = size_of::<libc::sockaddr_un>();
    Ok((address, libc::socklen_t::try_from(length).unwrap_or_default()))
}

/// Gives the socket an abstract name that the kernel chooses (autobind, unix(7)).
pub(crate) fn autobind(socket: &UnixDatagram) -> io::Result<()> {
    let family = UNIX_FAMILY;
    let length = libc::socklen_t::try_from(size_of_val(&family)).unwrap_or_default();
    // SAFETY: an address of just the family, which is live.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const family).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
