//! How two processes that have a socket between them come to share a region: one offers it,
//! the other opens what it was offered. `docs/layout.md` has the message.

use super::channel::Channel;
use super::fd_passing::{recv_with_fd, send_with_fd};
use super::sys;
use crate::Region;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What comes with the region's file descriptor: a name, and a version of this message.
const OFFER: [u8; 8] = *b"SHMFIFO\x01";

/// How long an offer is waited for, unless the caller says.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Two processes.
impl Channel {
    /// A channel over the connected unix stream `socket`, whose region, with two rings of
    /// `ring_bytes` bytes, is offered to the process behind it: that calls [`Channel::open`].
    /// Nothing was received from `socket` or sent on it before; the channel has it from now
    /// on. It never waits: the peer may come later, or never.
    ///
    /// [`Listener`](crate::Listener) does this with each client. Do it yourself to look at a
    /// client first, where any user may connect: a region that a client does not open counts
    /// among the descriptors that this process's user may have under way (`RLIMIT_NOFILE`),
    /// as long as the client lives.
    ///
    /// # Errors
    /// `InvalidInput` if no ring can have that size; `BrokenPipe` or `ConnectionReset` if the
    /// peer is gone; otherwise what the kernel says.
    pub fn offer(socket: impl Into<OwnedFd>, ring_bytes: usize) -> io::Result<Self> {
        let socket = socket.into();
        let region = Region::create(ring_bytes)?;
        if send_with_fd(&socket, &OFFER, region.as_fd())? != OFFER.len() {
            return Err(ErrorKind::WriteZero.into());
        }
        Ok(Self::new(region.into_endpoint(), socket))
    }

    /// A channel over the region that is offered on `socket`, by [`Channel::offer`] or
    /// [`Channel::for_child`]. It waits five seconds for that.
    ///
    /// # Errors
    /// `TimedOut` if nothing is offered; `UnexpectedEof` if the peer ended instead;
    /// `InvalidData` if it offers anything but a region, of which nothing is believed;
    /// otherwise what the kernel says: no memory, or a file that may not be written.
    pub fn open(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        Self::open_until(socket.into(), Instant::now().checked_add(PATIENCE))
    }

    pub(super) fn open_until(socket: OwnedFd, deadline: Option<Instant>) -> io::Result<Self> {
        let region = Region::attach(receive_offer(&socket, deadline)?)?;
        Ok(Self::new(region.into_endpoint(), socket))
    }

    /// A channel, and a descriptor that a child opens for the other end of it
    /// ([`Channel::open`]): the region travels inside.
    ///
    /// A child that was forked inherits neither the parent's mappings nor its channel, but it
    /// does inherit the descriptor, and opens it as one that was executed does. It is
    /// close-on-exec, and meant to be the child's standard input, or any other of its
    /// descriptors.
    ///
    /// Give it away: as long as this process has a copy, the child's end is not heard of. (A
    /// [`Command`](std::process::Command) keeps its copy until it is dropped.) Likewise a
    /// forked child drops its copy of the channel.
    ///
    /// # Errors
    /// As [`Channel::offer`].
    ///
    /// # Examples
    ///
    /// ```
    /// use shm_fifo::Channel;
    /// use std::os::fd::AsFd;
    /// use std::process::Command;
    ///
    /// fn parent() -> std::io::Result<()> {
    ///     let (mut channel, childs) = Channel::for_child(64 * 1024)?;
    ///     let mut child = Command::new("worker").stdin(childs).spawn()?;
    ///     channel.send(b"a task")?;
    ///     drop(channel);
    ///     child.wait().map(drop)
    /// }
    ///
    /// fn worker() -> std::io::Result<()> {
    ///     let mut channel = Channel::open(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    ///     let mut task = Vec::new();
    ///     while channel.recv_into(&mut task)?.is_some() {
    ///         println!("{task:?}");
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn for_child(ring_bytes: usize) -> io::Result<(Self, OwnedFd)> {
        let (own, childs) = UnixStream::pair()?;
        Ok((Self::offer(own, ring_bytes)?, childs.into()))
    }
}

/// Waits for an offer on `socket` and returns the descriptor that came with it.
fn receive_offer(socket: &OwnedFd, deadline: Option<Instant>) -> io::Result<OwnedFd> {
    let mut message = [0; OFFER.len()];
    loop {
        wait_readable(socket, deadline)?;
        // Never more than the message: doorbells may follow it.
        match recv_with_fd(socket, &mut message, libc::MSG_DONTWAIT) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok((0, _)) => {
                let message = "the peer ended before it offered shared memory";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, message));
            }
            Ok((length, Some(fd))) if message[..length] == OFFER => return Ok(fd),
            Ok(_) => {
                let message = "the peer offers something else than an shm-fifo region";
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
            Err(error) => return Err(error),
        }
    }
}

fn wait_readable(socket: &OwnedFd, deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match sys::poll_readable([socket.as_raw_fd()], left) {
            Ok([true]) => return Ok(()),
            Ok([false]) => {
                let message = "the peer did not offer shared memory in time";
                return Err(io::Error::new(ErrorKind::TimedOut, message));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
