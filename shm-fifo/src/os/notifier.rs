//! How an end is woken and wakes its peer: by a socket, or by a pair of eventfds.

use super::doorbell::{self, Heard};
use super::sys;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Doorbells by eventfd, one in each direction, for ends that have no socket
/// between them.
///
/// An eventfd has no end: the kernel says nothing when the process that had it is
/// gone. `life` does. It is any descriptor that becomes readable, or hangs up, when
/// the peer ends:
///
/// * a pidfd of the peer (`pidfd_open(2)`): heard when that process ends, whatever
///   its children inherited; it says nothing of a peer that only drops its end,
///   but a dropped [`Channel`](crate::Channel) says so itself, by its words and a
///   doorbell;
/// * one end of a socket pair or pipe whose other end the peer holds: heard when
///   the last copy of that is closed, so not while a forked child of the peer
///   lives that inherited one.
///
/// A sleep costs two system calls instead of one: it waits for two descriptors.
///
/// Unlike a socket, an eventfd is one object for both: a peer that does not play by
/// the rules can take doorbells away, which costs it its own answers, and can make
/// the descriptor blocking and its counter full, which makes [`Channel`](crate::Channel)
/// wait in a write until that is undone. Give eventfds to peers that may fail, and
/// a socket to those that may attack.
#[derive(Debug)]
pub struct EventDoorbells {
    /// Wakes this end: the peer's [`EventDoorbells::peer`].
    pub own: OwnedFd,
    /// Wakes the peer.
    pub peer: OwnedFd,
    /// Tells that the peer has ended.
    pub life: OwnedFd,
}

/// What a [`Channel`](crate::Channel) sleeps on.
#[derive(Debug)]
pub(crate) enum Notifier {
    Socket {
        socket: OwnedFd,
        /// The value of `SO_RCVTIMEO` on it.
        timeout: Option<Duration>,
    },
    Events(EventDoorbells),
}

impl Notifier {
    pub(crate) fn socket(socket: OwnedFd) -> Self {
        Self::Socket { socket, timeout: None }
    }

    /// Rings the peer. Returns whether that was one doorbell more.
    pub(crate) fn ring(&self) -> bool {
        match self {
            Self::Socket { socket, .. } => doorbell::ring(socket.as_raw_fd()),
            Self::Events(events) => sys::signal_eventfd(events.peer.as_raw_fd()),
        }
    }

    /// Tells the peer that this end is done for, whatever its ring says.
    pub(crate) fn end(&self) {
        match self {
            // Whoever sleeps on the socket's other end wakes by its end, even where
            // a forked child still holds a copy of it.
            Self::Socket { socket, .. } => sys::shutdown(socket.as_raw_fd()),
            // It looks at the closed words.
            Self::Events(_) => drop(self.ring()),
        }
    }

    /// Takes pending doorbells, without waiting.
    pub(crate) fn listen(&self) -> Heard {
        match self {
            Self::Socket { socket, .. } => doorbell::listen(socket.as_raw_fd()),
            Self::Events(events) => events.wait(Some(Duration::ZERO)),
        }
    }

    /// Waits for a doorbell, at most for `timeout`, and takes the pending ones.
    /// `Nothing` is a timeout or a signal.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Heard> {
        match self {
            Self::Socket { socket, timeout: set } => {
                set_socket_timeout(socket.as_raw_fd(), set, timeout)?;
                let heard = doorbell::wait(socket.as_raw_fd());
                if heard == Heard::Nothing && sys::is_nonblocking(socket.as_raw_fd()) {
                    return Ok(wait_on_nonblocking(socket.as_raw_fd(), timeout));
                }
                Ok(heard)
            }
            Self::Events(events) => Ok(events.wait(timeout)),
        }
    }

    /// What becomes readable when the peer rings.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket { socket, .. } => socket.as_fd(),
            Self::Events(events) => events.own.as_fd(),
        }
    }

    /// What becomes readable when the peer ends, if it is something else.
    pub(crate) fn life_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Socket { .. } => None,
            Self::Events(events) => Some(events.life.as_fd()),
        }
    }
}

impl EventDoorbells {
    /// The doorbells of two ends, with a socket pair for their lives. One of them is
    /// usually for another process, and must not stay open in this one. All
    /// descriptors are close-on-exec.
    ///
    /// # Errors
    /// If no file descriptor is free.
    pub fn pair() -> io::Result<[Self; 2]> {
        let [one, other] = [sys::eventfd()?, sys::eventfd()?];
        let (life, others_life) = UnixStream::pair()?;
        Ok([
            Self { own: one.try_clone()?, peer: other.try_clone()?, life: life.into() },
            Self { own: other, peer: one, life: others_life.into() },
        ])
    }

    /// As [`Notifier::wait`].
    fn wait(&self, timeout: Option<Duration>) -> Heard {
        let fds = [self.own.as_raw_fd(), self.life.as_raw_fd()];
        match sys::poll_readable(fds, timeout) {
            // Both may be: what was published is read before the end, at any rate.
            Ok([_, true]) => Heard::End,
            Ok([true, _]) => match sys::take_eventfd(self.own.as_raw_fd()) {
                0 => Heard::Nothing,
                count => Heard::Rung(usize::try_from(count).unwrap_or(usize::MAX)),
            },
            Ok(_) => Heard::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Heard::Nothing,
            Err(_) => Heard::End,
        }
    }
}

/// As [`Notifier::wait`] on a socket whose `recv` does not wait.
#[cold]
fn wait_on_nonblocking(socket: RawFd, timeout: Option<Duration>) -> Heard {
    match sys::poll_readable([socket], timeout) {
        Ok(_) => doorbell::listen(socket),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Heard::Nothing,
        Err(_) => Heard::End,
    }
}

/// Lets the next wait on `socket` end after `timeout`.
///
/// Waits with the same timeout differ by less than a millisecond here, so the option
/// is set once, not for each of them.
fn set_socket_timeout(
    socket: RawFd,
    set: &mut Option<Duration>,
    timeout: Option<Duration>,
) -> io::Result<()> {
    let slack = Duration::from_millis(1);
    let fits = match (*set, timeout) {
        (None, None) => true,
        (Some(set), Some(wanted)) => set >= wanted && set - wanted < slack,
        _ => false,
    };
    if !fits {
        // Zero is for ever.
        let value = timeout.map_or(Duration::ZERO, |wanted| wanted.max(Duration::from_micros(1)));
        sys::set_receive_timeout(socket, value)?;
        *set = timeout.map(|_| value);
    }
    Ok(())
}
