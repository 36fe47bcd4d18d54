//! A byte stream over a region, with a doorbell: an [`Endpoint`], what wakes it and its
//! peer, and a policy of waiting.

mod event_loop;
mod frames;
mod in_place;
mod splice;
mod waiting;

use super::doorbell::Heard;
use super::endpoint::{Endpoint, Refusal};
use super::fork::NotInherited;
use super::notifier::{EventDoorbells, Notifier};
use super::sys::monotonic_ns;
use super::wait::{PublishedCpu, SpinPolicy};
use crate::{Consumer, Corrupt, Interest, Positions, Producer};
use frames::Frames;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
pub(super) use waiting::time_left;

/// A connected byte stream through shared memory.
///
/// It behaves as a stream socket does: [`Read`](io::Read) and [`Write`](io::Write) wait, up to a
/// timeout or deadline if one is set; `try_read` and `try_write` never do.
///
/// What wakes it is a socket ([`Channel::new`]), whose end is the end of the peer,
/// or a pair of eventfds ([`Channel::with_events`]), beside which something else
/// tells of that. Either way the end is noticed after the bytes that the peer
/// published before. An event loop sleeps in a channel's place: [`Channel::park`].
///
/// A channel is not inherited over `fork`: in a child every operation fails with
/// `BrokenPipe`, and the parent's channel goes on unharmed.
///
/// A socket's receive timeout (`SO_RCVTIMEO`) is set by the channel. One in
/// non-blocking mode works as well, for a system call or two more each sleep.
#[derive(Debug)]
pub struct Channel {
    endpoint: NotInherited<Endpoint>,
    notifier: Notifier,
    policy: SpinPolicy,
    cpu: PublishedCpu,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    /// Nothing more is written.
    finished: bool,
    stats: ChannelStats,
    frames: Frames,
}

/// What a [`Channel`] has done since it was made. Exact, and kept in its own
/// memory: nothing is shared with the peer or with other threads for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Bytes read.
    pub bytes_received: u64,
    /// Bytes written.
    pub bytes_sent: u64,
    /// Reads that returned at least a byte.
    pub reads: u64,
    /// Writes that took at least a byte, each of them published.
    pub writes: u64,
    /// Times that the channel slept in the kernel, or was announced as asleep by
    /// [`Channel::park`].
    pub parks: u64,
    /// Doorbells sent to a sleeping peer.
    pub doorbells_sent: u64,
    /// Doorbells received.
    pub doorbells_received: u64,
    /// Spins that ended with what was waited for.
    pub spins_won: u64,
    /// Spins that ended with nothing.
    pub spins_lost: u64,
}

impl Channel {
    /// A channel over `endpoint` whose doorbell is the connected `socket`.
    #[must_use]
    pub fn new(endpoint: Endpoint, socket: OwnedFd) -> Self {
        Self::over(endpoint, Notifier::socket(socket))
    }

