//! A connected byte stream, whatever carries it. It knows no commands.

use crate::sys::{self, Waiting};
use shm_fifo::{Channel, Interest, SpinPolicy};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// What carries a [`Stream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// Shared memory, with a socket as doorbell.
    SharedMemory,
    /// A unix socket.
    UnixSocket,
    /// TCP.
    Tcp,
}

impl fmt::Display for Transport {
    /// `shm`, `unix` or `tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SharedMemory => "shm",
            Self::UnixSocket => "unix",
            Self::Tcp => "tcp",
        })
    }
}

/// A connected byte stream over TCP, a unix socket or shared memory.
///
/// [`Read`] and [`Write`] wait, up to [`Stream::set_timeout`]; `try_read` and
/// `try_write` never do, and [`Stream::wait`] waits for both directions at once.
pub struct Stream {
    carrier: Carrier,
    /// Bytes taken off the socket while moving that belong to the reader.
    kept: VecDeque<u8>,
    timeout: Option<Duration>,
}

/// The socket or the channel of a [`Stream`].
pub(crate) enum Carrier {
    Tcp(TcpStream),
    Unix(UnixStream),
    Shared(Box<Channel>),
}

impl From<TcpStream> for Stream {
    /// The socket must be in blocking mode, as a new one is.
    fn from(socket: TcpStream) -> Self {
        Self::over(Carrier::Tcp(socket))
    }
}

impl From<UnixStream> for Stream {
    /// The socket must be in blocking mode, as a new one is.
    fn from(socket: UnixStream) -> Self {
        Self::over(Carrier::Unix(socket))
    }
}

impl From<Channel> for Stream {
    fn from(channel: Channel) -> Self {
        Self::over(Carrier::Shared(Box::new(channel)))
    }
}

impl Stream {
    /// Connects to the unix socket at `path`, within `timeout`.
    ///
    /// # Errors
    /// What `connect(2)` says; `TimedOut` if the server does not accept.
    pub fn connect_unix(path: impl AsRef<Path>, timeout: Option<Duration>) -> io::Result<Self> {
        sys::connect_unix(path.as_ref(), timeout).map(Self::from)
    }

