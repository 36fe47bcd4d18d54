//! The client's side of a [`Listener`](crate::Listener).

use super::channel::{Channel, time_left};
use super::offer::PATIENCE;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_to};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Connects to the [`Listener`](crate::Listener) at `path`. It waits five seconds for a server
/// that is busy ([`connect_timeout`] for as long as you say).
///
/// The server decides how large the rings are.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` if nobody listens there; `TimedOut`; otherwise as
/// [`Channel::open`].
///
/// # Examples
///
/// ```no_run
/// let mut channel = shm_fifo::connect("/run/echo.sock")?;
/// channel.send(b"hello")?;
/// let mut reply = Vec::new();
/// channel.recv_into(&mut reply)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn connect(path: impl AsRef<Path>) -> io::Result<Channel> {
    connect_timeout(path, PATIENCE)
}

/// As [`connect`], waiting at most for `timeout`, which is not zero.
///
/// # Errors
/// As [`connect`].
pub fn connect_timeout(path: impl AsRef<Path>, timeout: Duration) -> io::Result<Channel> {
    let deadline = Instant::now().checked_add(timeout);
    let address = SocketAddrUnix::new(path.as_ref())?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // A listener whose queue is full makes `connect` wait: as long as a send may.
    set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    loop {
        match connect_to(&socket, &address) {
            Err(Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
            // A signal does not begin the time anew.
            Err(Errno::INTR) => set_socket_timeout(&socket, Timeout::Send, time_left(deadline)?)?,
            result => {
                result?;
                return Channel::open_until(socket, deadline);
            }
        }
    }
}
