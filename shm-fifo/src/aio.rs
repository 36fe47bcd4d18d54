//! Channels for asynchronous tasks, whatever the runtime.
//!
//! [`AsyncChannel`] has the `poll_*` functions of a byte stream. What it needs of a runtime
//! is a [`Reactor`]: to hear when one file descriptor becomes readable, and to let other
//! tasks run. Over these it is
//!
//! * `tokio`'s `AsyncRead + AsyncWrite`, with the feature `tokio`: [`AsyncChannel::tokio`];
//! * `futures-io`'s, with the feature `futures-io`, for smol and others: a closure is its
//!   reactor, as in the example there.
//!
//! A server accepts on the runtime's own listener and calls [`Channel::offer`] with each socket. The
//! crate's README has one on tokio.
//!
//! # Waiting
//!
//! A task that waits spins first, where the channel's [`SpinPolicy`] says that this pays, and
//! only then sleeps until the doorbell rings. It cedes meanwhile: a poll spins for
//! [`SLICE`] at most, and between two such slices the other tasks that are ready run, and the
//! runtime hears of what became ready. Where they take longer than that, the thread has better
//! to do, and the spin ends. `set_policy(SpinPolicy::new(WaitMode::Park, 0))` turns it off.
//!
//! # Cancellation
//!
//! A read or write that is dropped before it is done loses nothing: no byte was taken, none
//! was sent.

mod sleepers;

#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "tokio")]
mod tokio;

#[cfg(feature = "tokio")]
pub use self::tokio::Tokio;

use crate::channel::SpinEnd;
use crate::os::sys::monotonic_ns;
use crate::{Channel, Interest, SpinPolicy};
use sleepers::Sleepers;
use std::cell::Cell;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long one poll of a task spins at most.
pub const SLICE: Duration = Duration::from_nanos(SLICE_NS);

const SLICE_NS: u64 = 4_000;

/// How often one poll looks again before it lets other tasks run. A peer that
/// changes its words all the time could otherwise keep it for ever.
const ROUNDS: usize = 8;

/// What an [`AsyncChannel`] needs of the runtime.
///
/// A closure is one: it is [`Reactor::poll_readable`].
pub trait Reactor {
    /// `Ready` once the channel's descriptor ([`AsFd`](std::os::fd::AsFd)) may have become
    /// readable since the last time that this was `Ready`; all there is is read then before
    /// it is asked again. So is [`Channel::life_fd`], if there is one. On `Pending` the
    /// context's waker is woken when that may be so.
    ///
    /// # Errors
    /// If the runtime watches nothing any more.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Wakes `waker` once other tasks that are ready have run.
    fn cede(&mut self, waker: &Waker) {
        waker.wake_by_ref();
    }
}

impl<F> Reactor for F
where
    F: FnMut(&mut Context<'_>) -> Poll<io::Result<()>>,
{
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self(context)
    }
}

/// A [`Channel`] for asynchronous tasks; see the [module](self).
///
/// One task may read while another one writes: `tokio::io::split` and its like work.
pub struct AsyncChannel<R> {
    // First, so that it lets go of the descriptor before the channel closes that.
    reactor: R,
    channel: Channel,
    sleepers: Arc<Sleepers>,
    /// Wakes the sleepers.
    waker: Waker,
    /// The doorbells that the reactor told of were not all taken.
    unheard: bool,
    exchange: Exchange,
    reading: Option<Spin>,
    writing: Option<Spin>,
}

