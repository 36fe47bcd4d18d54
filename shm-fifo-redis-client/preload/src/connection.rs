//! One connection to an endpoint, wherever its bytes travel at the moment.
//!
//! | Phase | What the program writes | What it reads | The file descriptor's readiness is |
//! |---|---|---|---|
//! | socket | on the socket; it is tracked | from the socket | the kernel's |
//! | opening | on the socket, behind `SHM.OPEN` | what is kept, then nothing before the answer | ours |
//! | starting | into the ring | what is kept, then nothing before the answer | ours |
//! | shared | into the ring | from the ring | ours |
//! | leaving | nothing before the answer | nothing before the answer | ours |
//! | returning | on the socket | what is kept, then from the socket | ours |
//!
//! An offer of the server is held in phase socket, until there is a quiet moment to start.
//!
//! Only who has the mover locked changes the phase:
//!
//! | From | To | Who |
//! |---|---|---|
//! | socket | opening, starting | the thread that has just read a reply: `quietly` |
//! | opening, starting | socket | the same, before it lets go of the mover: the step was not taken |
//! | opening | returning | who takes the answer, with the sleepers locked, too: `advance` |
//! | starting | shared, returning | likewise |
//! | shared | leaving | who brings it back, with the sleepers locked, too: `ask_back` |
//! | leaving | returning, or shared, if it has ended | who takes the answer: `advance` |
//! | returning | socket | who finds that nothing is kept: `returns` |
//!
//! Whoever looks at it without that lock acts on what may have changed since, and looks again
//! where that matters.
//!
//! Locks are taken in the order epoll instance, sleepers, mover, tracker. Behind these come
//! `kept`, `watchers`, `fds` (a connection's, then an instance's) with `kept_on_exec`, and last a
//! slot of the table; nobody waits for `policy`.

mod alerts;
mod bytes;
mod evidence;
mod fate;
mod leaving;
mod moving;
mod waiting;
mod watchers;

use crate::errno::Errno;
use crate::mover::Mover;
use crate::report::Reason;
use crate::settings::{Endpoint, Server, Settings};
use crate::sleepers::Sleepers;
use crate::track::Tracker;
use crate::{sys, table};
use shm_fifo::{Interest, SpinPolicy, duplex::Duplex};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use watchers::Watcher;

/// Where a connection's bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Socket,
    Opening,
    Starting,
    Shared,
    Leaving,
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
    /// A number that no other connection has, or had.
    pub(crate) id: u64,
    phase: AtomicU8,
    /// Of the file descriptors that are this connection, one; -1 once all are closed.
    /// Changes with the sleepers locked: who takes something off the socket holds that.
    fd: AtomicI32,
    fds: Mutex<Vec<RawFd>>,
    /// Those of them that are closed on `exec` for the sake of a move alone.
    kept_on_exec: Mutex<Vec<RawFd>>,
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
    /// While it moves: elsewhere, for it is large.
    mover: Mutex<Option<Box<Mover>>>,
    ring: OnceLock<Duplex>,
    /// What came while moving and is the program's to read.
    kept: Mutex<VecDeque<u8>>,
    kept_bytes: AtomicUsize,
    /// How many bytes that were, ever.
    kept_in_all: AtomicU64,
    /// The program's reading direction was shut down.
    read_shut: AtomicBool,
    /// Its writing direction was, while moving: the server hears of it afterwards.
    write_shut: AtomicBool,
    /// How many writes found too little space: the space that comes then is news.
    short_writes: AtomicU64,
    /// What was written into the ring before the server has answered.
    early_bytes: AtomicUsize,
    /// What is known of how the program waits for it: see `evidence`.
    evidence: AtomicU8,
    /// It was never seen that it waits; reading in blocking mode alone is no proof.
    waits_unseen: AtomicBool,
    /// The tick in which the socket's end was looked for last.
    looked_ns: AtomicU64,
    /// `SO_RCVLOWAT`: fewer bytes are nothing to read.
    least_bytes: AtomicUsize,
    /// Why its peer is always to ring.
    alerts: AtomicU8,
    /// Reads in blocking mode that waited, in a row.
    proofs: AtomicU8,
    /// A TCP socket accepts one write after its peer's end.
    lost_a_write: AtomicBool,
    blocking: AtomicU8,
    pub(crate) sleepers: Mutex<Sleepers>,
    policy: Mutex<SpinPolicy>,
    watchers: Mutex<Vec<Watcher>>,
    /// One of them is watched by another instance.
    is_far: AtomicBool,
    stays: Mutex<Option<Reason>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

const MODE_UNKNOWN: u8 = 0;
const MODE_BLOCKING: u8 = 1;
const MODE_NONBLOCKING: u8 = 2;

