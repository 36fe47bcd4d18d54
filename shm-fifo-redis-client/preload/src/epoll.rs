//! One epoll instance of the program, as far as it watches connections.
//!
//! While a connection is on its socket, the kernel has the program's registration, with
//! the program's data. From the moment it moves that registration is taken out, and a
//! *private* epoll instance, beside the program's, watches the socket for doorbells.
//! The private one also watches the program's. So a thread that waits sleeps in the
//! private instance and is woken by either, and the program's own instance never holds
//! anything that is not the program's.
//!
//! A moved connection is *hot*, and looked at in each turn, for as long as something comes
//! on it; then it is *parked*: its peer is told to ring, and it costs nothing until that
//! does. What a thread does that waits costs as much as there is of hot ones.

mod calling;
mod member;
mod members;
mod moving;
mod nesting;
mod private;
mod registering;
mod reporting;
mod waiting;

use crate::connection::{Connection, lock};
use crate::{sys, table};
use members::{Attended, State};
pub(crate) use private::FIRST_NUMBER;
use shm_fifo::interposer::YieldingMutex;
use std::os::fd::RawFd;
use std::ptr::null;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard};

/// So many waits in a row may be answered by the program's own instance alone.
const MAX_UNASKED: u32 = 3;

const EDGE: u32 = libc::EPOLLET.cast_unsigned();
const ONE_SHOT: u32 = libc::EPOLLONESHOT.cast_unsigned();
const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE.cast_unsigned();

#[derive(Debug)]
pub(crate) struct Epoll {
    /// Of the file descriptors that are this instance, one.
    epfd: AtomicI32,
    fds: Mutex<Vec<RawFd>>,
    /// How often a thread has begun to wait here, by a call that is served.
    waits: AtomicU64,
    has_watched: AtomicBool,
    members: AtomicUsize,
    /// Threads that wait in the program's instance alone, because nothing had moved.
    outside: AtomicU32,
    state: YieldingMutex<State>,
}

/// How long a wait may take.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timeout {
    Never,
    After { ns: u64 },
}

impl Timeout {
    /// When it ends, by the clock that never goes back.
    pub(crate) fn deadline_ns(self) -> Option<u64> {
        match self {
            Self::Never => None,
            // Looking is done at once: no look at the clock.
            Self::After { ns: 0 } => Some(0),
            Self::After { ns } => Some(sys::monotonic_ns().saturating_add(ns)),
        }
    }

    /// What is left of it.
    pub(crate) fn until(deadline_ns: Option<u64>) -> Self {
        let left_ns = |deadline_ns: u64| deadline_ns.saturating_sub(sys::monotonic_ns());
        deadline_ns.map_or(Self::Never, |deadline_ns| Self::After { ns: left_ns(deadline_ns) })
    }
}

impl Epoll {
    pub(crate) fn new(epfd: RawFd) -> Self {
        Self {
            epfd: AtomicI32::new(epfd),
            fds: Mutex::new(vec![epfd]),
            waits: AtomicU64::new(0),
            has_watched: AtomicBool::new(false),
            members: AtomicUsize::new(0),
            outside: AtomicU32::new(0),
            state: YieldingMutex::default(),
        }
    }

    fn epfd(&self) -> RawFd {
        self.epfd.load(Relaxed)
    }

    /// Whether the program has a descriptor of it.
    pub(crate) fn is_open(&self) -> bool {
        self.epfd() >= 0
    }

    // Evidence.

    /// Whether it watches connections, or ever has.
    pub(crate) fn has_watched(&self) -> bool {
        self.has_watched.load(Relaxed)
    }

    /// How often a thread has begun to wait here.
    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Relaxed)
    }

    /// Whether it has been waited in since it had been `waits` times, and by nobody in a way
    /// that a moved connection does not wake.
    pub(crate) fn is_served_since(&self, waits: u64) -> bool {
        // ORDERING, SeqCst: pairs with `wait_outside`. Who comes later sees the members.
        self.waits() > waits && self.sleepers_outside() == 0 && !self.is_nested()
    }

    /// How many threads wait in the program's instance alone.
    fn sleepers_outside(&self) -> u32 {
        self.outside.load(SeqCst) + table::strangers(&lock(&self.fds))
    }

    // File descriptors.

    /// The program duplicated it.
    pub(crate) fn add_fd(&self, fd: RawFd) {
        lock(&self.fds).push(fd);
    }

    /// The program is closing one of its file descriptors.
    pub(crate) fn lose_fd(&self, fd: RawFd) {
        let left = {
            let mut fds = lock(&self.fds);
            fds.retain(|&other| other != fd);
            fds.first().copied()
        };
        let mut state = self.state.lock();
        self.epfd.store(left.unwrap_or(-1), Relaxed);
        match (left, &state.private) {
            (Some(left), Some(private)) => private.renumber_program(fd, left),
            (Some(_), None) => {}
            (None, _) => state.dissolve(),
        }
    }

    /// Closes what a forked child has of the parent's private instance. The child has one
    /// thread, and nobody drops this.
    pub(crate) fn close_private(&self) {
        if let Some(state) = self.state.try_lock()
            && let Some(private) = &state.private
        {
            private.close();
        }
    }

    /// Something has changed about the connection that may be news.
    pub(crate) fn look_at(&self, connection: &Connection) {
        let mut state = self.state.lock();
        for index in state.all_of(connection.id) {
            state.heat(index);
        }
        self.wake(&mut state);
        drop(self.settle(state));
    }

    /// While somebody sleeps, nothing is hot: all are to ring, or who sleeps is woken to look. What
    /// it heard is to be settled.
    fn wake(&self, state: &mut State) {
        if state.is_exposed
            && let Ok(news) = state.ask_private(Some(0), null())
        {
            // Who waits for the private instance itself is told, until there is no news.
            state.hear(&news);
        }
        if (state.sleeping > 0 || state.is_exposed)
            && !state.park_all()
            && let Some(private) = &state.private
        {
            private.kick();
        }
    }

    /// Gives back what goes on over its socket, which takes other locks.
    fn settle<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.attended.is_empty() {
            return state;
        }
        let attended = std::mem::take(&mut state.attended);
        drop(state);
        for Attended { connection, is_news } in attended {
            connection.settle();
            if is_news {
                connection.tell_watchers(Some(self));
            }
        }
        self.state.lock()
    }
}

/// Who waits for an instance may have to be given this CPU first, to take it.
fn nap(times: u32) -> bool {
    const NAPS: u32 = 8;
    sys::nap(10_000 << times);
    times + 1 < NAPS
}