    /// A channel over `endpoint` that is woken by eventfds.
    ///
    /// # Examples
    ///
    /// Two threads stand for two processes.
    ///
    /// ```
    /// use shm_fifo::{Channel, Region, doorbell::EventDoorbells};
    /// use std::io::{Read, Write};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let created = Region::create(4096)?;
    /// let attached = Region::attach(created.fd()?)?;
    /// let [here, there] = EventDoorbells::pair()?;
    /// let mut writer = Channel::with_events(created.into_endpoint(), here);
    /// let mut reader = Channel::with_events(attached.into_endpoint(), there);
    ///
    /// let writing = std::thread::spawn(move || writer.write_all(b"no socket needed"));
    /// let mut message = String::new();
    /// reader.read_to_string(&mut message)?;
    /// assert_eq!(message, "no socket needed");
    /// writing.join().expect("the writer ended")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_events(endpoint: Endpoint, events: EventDoorbells) -> Self {
        Self::over(endpoint, Notifier::Events(events))
    }

    fn over(endpoint: Endpoint, notifier: Notifier) -> Self {
        let made_by = endpoint.mapping.mapped_by();
        let endpoint = NotInherited::new(endpoint, made_by);
        // Where the handshake announced this side as asleep, it is awake now.
        if let Some(endpoint) = endpoint.get() {
            endpoint.consumer.watch().unpark();
        }
        Self {
            endpoint,
            notifier,
            policy: SpinPolicy::default(),
            cpu: PublishedCpu::default(),
            timeout: None,
            deadline: None,
            finished: false,
            stats: ChannelStats::default(),
            frames: Frames::new(),
        }
    }

    /// Replaces the waiting policy.
    pub fn set_policy(&mut self, policy: SpinPolicy) {
        self.policy = policy;
    }

    /// How long [`Read`](io::Read) and [`Write`](io::Write) wait before they fail with `TimedOut`;
    /// `None`, the default, is for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// When [`Read`](io::Read) and [`Write`](io::Write) fail with `TimedOut`, whatever their timeout:
    /// for exchanges of several calls that are to end by one moment. `None`, the
    /// default, is never.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Reads what there is. `Ok(0)` is the end of the stream (or an empty
    /// `target`).
    ///
    /// A peer that was killed could not announce its end; [`Channel::wait`] and
    /// [`Channel::listen`] hear of it, by the doorbell.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing yet; `InvalidData` if the peer broke the
    /// protocol, for ever after.
    pub fn try_read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.try_read_by(!target.is_empty(), |consumer, _| consumer.read(target))
    }

    /// As [`Channel::try_read`], into `targets` one after the other.
    ///
    /// # Errors
    /// As [`Channel::try_read`].
    pub fn try_read_vectored(&mut self, targets: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let wanted = targets.iter().any(|target| !target.is_empty());
        self.try_read_by(wanted, |consumer, _| consumer.read_vectored(targets))
    }

    /// Writes what there is space for and shows it to the peer.
    ///
    /// # Errors
    /// `WouldBlock` if there is no space; `BrokenPipe` if the peer has ended;
    /// `InvalidData` if it broke the protocol.
    pub fn try_write(&mut self, source: &[u8]) -> io::Result<usize> {
        self.try_write_by(!source.is_empty(), |producer, _| producer.write(source))
    }

    /// As [`Channel::try_write`], of all `sources` one behind the other: they are
    /// shown to the peer together, by one doorbell at most.
    ///
    /// # Errors
    /// As [`Channel::try_write`].
    pub fn try_write_vectored(&mut self, sources: &[IoSlice<'_>]) -> io::Result<usize> {
        let wanted = sources.iter().any(|source| !source.is_empty());
        self.try_write_by(wanted, |producer, _| producer.write_vectored(sources))
    }

    /// Ends what this side writes: the peer reads what is on its way, and then the end.
    /// Reading goes on, as behind a socket's `shutdown(SHUT_WR)`; writing fails with
    /// `BrokenPipe`.
    pub fn finish(&mut self) {
        let Ok(endpoint) = own(&mut self.endpoint) else { return };
        self.finished = true;
        endpoint.producer.close();
        if endpoint.producer.needs_notify() {
            self.notify();
        }
    }

    /// Whether what `interest` names is there, without waiting. The end of the
    /// peer counts as both.
    #[must_use]
    pub fn is_ready(&self, interest: Interest) -> bool {
        self.endpoint.get().is_none_or(|endpoint| endpoint.is_ready(interest))
    }

    /// Bytes to read, by what the peer says: a hint, at most a ring.
    #[cfg(feature = "tokio")]
    pub(crate) fn unread_bytes(&self) -> usize {
        self.endpoint.get().map_or(0, |endpoint| {
            let unread = endpoint.watch().published().wrapping_sub(endpoint.consumer.position());
            usize::try_from(unread).map_or(0, |unread| unread.min(endpoint.consumer.capacity()))
        })
    }

    /// What this end has done since it was made.
    #[must_use]
    pub fn stats(&self) -> ChannelStats {
        let Positions { head, tail } = self.endpoint.even_if_inherited().positions();
        ChannelStats { bytes_received: head, bytes_sent: tail, ..self.stats }
    }

    fn try_read_by(
        &mut self,
        wanted: bool,
        mut take: impl FnMut(&mut Consumer<'static>, &mut Frames) -> Result<usize, Corrupt>,
    ) -> io::Result<usize> {
        let Endpoint { peer, consumer, wanted: to_wait_for, .. } = own(&mut self.endpoint)?;
        let frames = &mut self.frames;
        match peer.read(consumer, wanted, |consumer| take(consumer, frames)) {
            Ok(read) => {
                self.stats.reads += u64::from(read > 0);
                if consumer.needs_notify() {
                    self.notify();
                }
                Ok(read)
            }
            Err(refusal) => {
                to_wait_for.bytes = 1;
                Err(self.refused(refusal))
            }
        }
    }

    fn try_write_by(
        &mut self,
        wanted: bool,
        put: impl FnOnce(&mut Producer<'static>, &mut Frames) -> Result<usize, Corrupt>,
    ) -> io::Result<usize> {
        let endpoint = own(&mut self.endpoint)?;
        let nobody_reads = endpoint.watch().peer_has_closed() && !endpoint.peer.is_broken();
        if nobody_reads || self.finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let frames = &mut self.frames;
        let put = |producer: &mut Producer<'static>| put(producer, frames);
        match endpoint.peer.write(&mut endpoint.producer, wanted, put) {
            Ok(0) => Ok(0),
            Ok(written) => {
                self.stats.writes += 1;
                if endpoint.producer.needs_notify() {
                    self.notify();
                }
                Ok(written)
            }
            Err(refusal) => {
                endpoint.wanted.space_bytes = None;
                Err(self.refused(refusal))
            }
        }
    }

    fn notify(&mut self) {
        self.stats.doorbells_sent += u64::from(self.notifier.ring());
    }

    fn note(&mut self, heard: Heard) {
        let Some(endpoint) = self.endpoint.get() else { return };
        if let Heard::Rung(count) = heard {
            // Of an eventfd the peer may have made any number.
            let received = self.stats.doorbells_received;
            self.stats.doorbells_received = received.saturating_add(count as u64);
            self.policy.woken(monotonic_ns());
        }
        if endpoint.peer.note(heard) {
            self.end();
        }
    }

    #[cold]
    fn refused(&self, refusal: Refusal) -> io::Error {
        match refusal {
            Refusal::NotYet => io::ErrorKind::WouldBlock.into(),
            Refusal::NobodyReads => io::ErrorKind::BrokenPipe.into(),
            Refusal::Broken(None) => {
                let message = "the peer broke the shared memory protocol";
                io::Error::new(io::ErrorKind::InvalidData, message)
            }
            Refusal::Broken(Some(corrupt)) => {
                // It is told that this is the end.
                self.end();
                io::Error::new(io::ErrorKind::InvalidData, corrupt)
            }
        }
    }

    /// Ends both directions; in a forked child, which has a copy only, nothing.
    fn end(&self) {
        if let Some(endpoint) = self.endpoint.get() {
            endpoint.close();
            self.notifier.end();
        }
    }
}

/// The endpoint, unless this process has inherited it.
fn own(endpoint: &mut NotInherited<Endpoint>) -> io::Result<&mut Endpoint> {
    endpoint.get_mut().ok_or_else(|| {
        let message = "the channel belongs to the process that forked this one";
        io::Error::new(io::ErrorKind::BrokenPipe, message)
    })
}

impl AsFd for Channel {
    /// The doorbell: the socket, or the eventfd that wakes this end. It stays the
    /// channel's.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifier.as_fd()
    }
}

impl AsRawFd for Channel {
    /// As [`AsFd`].
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.end();
    }
}

impl Channel {
    /// Two connected channels within this process, for tests and examples.
    ///
    /// # Errors
    /// If the region or the socket pair cannot be made.
    pub fn pair(ring_bytes: usize) -> io::Result<(Self, Self)> {
        let created = crate::Region::create(ring_bytes)?;
        let attached = crate::Region::attach(created.fd()?)?;
        let (one, other) = UnixStream::pair()?;
        Ok((
            Self::new(created.into_endpoint(), one.into()),
            Self::new(attached.into_endpoint(), other.into()),
        ))
    }
}