impl Connection {
    pub(crate) fn new(fd: RawFd, server: Server, settings: &Settings) -> Self {
        let connection = Self {
            id: NEXT_ID.fetch_add(1, Relaxed),
            phase: AtomicU8::new(Phase::Socket as u8),
            fd: AtomicI32::new(fd),
            fds: Mutex::new(vec![fd]),
            kept_on_exec: Mutex::new(Vec::new()),
            identity: sys::identity(fd),
            is_tcp: server.endpoint == Endpoint::Tcp,
            forks: table::forks(),
            in_kernel: AtomicU32::new(0),
            sending: AtomicU32::new(0),
            tracker: Mutex::new(Some(Tracker::new(settings.after_commands, server.number))),
            mover: Mutex::new(None),
            ring: OnceLock::new(),
            kept: Mutex::new(VecDeque::new()),
            kept_bytes: AtomicUsize::new(0),
            kept_in_all: AtomicU64::new(0),
            read_shut: AtomicBool::new(false),
            write_shut: AtomicBool::new(false),
            short_writes: AtomicU64::new(0),
            early_bytes: AtomicUsize::new(0),
            evidence: AtomicU8::new(0),
            looked_ns: AtomicU64::new(0),
            least_bytes: AtomicUsize::new(1),
            alerts: AtomicU8::new(0),
            proofs: AtomicU8::new(0),
            waits_unseen: AtomicBool::new(true),
            lost_a_write: AtomicBool::new(false),
            blocking: AtomicU8::new(MODE_UNKNOWN),
            sleepers: Mutex::new(Sleepers::default()),
            policy: Mutex::new(SpinPolicy::default()),
            watchers: Mutex::new(Vec::new()),
            is_far: AtomicBool::new(false),
            stays: Mutex::new(None),
        };
        connection.stays(Reason::Short);
        connection
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        // ORDERING, SeqCst: pairs with `enter` and `quietly`: a call that goes to
        // the kernel and a move that begins see each other. What a phase needs is
        // published by it.
        match self.phase.load(SeqCst) {
            0 => Phase::Socket,
            1 => Phase::Opening,
            2 => Phase::Starting,
            3 => Phase::Shared,
            4 => Phase::Leaving,
            _ => Phase::Returning,
        }
    }

    /// Whether its readiness is ours to tell.
    #[inline]
    pub(crate) fn is_virtual(&self) -> bool {
        self.phase() != Phase::Socket
    }

