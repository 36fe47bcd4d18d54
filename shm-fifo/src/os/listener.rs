//! A place where clients find a server, and come to share memory with it.

mod place;

use super::channel::Channel;
use super::sys;
use place::Place;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Clients that were gone already, after which one look ends. A peer that floods it is not
/// listened to for longer.
const LOOKS: usize = 16;

/// Listens on a unix socket and makes a [`Channel`] with each client that
/// [connects](crate::connect).
///
/// It believes nothing that a client says and waits for none: a client hears an offer of
/// memory and takes it, or not. What a client does later is its own channel's matter.
///
/// # Examples
///
/// ```no_run
/// let listener = shm_fifo::Listener::bind("/run/echo.sock")?;
/// loop {
///     let mut channel = listener.accept()?;
///     std::thread::spawn(move || -> std::io::Result<()> {
///         let mut request = Vec::new();
///         while channel.recv_into(&mut request)?.is_some() {
///             channel.send(&request)?;
///         }
///         Ok(())
///     });
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    ring_bytes: usize,
    /// The path that is removed when nobody listens any more.
    _place: Option<Place>,
}

impl Listener {
    /// Bytes of each ring, unless [`Listener::set_ring_bytes`] says.
    pub const DEFAULT_RING_BYTES: usize = 64 * 1024;

    /// Listens at `path`, for clients of the same user.
    ///
    /// A socket that is left there from a server that was killed is replaced; one on which
    /// somebody listens is not, nor any other file. When the listener is dropped the path is
    /// removed. Beside it lies `path.lock` meanwhile, which keeps two servers from taking
    /// each other's place.
    ///
    /// # Errors
    /// `AddrInUse` if somebody listens there; `AlreadyExists` if there is another file;
    /// otherwise what the kernel says: the path is too long (108 bytes), no permission.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::bind_with_mode(path, 0o600)
    }

    /// As [`Listener::bind`], for all whom the permissions `mode` let write: `0o660` for a
    /// group, `0o666` for everybody. The process's umask makes no difference.
    /// [`Channel::peer_credentials`] tells who came.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub fn bind_with_mode(path: impl AsRef<Path>, mode: u32) -> io::Result<Self> {
        let path = path.as_ref();
        let (socket, place) = Place::bind(path, mode).map_err(|error| at(path, error))?;
        Ok(Self { _place: Some(place), ..Self::from_socket(socket.into())? })
    }

    /// Listens on `socket`, which somebody else has bound: a service manager, or you, to an
    /// abstract address. Its path stays when the listener is dropped. From here on it is in
    /// non-blocking mode.
    ///
    /// # Errors
    /// If its mode cannot be set.
    pub fn from_socket(socket: UnixListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, ring_bytes: Self::DEFAULT_RING_BYTES, _place: None })
    }

    /// Sets how many bytes each of a channel's two rings has, for clients that come later. A
    /// size that [none can have](crate::region::RING_BYTES_RANGE) makes
    /// [`Listener::accept`] fail.
    pub fn set_ring_bytes(&mut self, ring_bytes: usize) {
        self.ring_bytes = ring_bytes;
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// What the kernel says: no file descriptors, no memory. The listener is as before, and
    /// the client is gone, or, without a descriptor for it, still waits. Where any user may
    /// connect, a client can bring this about by many connections on which it takes nothing
    /// ([`Channel::offer`]): a server goes on, when another one has gone or after a while.
    pub fn accept(&self) -> io::Result<Channel> {
        loop {
            match self.try_accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            match sys::poll_readable([self.socket.as_raw_fd()], None) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    /// As [`Listener::accept`], without waiting: for event loops, which watch the listener
    /// ([`AsFd`]) for reading.
    ///
    /// # Errors
    /// `WouldBlock` if there is no client; otherwise as [`Listener::accept`].
    pub fn try_accept(&self) -> io::Result<Channel> {
        for _ in 0..LOOKS {
            let (socket, _) = self.socket.accept()?;
            match Channel::offer(socket, self.ring_bytes) {
                Err(error) if is_gone(error.kind()) => {}
                result => return result,
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }
}

/// What the kernel says of `path`, with its name; our own words have it.
fn at(path: &Path, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(_) => io::Error::new(error.kind(), format!("{}: {error}", path.display())),
        None => error,
    }
}

/// Whether that is what a client leaves that did not wait.
fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected)
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
