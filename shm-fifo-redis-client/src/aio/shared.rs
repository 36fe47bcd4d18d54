//! Shared memory in an event loop: whoever waits is woken by the doorbell.
#![allow(unsafe_code)]

use shm_fifo::{Channel, Interest};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use tokio::io::unix::AsyncFd;
use tokio::task::coop;

/// How often one poll looks again before it lets other tasks run. A peer that
/// changes its words all the time could otherwise keep it for ever.
const ROUNDS: usize = 8;

/// A channel whose doorbell socket a runtime watches.
#[derive(Debug)]
pub(super) struct Shared {
    channel: AsyncFd<Bell>,
    /// Something was sent and nothing received since: an answer may be near, and
    /// worth spinning for. Otherwise spinning would keep the very task from running
    /// that is to ask next.
    expecting: bool,
    sleepers: Arc<Sleepers>,
    /// Wakes the sleepers.
    waker: Waker,
}

/// The channel as what it is to the runtime: a socket.
#[derive(Debug)]
struct Bell(Channel);

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Shared {
    /// # Panics
    /// Outside a runtime, or in one without IO.
    pub(super) fn new(channel: Channel) -> io::Result<Self> {
        let sleepers = Arc::new(Sleepers::default());
        let readable = tokio::io::Interest::READABLE;
        // SAFETY: the channel owns its socket, open until the channel is dropped,
        // and never replaces it; nobody else replaces the channel.
        let channel = unsafe { AsyncFd::register_with_interest(Bell(channel), readable) }?;
        let waker = Waker::from(Arc::clone(&sleepers));
        Ok(Self { channel, expecting: false, sleepers, waker })
    }

    /// The channel, which no runtime watches any more.
    pub(super) fn into_channel(self) -> Channel {
        self.channel.into_inner().0
    }

    pub(super) fn channel(&mut self) -> &mut Channel {
        &mut self.channel.get_mut().0
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        target: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = self.poll(context, Interest::READABLE, |channel| channel.try_read(target));
        self.expecting &= read.is_pending();
        read
    }

    /// Where the connection may spin, this is where it spins for an answer: redis-rs
    /// reads before it writes, and then its task sleeps.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        source: &[u8],
    ) -> Poll<io::Result<usize>> {
        let reader = self.keep_reader_awake();
        let written = self.poll(context, Interest::WRITABLE, |channel| channel.try_write(source));
        self.expecting |= written.is_ready();
        if let Some(reader) = reader {
            self.spin_for(reader);
        }
        written
    }

    /// Takes back that a reader sleeps, before the server sees what would make it
    /// ring, if spinning for the answer may pay.
    fn keep_reader_awake(&mut self) -> Option<Waker> {
        if !self.channel().may_spin() {
            return None;
        }
        let reader = self.sleepers.of(Interest::READABLE).take()?;
        self.channel().unpark(Interest::READABLE);
        Some(reader)
    }

    /// Wakes the reader once there is something, or lets it sleep on.
    fn spin_for(&mut self, reader: Waker) {
        if self.channel().spin(Interest::READABLE) {
            return reader.wake();
        }
        // As in `poll`; an error is for the reader to find.
        self.sleepers.of(Interest::READABLE).set(&reader);
        let is_rung = self.poll_doorbell().unwrap_or(true);
        if is_rung || !self.channel().park(Interest::READABLE) {
            self.sleepers.of(Interest::READABLE).wake();
        }
    }

    /// Repeats `attempt` until it has something to say, or the doorbell will ring
    /// when it may have.
    ///
    /// A poll that is never repeated leaves an announcement behind, which costs the
    /// peer one doorbell: giving up is always safe.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        interest: Interest,
        mut attempt: impl FnMut(&mut Channel) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(coop::poll_proceed(context));
        if self.sleepers.of(interest).take().is_some() {
            self.channel().unpark(interest);
        }
        for _ in 0..ROUNDS {
            match attempt(self.channel()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => {
                    turn.made_progress();
                    return Poll::Ready(done);
                }
            }
            if self.expecting && self.channel().spin(interest) {
                continue;
            }
            // First the runtime watches, then the peer is told to ring.
            self.sleepers.of(interest).set(context.waker());
            if !self.poll_doorbell()? && self.channel().park(interest) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes pending doorbells off the socket. If there are none, the sleepers are
    /// woken when one comes.
    fn poll_doorbell(&mut self) -> io::Result<bool> {
        let mut context = Context::from_waker(&self.waker);
        match self.channel.poll_read_ready_mut(&mut context) {
            Poll::Pending => Ok(false),
            Poll::Ready(bell) => {
                let mut bell = bell?;
                let more = bell.get_inner_mut().0.listen();
                if !more {
                    bell.clear_ready();
                }
                Ok(true)
            }
        }
    }
}

/// The tasks that wait on one channel: one for each direction, since both may be
/// in use by tasks of their own, while the doorbell is one for both.
#[derive(Debug, Default)]
struct Sleepers {
    reader: Sleeper,
    writer: Sleeper,
}

/// A task that waits, if one does.
#[derive(Debug, Default)]
struct Sleeper(Mutex<Option<Waker>>);

impl Sleepers {
    fn of(&self, interest: Interest) -> &Sleeper {
        if interest.readable { &self.reader } else { &self.writer }
    }
}

impl Wake for Sleepers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

impl Sleeper {
    fn set(&self, waker: &Waker) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    fn take(&self) -> Option<Waker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn wake(&self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }
}