    /// Whether the server has been asked, and it has not come back: what is on the socket is not the program's.
    pub(crate) fn is_moved(&self) -> bool {
        !matches!(self.phase(), Phase::Socket | Phase::Returning)
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
            Phase::Shared => self.is_ring_ready(interest),
            Phase::Starting => {
                let has_space = || {
                    let is_ready = |ring: &Duplex| ring.is_ready(Interest::WRITABLE);
                    self.early_room() > 0 && self.with_early_ring(is_ready).unwrap_or(true)
                };
                interest.readable && self.read_shut.load(Relaxed)
                    || interest.writable && (self.write_shut.load(Relaxed) || has_space())
            }
            Phase::Opening => {
                interest.readable && self.read_shut.load(Relaxed)
                    || interest.writable && sys::is_writable(self.fd())
            }
            // The kernel knows; nothing to sleep for.
            Phase::Socket => false,
            Phase::Leaving => false,
            Phase::Returning => interest.writable && sys::is_writable(self.fd()),
        }
    }

    #[inline]
    fn is_ring_ready(&self, interest: Interest) -> bool {
        let Some(ring) = self.ring() else { return false };
        if interest.readable && self.read_shut.load(Relaxed) {
            return true;
        }
        ring.is_ready(interest)
            && (!self.has_too_little(ring) || {
                // Something else than bytes, or enough of them.
                ring.is_ready(NOTHING)
                    || ring.peer_closed()
                    || interest.writable && ring.is_ready(Interest::WRITABLE)
            })
    }

    /// Whether there are some bytes, but fewer than the program wants to hear of.
    #[inline]
    fn has_too_little(&self, ring: &Duplex) -> bool {
        let least = self.least_bytes.load(Relaxed);
        // A unix socket tells of any.
        least > 1 && self.is_tcp && ring.available_bytes() < least
    }

    /// What is done with the ring while the server has not answered `SHM.START`.
    fn with_early_ring<T>(&self, work: impl FnOnce(&Duplex) -> T) -> Option<T> {
        lock(&self.mover).as_deref().and_then(Mover::ring).map(work)
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
        match self.phase() {
            Phase::Socket => return ready,
            // What was kept is in front of what the kernel has.
            Phase::Returning => ready |= sys::ready_now(self.fd(), events),
            _ => {}
        }
        ready | self.end_events() & (events | HANG_UP)
    }

    /// Which directions have ended, as the bits that say so.
    #[inline]
    pub(crate) fn end_events(&self) -> u32 {
        match self.reading_has_ended() {
            false => 0,
            true if self.has_hung_up() => READ_HANG_UP | HANG_UP,
            true => READ_HANG_UP,
        }
    }

    /// Whether nothing goes in either direction. A TCP connection can still be written to
    /// when its peer has closed it.
    fn has_hung_up(&self) -> bool {
        let has_lost = self.write_shut.load(Relaxed) || self.lost_a_write.load(Relaxed);
        self.reading_has_ended() && has_lost || !self.is_tcp && self.is_gone()
    }

    /// Whether the socket has ended, as the rings have, and that was not heard yet.
    pub(crate) fn has_unheard_end(&self) -> bool {
        let is_half = self.has_ended() && !self.is_gone();
        is_half && sys::has_hung_up(self.fd())
    }

    /// Whether the end of the socket was heard: there are no more doorbells.
    pub(crate) fn is_gone(&self) -> bool {
        self.ring().is_some_and(|ring| ring.is_ready(NOTHING))
    }

    /// Whether the program has it: it may have closed it where that was not seen.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.fds).iter().any(|&fd| self.is_open_file(sys::identity(fd)))
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

    /// Whether the server has been asked, and not answered.
    pub(crate) fn is_being_asked(&self) -> bool {
        matches!(self.phase(), Phase::Opening | Phase::Starting | Phase::Leaving)
    }

    /// What the program sends goes behind `SHM.OPEN`, or the reply to it would be taken for the
    /// answer: another thread may be about to send that, and holds the mover.
    pub(crate) fn wait_until_asked(&self) {
        drop(lock(&self.mover));
    }

    /// Whether something that came while it moved is still to be read.
    pub(crate) fn has_kept(&self) -> bool {
        self.kept_bytes.load(Relaxed) > 0
    }

    /// A number that changes when bytes have come.
    pub(crate) fn arrivals(&self) -> u64 {
        self.ring().map_or(0, Duplex::arrivals)
    }

    /// How many bytes were kept, ever.
    pub(crate) fn kept_in_all(&self) -> u64 {
        self.kept_in_all.load(Relaxed)
    }

    /// A number that changes when a write had too little space.
    pub(crate) fn short_writes(&self) -> u64 {
        self.short_writes.load(Relaxed)
    }

    /// Up to where bytes are none that the program wants to hear of.
    pub(crate) fn noticed(&self) -> Option<u64> {
        let ring = self.ring()?;
        // Before the look: what comes during it is behind them.
        let arrivals = ring.arrivals();
        self.has_too_little(ring).then_some(arrivals)
    }

    /// `SO_RCVLOWAT`. Returns whether the kernel is to know it: not once doorbells wake.
    pub(crate) fn set_least_bytes(self: &Arc<Self>, bytes: usize) -> bool {
        if self.give_up(Reason::Watched) {
            return true;
        }
        self.least_bytes.store(bytes.max(1), Relaxed);
        self.tell_watchers(None);
        false
    }

    /// The same, as it was set for a moved connection.
    pub(crate) fn least_bytes(&self) -> Option<usize> {
        self.is_moved().then(|| self.least_bytes.load(Relaxed))
    }

    // File descriptors.

    /// The program duplicated it.
    pub(crate) fn add_fd(&self, fd: RawFd) {
        let mut fds = lock(&self.fds);
        fds.push(fd);
        // A move looks at `fds` once it has its ring.
        let is_in_memory = matches!(self.phase(), Phase::Starting | Phase::Shared | Phase::Leaving);
        if is_in_memory && sys::close_on_exec(fd) {
            lock(&self.kept_on_exec).push(fd);
        }
    }

    /// Whether `fd` is one of its numbers.
    pub(crate) fn has_number(&self, fd: RawFd) -> bool {
        lock(&self.fds).contains(&fd)
    }

    /// The program is closing one of its file descriptors, which `is_open`; or it has, where
    /// nobody saw it, and the number may be somebody else's.
    pub(crate) fn lose_fd(self: &Arc<Self>, fd: RawFd, is_open: bool) {
        let left = {
            let mut fds = lock(&self.fds);
            fds.retain(|&other| other != fd);
            lock(&self.kept_on_exec).retain(|&other| other != fd);
            fds.first().copied()
        };
        match left {
            Some(left) => self.renumber_watched(fd, left),
            None => self.leave_watchers(),
        }
        // The number may be another connection's in a moment: a thread that sleeps here
        // must take nothing off that.
        let _sleepers = lock(&self.sleepers);
        self.fd.store(left.unwrap_or(-1), Relaxed);
        if left.is_none() {
            self.end(if is_open { fd } else { -1 });
        }
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
