//! One connection to the endpoint, wherever its bytes travel at the moment.
//!
//! | Phase | Bytes travel | The file descriptor's readiness is |
//! |---|---|---|
//! | socket | on the socket; they are tracked | the kernel's |
//! | moving | what the program writes waits in the mover; what it may read is kept | ours |
//! | shared | in the rings | ours |
//! | returning | on the socket again, once what was kept is read | ours |
//!
//! Locks are taken in the order sleepers, mover, tracker; an epoll instance's before
//! the sleepers'.

mod bytes;
mod moving;

use crate::epoll::Epoll;
use crate::errno::Errno;
use crate::mover::Mover;
use crate::settings::{Endpoint, Settings};
use crate::sleepers::Sleepers;
use crate::track::Tracker;
use crate::{sys, table};
use shm_fifo::{Duplex, Interest, SpinPolicy};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// Where a connection's bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Socket,
    Moving,
    Shared,
    Returning,
}

/// What a call on a connection comes to.
#[derive(Debug)]
pub(crate) enum Served {
    /// This is its result.
    Done(Result<usize, Errno>),
    /// The kernel has it.
    ByKernel,
}

/// How a call wants to be served.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Leave the bytes where they are.
    pub(crate) peek: bool,
    /// Do not wait, whatever the file descriptor's mode.
    pub(crate) dont_wait: bool,
    /// Fill the buffers.
    pub(crate) wait_all: bool,
}

#[derive(Debug)]
pub(crate) struct Connection {
    phase: AtomicU8,
    /// Of the file descriptors that are this connection, one; -1 once all are closed.
    /// Changes with the sleepers locked: who takes something off the socket holds that.
    fd: AtomicI32,
    fds: Mutex<Vec<RawFd>>,
    /// The open file that `fds` were when the connection was made.
    identity: Option<(u64, u64)>,
    is_tcp: bool,
    /// How often the process had forked when the connection was made.
    forks: usize,
    /// Calls that are in the kernel, reading or writing the socket.
    in_kernel: AtomicU32,
    /// Those of them that send what is not tracked yet.
    sending: AtomicU32,
    /// `None` once given up.
    tracker: Mutex<Option<Tracker>>,
    mover: Mutex<Option<Mover>>,
    ring: OnceLock<Duplex>,
    /// What came while moving and is the program's to read.
    kept: Mutex<VecDeque<u8>>,
    kept_bytes: AtomicUsize,
    /// The program's reading direction was shut down.
    read_shut: AtomicBool,
    /// Its writing direction was, while moving: the server hears of it afterwards.
    write_shut: AtomicBool,
    /// A write found too little space: the space that comes is news.
    wants_space: AtomicBool,
    blocking: AtomicU8,
    pub(crate) sleepers: Mutex<Sleepers>,
    policy: Mutex<SpinPolicy>,
    watchers: Mutex<Vec<(Weak<Epoll>, RawFd)>>,
}

const MODE_UNKNOWN: u8 = 0;
const MODE_BLOCKING: u8 = 1;
const MODE_NONBLOCKING: u8 = 2;