    /// Connects to the first address of `host` that answers, all within
    /// `timeout`, with `TCP_NODELAY` on. Resolving the name is not limited by it.
    ///
    /// # Errors
    /// What the last address said; `NotFound` if there is none.
    pub fn connect_tcp(host: &str, port: u16, timeout: Option<Duration>) -> io::Result<Self> {
        let addresses = (host, port).to_socket_addrs()?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in addresses {
            match connect_to(&address, deadline) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    return Ok(socket.into());
                }
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    fn over(carrier: Carrier) -> Self {
        Self { carrier, kept: VecDeque::new(), timeout: None }
    }

    /// What carries this stream.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self.carrier {
            Carrier::Tcp(_) => Transport::Tcp,
            Carrier::Unix(_) => Transport::UnixSocket,
            Carrier::Shared(_) => Transport::SharedMemory,
        }
    }

    /// How long [`Read`] and [`Write`] wait before they fail with `TimedOut`;
    /// `None`, the default, is for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Replaces the waiting policy. Sockets have none: there it does nothing.
    pub fn set_policy(&mut self, policy: SpinPolicy) {
        if let Carrier::Shared(channel) = &mut self.carrier {
            channel.set_policy(policy);
        }
    }

    /// Reads what there is. `Ok(0)` is the end of the stream (or an empty
    /// `target`).
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing yet; otherwise the stream has failed.
    pub fn try_read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if !self.kept.is_empty() {
            return self.kept.read(target);
        }
        match &mut self.carrier {
            Carrier::Shared(channel) => channel.try_read(target),
            _ => retry(|| sys::receive(self.as_raw_fd(), target, Waiting::Never)),
        }
    }

    /// Writes what there is space for.
    ///
    /// # Errors
    /// `WouldBlock` if there is no space; otherwise the stream has failed.
    pub fn try_write(&mut self, source: &[u8]) -> io::Result<usize> {
        match &mut self.carrier {
            Carrier::Shared(channel) => channel.try_write(source),
            _ => retry(|| sys::send(self.as_raw_fd(), source)),
        }
    }

    /// Waits until what `interest` names is possible, or the stream has ended or
    /// failed, which the next read or write will tell.
    ///
    /// # Errors
    /// `TimedOut` after `deadline`; `InvalidData` if the peer broke the protocol.
    pub fn wait(&mut self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        if interest.readable && !self.kept.is_empty() {
            return Ok(());
        }
        match &mut self.carrier {
            Carrier::Shared(channel) => channel.wait(interest, deadline),
            _ => sys::wait(self.as_raw_fd(), interest, deadline),
        }
    }

    /// Reads what there is, waiting for it until `deadline`. `Ok(0)` is the end
    /// of the stream (or an empty `target`).
    ///
    /// # Errors
    /// `TimedOut` after `deadline`; otherwise the stream has failed.
    pub fn read_until(
        &mut self,
        target: &mut [u8],
        deadline: Option<Instant>,
    ) -> io::Result<usize> {
        if deadline.is_none() && self.kept.is_empty() && !self.is_shared() {
            // One system call instead of three.
            return retry(|| sys::receive(self.as_raw_fd(), target, Waiting::AsLongAsItTakes));
        }
        loop {
            match self.try_read(target) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            self.wait(Interest::READABLE, deadline)?;
        }
    }

    /// Writes what there is space for, waiting for some until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` after `deadline`; otherwise the stream has failed.
    pub fn write_until(&mut self, source: &[u8], deadline: Option<Instant>) -> io::Result<usize> {
        loop {
            match self.try_write(source) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            self.wait(Interest::WRITABLE, deadline)?;
        }
    }

    /// For event loops, as [`Channel::spin`]. Nobody spins for a socket.
    pub fn spin(&mut self, interest: Interest) -> bool {
        match &mut self.carrier {
            Carrier::Shared(channel) => channel.spin(interest),
            _ => false,
        }
    }

    /// For event loops, as [`Channel::listen`]. Sockets have no doorbells.
    pub fn listen(&mut self) -> bool {
        match &mut self.carrier {
            Carrier::Shared(channel) => channel.listen(),
            _ => false,
        }
    }

    /// For event loops, as [`Channel::park`]. Sockets need no announcement: an event
    /// loop is told by the kernel.
    #[must_use = "on false it is there: do not sleep"]
    pub fn park(&mut self, interest: Interest) -> bool {
        if interest.readable && !self.kept.is_empty() {
            return false;
        }
        match &mut self.carrier {
            Carrier::Shared(channel) => channel.park(interest),
            _ => true,
        }
    }

    /// For event loops, as [`Channel::unpark`].
    pub fn unpark(&mut self, interest: Interest) {
        if let Carrier::Shared(channel) = &mut self.carrier {
            channel.unpark(interest);
        }
    }

    /// Takes the bytes that came while this connection moved, for a reader of its
    /// own; otherwise they are the first that are read.
    pub fn take_kept(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept).into()
    }

    /// Ends the stream in both directions: the peer sees its end, and so does
    /// this side.
    pub fn shut_down(&mut self) {
        sys::shut_down(self.as_raw_fd());
    }

    fn is_shared(&self) -> bool {
        matches!(self.carrier, Carrier::Shared(_))
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// The peer's and the own address, over TCP.
    pub(crate) fn tcp_addresses(&self) -> Option<io::Result<(SocketAddr, SocketAddr)>> {
        match &self.carrier {
            Carrier::Tcp(socket) => {
                let own = socket.local_addr();
                Some(socket.peer_addr().and_then(|peer| Ok((peer, own?))))
            }
            _ => None,
        }
    }

    /// Puts bytes that were read behind those kept before: the reader gets them
    /// before anything else.
    pub(crate) fn keep<'b>(&mut self, bytes: impl IntoIterator<Item = &'b u8>) {
        self.kept.extend(bytes);
    }

    /// What was kept, in order.
    pub(crate) fn kept(&self) -> [&[u8]; 2] {
        self.kept.as_slices().into()
    }

    /// The channel, in shared memory.
    pub(crate) fn channel(&mut self) -> Option<&mut Channel> {
        match &mut self.carrier {
            Carrier::Shared(channel) => Some(channel),
            _ => None,
        }
    }

    /// What carries it, and the bytes to be read before any other.
    #[cfg(feature = "tokio")]
    pub(crate) fn into_parts(self) -> (Carrier, VecDeque<u8>) {
        (self.carrier, self.kept)
    }

    /// The same connection, carried by a channel made of its socket.
    pub(crate) fn onto(self, make: impl FnOnce(std::os::fd::OwnedFd) -> Channel) -> Self {
        let carrier = match self.carrier {
            Carrier::Tcp(socket) => Carrier::Shared(Box::new(make(socket.into()))),
            Carrier::Unix(socket) => Carrier::Shared(Box::new(make(socket.into()))),
            shared @ Carrier::Shared(_) => shared,
        };
        Self { carrier, ..self }
    }
}

impl fmt::Debug for Stream {
    /// Without the bytes that were kept: what passes is the user's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("transport", &self.transport())
            .field("fd", &self.as_raw_fd())
            .field("kept_bytes", &self.kept.len())
            .finish_non_exhaustive()
    }
}

impl AsRawFd for Stream {
    /// The socket: in shared memory the one that carries the doorbells.
    fn as_raw_fd(&self) -> RawFd {
        match &self.carrier {
            Carrier::Tcp(socket) => socket.as_raw_fd(),
            Carrier::Unix(socket) => socket.as_raw_fd(),
            Carrier::Shared(channel) => channel.as_raw_fd(),
        }
    }
}

impl AsFd for Stream {
    /// As [`AsRawFd`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.carrier {
            Carrier::Tcp(socket) => socket.as_fd(),
            Carrier::Unix(socket) => socket.as_fd(),
            Carrier::Shared(channel) => channel.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.read_until(target, self.deadline())
    }
}

impl Write for Stream {
    fn write(&mut self, source: &[u8]) -> io::Result<usize> {
        self.write_until(source, self.deadline())
    }

    /// Does nothing: every write is sent at once.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn connect_to(address: &SocketAddr, deadline: Option<Instant>) -> io::Result<TcpStream> {
    let Some(deadline) = deadline else { return TcpStream::connect(address) };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    TcpStream::connect_timeout(address, left)
}

/// Repeats a call that a signal interrupted.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