thread_local! {
    /// Whether other tasks of this thread may wait: the last slice was used up, or what ran
    /// between two of them took longer than one.
    static CROWDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether something to read may be near, and worth spinning for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exchange {
    /// Nothing was ever sent: what comes is unasked for.
    Unasked,
    /// Something was sent, and nothing received since.
    Asked,
    /// The task that is to ask next, or somebody else, has its turn now.
    Answered,
}

/// A spin in slices, between two of them.
#[derive(Debug, Clone, Copy)]
struct Spin {
    started_ns: u64,
    ceded_ns: u64,
}

/// What a poll does that has found nothing.
enum Then {
    LookAgain,
    Cede,
    Sleep,
}

impl<R: Reactor> AsyncChannel<R> {
    /// A channel that `reactor` tells when to look.
    ///
    /// A socket that is the doorbell may be in non-blocking mode: nothing here waits for it.
    #[must_use]
    pub fn new(channel: Channel, reactor: R) -> Self {
        let sleepers = Arc::new(Sleepers::default());
        let waker = Waker::from(Arc::clone(&sleepers));
        Self {
            reactor,
            channel,
            sleepers,
            waker,
            unheard: false,
            exchange: Exchange::Unasked,
            reading: None,
            writing: None,
        }
    }

    /// The channel, which no runtime watches any more.
    #[must_use]
    pub fn into_channel(self) -> Channel {
        self.channel
    }

    /// The channel, to look at.
    #[must_use]
    pub fn get_ref(&self) -> &Channel {
        &self.channel
    }

    /// Replaces the waiting policy.
    pub fn set_policy(&mut self, policy: SpinPolicy) {
        self.channel.set_policy(policy);
    }

    /// Reads what there is. `Ok(0)` is the end of the stream (or an empty `target`).
    ///
    /// # Errors
    /// `InvalidData` if the peer broke the protocol; what the reactor says.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        target: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_by(context, |channel| channel.try_read(target))
    }

    /// As [`AsyncChannel::poll_read`], into `targets` one after the other.
    ///
    /// # Errors
    /// As [`AsyncChannel::poll_read`].
    pub fn poll_read_vectored(
        &mut self,
        context: &mut Context<'_>,
        targets: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_by(context, |channel| channel.try_read_vectored(targets))
    }

    /// Writes what there is space for and shows it to the peer.
    ///
    /// # Errors
    /// `BrokenPipe` if the peer has ended, or this end has shut down; `InvalidData` if the
    /// peer broke the protocol; what the reactor says.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        source: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_by(context, |channel| channel.try_write(source))
    }

    /// As [`AsyncChannel::poll_write`], of all `sources` one behind the other.
    ///
    /// # Errors
    /// As [`AsyncChannel::poll_write`].
    pub fn poll_write_vectored(
        &mut self,
        context: &mut Context<'_>,
        sources: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_by(context, |channel| channel.try_write_vectored(sources))
    }

    /// Does nothing: every write is shown to the peer at once.
    ///
    /// # Errors
    /// None.
    pub fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends what this side writes, by [`Channel::finish`]; reading goes on.
    ///
    /// # Errors
    /// None.
    pub fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.channel.finish();
        Poll::Ready(Ok(()))
    }

    fn poll_read_by(
        &mut self,
        context: &mut Context<'_>,
        attempt: impl FnMut(&mut Channel) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let read = self.poll(context, Interest::READABLE, attempt);
        if read.is_ready() && self.exchange == Exchange::Asked {
            self.exchange = Exchange::Answered;
        }
        read
    }

    fn poll_write_by(
        &mut self,
        context: &mut Context<'_>,
        attempt: impl FnMut(&mut Channel) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let reader = self.keep_reader_awake();
        let written = self.poll(context, Interest::WRITABLE, attempt);
        if written.is_ready() {
            self.exchange = Exchange::Asked;
        }
        if let Some(reader) = reader {
            reader.wake();
        }
        written
    }

    /// Takes back that a reader sleeps, before the peer sees what would make it ring, if
    /// spinning for the answer may pay. The reader is to look again then, and to spin: many
    /// tasks begin to read before they write, and then wait.
    fn keep_reader_awake(&mut self) -> Option<Waker> {
        if !self.channel.may_spin() {
            return None;
        }
        let reader = self.sleepers.of(Interest::READABLE).take()?;
        self.channel.unpark(Interest::READABLE);
        Some(reader)
    }

    /// Repeats `attempt` until it has something to say, or it will be polled again when it
    /// may have: it cedes to other tasks, or the doorbell will ring.
    ///
    /// A poll that is never repeated leaves an announcement behind, which costs the
    /// peer one doorbell: giving up is always safe.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        interest: Interest,
        mut attempt: impl FnMut(&mut Channel) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if self.sleepers.of(interest).take().is_some() {
            self.channel.unpark(interest);
        }
        let mut resumed = self.resume(interest);
        for round in 0..ROUNDS {
            match attempt(&mut self.channel) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    // It may be the other direction's end as well, and no doorbell says so.
                    self.waker.wake_by_ref();
                    return Poll::Ready(Err(error));
                }
                done => return Poll::Ready(done),
            }
            let then = if round == 0 { self.spin(interest, resumed.take()) } else { Then::Sleep };
            match then {
                Then::LookAgain => continue,
                Then::Cede => break,
                Then::Sleep => {}
            }
            // First the runtime watches, then the peer is told to ring.
            self.sleepers.of(interest).set(context.waker());
            if self.poll_doorbell()?.is_pending() && self.channel.park(interest) {
                return Poll::Pending;
            }
        }
        self.reactor.cede(context.waker());
        Poll::Pending
    }

    /// Goes back to a spin that has ceded, having seen how long the others took.
    fn resume(&mut self, interest: Interest) -> Option<Spin> {
        let spin = self.ceded(interest).take()?;
        CROWDED.set(monotonic_ns() - spin.ceded_ns > SLICE_NS);
        Some(spin)
    }

    /// Spins for a slice, if the policy says so and others do not need the thread.
    fn spin(&mut self, interest: Interest, resumed: Option<Spin>) -> Then {
        let is_near = interest.writable || self.exchange != Exchange::Answered;
        if !is_near || !self.channel.may_spin() {
            return Then::Sleep;
        }
        let now_ns = monotonic_ns();
        let spin = match resumed {
            Some(_) if CROWDED.get() => return Then::Sleep,
            Some(spin) => spin,
            None => Spin { started_ns: now_ns, ceded_ns: now_ns },
        };
        if !CROWDED.get() {
            // What the others took is a part of the slice: of several that spin on one thread
            // one has what is left, and the others sleep.
            let slice_ns = [now_ns, spin.ceded_ns + SLICE_NS];
            match self.channel.spin_slice(interest, spin.started_ns, slice_ns) {
                SpinEnd::Won => return Then::LookAgain,
                SpinEnd::Interrupted => CROWDED.set(true),
                SpinEnd::Expired | SpinEnd::Preempted => return Then::Sleep,
            }
        }
        *self.ceded(interest) = Some(Spin { ceded_ns: monotonic_ns(), ..spin });
        Then::Cede
    }

    fn ceded(&mut self, interest: Interest) -> &mut Option<Spin> {
        if interest.readable { &mut self.reading } else { &mut self.writing }
    }

    /// Takes pending doorbells. If there are none, the sleepers are woken when one comes.
    fn poll_doorbell(&mut self) -> io::Result<Poll<()>> {
        if !self.unheard {
            let mut context = Context::from_waker(&self.waker);
            match self.reactor.poll_readable(&mut context) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(heard) => heard?,
            }
        }
        self.unheard = self.channel.listen();
        Ok(Poll::Ready(()))
    }
}

impl<R> fmt::Debug for AsyncChannel<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncChannel").field("channel", &self.channel).finish_non_exhaustive()
    }
}