impl Connection {
    pub(crate) fn new(fd: RawFd, endpoint: Endpoint, settings: &Settings) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Socket as u8),
            fd: AtomicI32::new(fd),
            fds: Mutex::new(vec![fd]),
            identity: sys::identity(fd),
            is_tcp: endpoint == Endpoint::Tcp,
            forks: table::forks(),
            in_kernel: AtomicU32::new(0),
            sending: AtomicU32::new(0),
            tracker: Mutex::new(Some(Tracker::new(settings.after_commands))),
            mover: Mutex::new(None),
            ring: OnceLock::new(),
            kept: Mutex::new(VecDeque::new()),
            kept_bytes: AtomicUsize::new(0),
            read_shut: AtomicBool::new(false),
            write_shut: AtomicBool::new(false),
            wants_space: AtomicBool::new(false),
            blocking: AtomicU8::new(MODE_UNKNOWN),
            sleepers: Mutex::new(Sleepers::default()),
            policy: Mutex::new(SpinPolicy::default()),
            watchers: Mutex::new(Vec::new()),
        }
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        // ORDERING, SeqCst: pairs with `enter` and `begin_move`: a call that goes to
        // the kernel and a move that begins see each other. What a phase needs is
        // published by it.
        match self.phase.load(SeqCst) {
            0 => Phase::Socket,
            1 => Phase::Moving,
            2 => Phase::Shared,
            _ => Phase::Returning,
        }
    }

    /// Whether its readiness is ours to tell.
    #[inline]
    pub(crate) fn is_virtual(&self) -> bool {
        self.phase() != Phase::Socket
    }

    /// Whether the server has been asked: what is on the socket is not the program's.
    pub(crate) fn is_moved(&self) -> bool {
        matches!(self.phase(), Phase::Moving | Phase::Shared)
    }

    #[inline]
    pub(crate) fn fd(&self) -> RawFd {
        self.fd.load(Relaxed)
    }

    pub(crate) fn is_tcp(&self) -> bool {
        self.is_tcp
    }

    pub(crate) fn ring(&self) -> Option<&Duplex> {
        self.ring.get()
    }

    pub(crate) fn is_open_file(&self, identity: Option<(u64, u64)>) -> bool {
        self.identity == identity
    }

    // Readiness.

    /// Whether what `interest` names is there.
    #[inline]
    pub(crate) fn is_ready(&self, interest: Interest) -> bool {
        if interest.readable && self.kept_bytes.load(Relaxed) > 0 {
            return true;
        }
        match self.phase() {
            Phase::Shared => {
                interest.readable && self.read_shut.load(Relaxed)
                    || self.ring().is_some_and(|ring| ring.is_ready(interest))
            }
            Phase::Moving => {
                let has_room = || lock(&self.mover).as_ref().is_some_and(Mover::has_room);
                interest.readable && self.read_shut.load(Relaxed)
                    || interest.writable && (self.write_shut.load(Relaxed) || has_room())
            }
            // The kernel knows; nothing to sleep for.
            Phase::Socket => false,
            Phase::Returning => interest.readable || interest.writable,
        }
    }

    /// What `poll` and `epoll` report of it, of the `events` that are asked for. The
    /// two use the same bits.
    #[inline]
    pub(crate) fn ready_events(&self, events: u32) -> u32 {
        let mut ready = 0;
        if events & READABLE != 0 && self.is_ready(Interest::READABLE) {
            ready |= events & READABLE;
        }
        if events & WRITABLE != 0 && self.is_ready(Interest::WRITABLE) {
            ready |= events & WRITABLE;
        }
        if self.phase() == Phase::Shared && self.reading_has_ended() {
            ready |= events & READ_HANG_UP;
            if self.has_ended() && (events & READABLE == 0 || self.is_at_end()) {
                ready |= HANG_UP;
            }
        }
        ready
    }

    /// Whether the peer has ended and nothing of it is left to be read.
    fn is_at_end(&self) -> bool {
        self.kept_bytes.load(Relaxed) == 0 && self.ring().is_some_and(Duplex::is_at_end)
    }

    /// Whether nothing more comes to be read, by whichever side's doing.
    #[inline]
    pub(crate) fn reading_has_ended(&self) -> bool {
        self.read_shut.load(Relaxed) || self.has_ended()
    }

    /// Whether the peer has ended, though there may be bytes of it.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.ring().is_some_and(|ring| ring.is_ready(NOTHING) || ring.peer_closed())
    }

    /// A number that changes when bytes have come.
    pub(crate) fn arrivals(&self) -> u64 {
        self.ring().map_or(0, Duplex::arrivals)
    }

    /// Whether space is news: a write had too little.
    pub(crate) fn wants_space(&self) -> bool {
        self.wants_space.load(Relaxed)
    }

    /// The news was told.
    pub(crate) fn told_of_space(&self) {
        self.wants_space.store(false, Relaxed);
    }

    // File descriptors.

    /// The program duplicated it.
    pub(crate) fn add_fd(&self, fd: RawFd) {
        let mut fds = lock(&self.fds);
        fds.push(fd);
        // A move looks at `fds` once it has its ring.
        if self.ring().is_some() {
            sys::close_on_exec(fd);
        }
    }

    /// The program is closing one of its file descriptors.
    pub(crate) fn lose_fd(self: &Arc<Self>, fd: RawFd) {
        let left = {
            let mut fds = lock(&self.fds);
            fds.retain(|&other| other != fd);
            fds.first().copied()
        };
        let is_watched = self.watchers().iter().any(|&(_, watched)| watched == fd);
        // A duplicate keeps the program's registration in the kernel, and nobody can
        // change that any more.
        if is_watched && left.is_some() && self.give_up() {
            return;
        }
        for (epoll, watched) in self.watchers() {
            if watched == fd {
                epoll.forget(fd);
            }
        }
        // The number may be another connection's in a moment: a thread that sleeps here
        // must take nothing off that.
        let _sleepers = lock(&self.sleepers);
        if left.is_none() {
            self.end(fd);
        }
        self.fd.store(left.unwrap_or(-1), Relaxed);
    }

    // Who watches it.

    /// `epoll` has been told of it as `fd`.
    pub(crate) fn watched_by(&self, epoll: &Arc<Epoll>, fd: RawFd) {
        let mut watchers = lock(&self.watchers);
        watchers.retain(|(other, _)| other.strong_count() > 0);
        let known = |(other, watched): &(Weak<Epoll>, RawFd)| {
            *watched == fd && std::ptr::eq(other.as_ptr(), Arc::as_ptr(epoll))
        };
        if !watchers.iter().any(known) {
            watchers.push((Arc::downgrade(epoll), fd));
        }
    }

    fn watchers(&self) -> Vec<(Arc<Epoll>, RawFd)> {
        let watchers = lock(&self.watchers);
        watchers.iter().filter_map(|(epoll, fd)| Some((epoll.upgrade()?, *fd))).collect()
    }
}

/// The bits of `poll` and `epoll`, which are the same.
pub(crate) const READABLE: u32 = 0x1 | 0x40;
pub(crate) const WRITABLE: u32 = 0x4 | 0x100;
pub(crate) const HANG_UP: u32 = 0x10;
pub(crate) const READ_HANG_UP: u32 = 0x2000;

/// An end is ready for nothing at all.
const NOTHING: Interest = Interest { readable: false, writable: false };

/// What these `events` ask to be waited for.
pub(crate) fn interest_of(events: u32) -> Interest {
    Interest { readable: events & READABLE != 0, writable: events & WRITABLE != 0 }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
