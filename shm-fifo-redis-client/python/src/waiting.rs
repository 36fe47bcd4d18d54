//! A stream that several threads use, and how they wait for it.
//!
//! One thread may wait for replies while another one sends, as redis-py's `PubSub` does.
//! Nobody holds the lock asleep. Of those that wait one sleeps on the socket and hears the
//! doorbells, for all; the others wait for that one.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use shm_fifo_redis_client::{Interest, Stream, Transport};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who waits for the one that sleeps on the socket is not woken by signals: it looks so often.
const LOOK: Duration = Duration::from_millis(100);

/// A stream, for any number of threads.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    heard: Condvar,
    fd: RawFd,
    transport: Transport,
}

#[derive(Debug)]
pub(crate) struct State {
    /// `None` once it is closed and nobody sleeps on it.
    stream: Option<Stream>,
    /// A byte that was read, so as to know that there is one.
    ahead: Option<u8>,
    is_closed: bool,
    /// What the thread that sleeps on the socket has announced that it waits for.
    sleeper: Option<Interest>,
}

impl State {
    /// The socket's descriptor; -1 once it is closed.
    pub(crate) fn fd(&self) -> RawFd {
        self.stream.as_ref().map_or(-1, Stream::as_raw_fd)
    }

    pub(crate) fn stream(&mut self) -> io::Result<&mut Stream> {
        let closed = || io::Error::from_raw_os_error(libc::EBADF);
        self.stream.as_mut().filter(|_| !self.is_closed).ok_or_else(closed)
    }

    /// Reads what there is.
    pub(crate) fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let Some(byte) = self.ahead else { return self.stream()?.try_read(target) };
        let Some((first, rest)) = target.split_first_mut() else { return Ok(0) };
        (*first, self.ahead) = (byte, None);
        // What is wrong with the rest, the next call tells.
        Ok(1 + self.stream()?.try_read(rest).unwrap_or(0))
    }

    /// The next byte, which stays; `None` is the end.
    pub(crate) fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.ahead.is_none() {
            let mut byte = [0];
            let count = self.stream()?.try_read(&mut byte)?;
            self.ahead = (count > 0).then_some(byte[0]);
        }
        Ok(self.ahead)
    }

    /// Takes doorbells: nobody sleeps.
    pub(crate) fn listen(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.unpark(Interest::BOTH);
            stream.listen();
        }
    }

    fn let_go(&mut self) {
        if self.is_closed && self.sleeper.is_none() {
            self.stream = None;
        }
    }
}

/// How long somebody waits.
#[derive(Debug)]
pub(crate) struct Patience {
    timeout: Option<Duration>,
    /// Set once it is needed.
    deadline: Option<Instant>,
    has_spun: bool,
}

impl Patience {
    /// `None` is for ever, and no time is not to wait at all.
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, deadline: None, has_spun: false }
    }

    /// There was something: to spin may pay again. The deadline stays.
    pub(crate) fn renew(&mut self) {
        self.has_spun = false;
    }

    /// Whether to spin before sleeping: once.
    fn spins(&mut self) -> bool {
        !std::mem::replace(&mut self.has_spun, true)
    }

    /// What is left of it.
    fn left(&mut self) -> io::Result<Option<Duration>> {
        let Some(timeout) = self.timeout else { return Ok(None) };
        if timeout.is_zero() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let now = Instant::now();
        let deadline = *self.deadline.get_or_insert(now + timeout);
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// It may be there.
    Look,
    /// A signal came, or may have come.
    Signal,
}

impl Shared {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            fd: stream.as_raw_fd(),
            transport: stream.transport(),
            state: Mutex::new(State {
                stream: Some(stream),
                ahead: None,
                is_closed: false,
                sleeper: None,
            }),
            heard: Condvar::new(),
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    /// What they share. Nobody sleeps with it, but who has it may wait for the interpreter: who
    /// has that does not wait for it here.
    pub(crate) fn state(&self) -> &Mutex<State> {
        &self.state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spins for what `interest` names, where that pays; whether it is there.
    pub(crate) fn spin(&self, interest: Interest) -> io::Result<bool> {
        Ok(self.lock().stream()?.spin(interest))
    }

    /// One step of waiting for what `interest` names: a spin, or a sleep.
    ///
    /// # Errors
    /// `WouldBlock` and `TimedOut` where there is no patience (left); if it is closed.
    pub(crate) fn wait_once(
        &self,
        interest: Interest,
        patience: &mut Patience,
    ) -> io::Result<Woken> {
        let left = patience.left()?;
        if patience.spins() {
            let is_there = self.spin(interest)?;
            // Handlers of signals have not run meanwhile.
            return Ok(if is_there { Woken::Look } else { Woken::Signal });
        }
        self.sleep(interest, left)
    }

    fn sleep(&self, interest: Interest, left: Option<Duration>) -> io::Result<Woken> {
        let mut state = self.lock();
        let is_announced = state.sleeper == Some(interest);
        let stream = state.stream()?;
        // A look in vain takes the announcement back, and that is another thread's.
        if !is_announced && !stream.park(interest) {
            return Ok(Woken::Look);
        }
        if state.sleeper.is_some() {
            let look = left.map_or(LOOK, |left| left.min(LOOK));
            drop(self.heard.wait_timeout(state, look));
            return Ok(Woken::Signal);
        }
        state.sleeper = Some(interest);
        drop(state);
        let polled = self.poll(interest, left);
        self.wake_others(&mut self.lock());
        match polled {
            Ok(0) => Err(ErrorKind::TimedOut.into()),
            Ok(_) => Ok(Woken::Look),
            Err(Errno::INTR) => Ok(Woken::Signal),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the stream: who sleeps on it wakes.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        if let Some(stream) = &mut state.stream {
            stream.shut_down();
        }
        state.let_go();
    }

    #[allow(unsafe_code)]
    fn poll(&self, interest: Interest, left: Option<Duration>) -> Result<usize, Errno> {
        // Doorbells are to be read, whatever they say.
        let events = match self.transport {
            Transport::SharedMemory => PollFlags::IN,
            _ if interest.writable => PollFlags::OUT,
            _ => PollFlags::IN,
        };
        // SAFETY: the stream owns it, and is not dropped while there is a sleeper.
        let socket = unsafe { BorrowedFd::borrow_raw(self.fd) };
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        poll(&mut [PollFd::new(&socket, events)], left.as_ref())
    }

    /// The sleeper is awake: it hears what there is, and the others look.
    fn wake_others(&self, state: &mut State) {
        state.sleeper = None;
        state.listen();
        state.let_go();
        self.heard.notify_all();
    }
}
