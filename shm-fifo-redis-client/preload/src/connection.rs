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

use crate::epoll::Epoll;
use crate::errno::Errno;
use crate::mover::{Mover, Outcome};
use crate::settings::Settings;
use crate::sleepers::Sleepers;
use crate::spans::Spans;
use crate::track::{GivenUp, Tracker};
use crate::{signals, spin, sys, table};
use shm_fifo::{Duplex, Interest, SpinPolicy};
use std::collections::VecDeque;
use std::io::Read as _;
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
    pub(crate) fn new(fd: RawFd, settings: &Settings) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Socket as u8),
            fd: AtomicI32::new(fd),
            fds: Mutex::new(vec![fd]),
            identity: sys::identity(fd),
            is_tcp: settings.is_tcp(),
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

    // Reading.

    /// Reads into `spans`, waiting as the file descriptor's mode and `manner` say.
    pub(crate) fn read(self: &Arc<Self>, spans: Spans<'_>, manner: Manner) -> Served {
        let wanted = spans.total_bytes();
        let mut filled = 0;
        loop {
            match self.read_now(spans, filled, manner.peek) {
                Served::ByKernel if filled == 0 => return Served::ByKernel,
                Served::ByKernel => {
                    filled += self.read_rest(spans, filled, manner);
                    return Served::Done(Ok(filled));
                }
                Served::Done(Ok(0)) => return Served::Done(Ok(filled)),
                Served::Done(Ok(count)) => {
                    filled += count;
                    // What is peeked at stays: waiting for more would find it again.
                    if manner.peek || !manner.wait_all || filled >= wanted {
                        return Served::Done(Ok(filled));
                    }
                }
                Served::Done(Err(Errno::AGAIN)) => {}
                failed @ Served::Done(Err(_)) if filled == 0 => return failed,
                Served::Done(Err(_)) => return Served::Done(Ok(filled)),
            }
            if let Err(errno) = self.wait_alone(Interest::READABLE, manner.dont_wait) {
                return Served::Done(if filled > 0 { Ok(filled) } else { Err(errno) });
            }
        }
    }

    /// Fills the rest from the socket: the beginning was kept, and the connection is
    /// there again. How many bytes that were.
    fn read_rest(self: &Arc<Self>, spans: Spans<'_>, skip: usize, manner: Manner) -> usize {
        if !self.enter() {
            return 0;
        }
        let dont_wait = manner.dont_wait || self.is_nonblocking();
        let filled = spans.fill(skip, |target| {
            let count = sys::receive_all(self.fd(), target, dont_wait)?;
            self.note(|tracker| tracker.received(&target[..count], self.may_be_early()));
            Ok::<_, Errno>(count)
        });
        self.leave();
        filled.unwrap_or(0)
    }

    fn read_now(&self, spans: Spans<'_>, skip: usize, peek: bool) -> Served {
        loop {
            if self.kept_bytes.load(Relaxed) > 0 {
                let count = self.read_kept(spans, skip, peek);
                if count > 0 {
                    return Served::Done(Ok(count));
                }
            }
            match self.phase() {
                Phase::Socket => return Served::ByKernel,
                Phase::Returning => self.settle(),
                Phase::Moving => {
                    self.attend();
                    if self.phase() == Phase::Moving && self.kept_bytes.load(Relaxed) == 0 {
                        let at_end = self.read_shut.load(Relaxed);
                        return Served::Done(if at_end { Ok(0) } else { Err(Errno::AGAIN) });
                    }
                }
                Phase::Shared => return Served::Done(self.read_ring(spans, skip, peek)),
            }
        }
    }

    #[inline]
    fn read_ring(&self, spans: Spans<'_>, skip: usize, peek: bool) -> Result<usize, Errno> {
        let Some(ring) = self.ring() else { return Err(Errno::AGAIN) };
        let fd = self.fd();
        let result = if peek {
            // Only the first buffer: what is peeked at is always the same.
            let mut peeked = false;
            spans.fill(skip, |target| {
                let count = if peeked { 0 } else { ring.peek(fd, target)? };
                peeked = true;
                Ok::<_, std::io::Error>(count)
            })
        } else {
            spans.fill(skip, |target| ring.read(fd, target))
        };
        match result {
            Err(error) if self.read_shut.load(Relaxed) => match Errno::from(error) {
                Errno::AGAIN => Ok(0),
                other => Err(other),
            },
            other => other.map_err(Errno::from),
        }
    }

    fn read_kept(&self, spans: Spans<'_>, skip: usize, peek: bool) -> usize {
        let mut kept = lock(&self.kept);
        let count = if peek {
            let mut rest = &*kept.make_contiguous();
            spans.fill(skip, |target| rest.read(target))
        } else {
            spans.fill(skip, |target| kept.read(target))
        };
        self.kept_bytes.store(kept.len(), Relaxed);
        // Reading memory does not fail.
        count.unwrap_or(0)
    }

    /// Bytes that can be read without waiting; `None` if the kernel knows.
    pub(crate) fn available_bytes(&self) -> Option<usize> {
        let kept = self.kept_bytes.load(Relaxed);
        match self.phase() {
            Phase::Socket => None,
            Phase::Shared => Some(kept + self.ring().map_or(0, Duplex::available_bytes)),
            Phase::Moving | Phase::Returning => Some(kept),
        }
    }

    // Writing.

    /// Writes all of `spans`, as long as it may wait.
    pub(crate) fn write(&self, spans: Spans<'_>, dont_wait: bool) -> Served {
        let sources = spans.sources();
        let total = spans.total_bytes();
        if total == 0 {
            return Served::Done(Ok(0));
        }
        let mut written = 0;
        loop {
            let result = match self.phase() {
                Phase::Shared => self.write_ring(sources, written),
                Phase::Moving => match self.hold_back(sources, written) {
                    Some(result) => result,
                    None => continue,
                },
                Phase::Socket | Phase::Returning => {
                    self.settle();
                    let by_kernel = written == 0;
                    return if by_kernel { Served::ByKernel } else { Served::Done(Ok(written)) };
                }
            };
            match result {
                Ok(count) => {
                    written += count;
                    if written >= total {
                        return Served::Done(Ok(written));
                    }
                }
                Err(Errno::AGAIN) => {}
                Err(errno) => {
                    return Served::Done(if written > 0 { Ok(written) } else { Err(errno) });
                }
            }
            self.wants_space.store(true, Relaxed);
            if let Err(errno) = self.wait_alone(Interest::WRITABLE, dont_wait) {
                return Served::Done(if written > 0 { Ok(written) } else { Err(errno) });
            }
        }
    }

    #[inline]
    fn write_ring(&self, sources: &[std::io::IoSlice<'_>], skip: usize) -> Result<usize, Errno> {
        let Some(ring) = self.ring() else { return Err(Errno::AGAIN) };
        if skip == 0 {
            return ring.write(self.fd(), sources).map_err(Errno::from);
        }
        let rest = without_first(sources, skip);
        ring.write(self.fd(), &rest).map_err(Errno::from)
    }

    /// Keeps what is written until the move has ended; `None` if it just has.
    fn hold_back(
        &self,
        sources: &[std::io::IoSlice<'_>],
        skip: usize,
    ) -> Option<Result<usize, Errno>> {
        let mut mover = lock(&self.mover);
        if self.phase() == Phase::Moving && self.write_shut.load(Relaxed) {
            return Some(Err(Errno::PIPE));
        }
        let mover = mover.as_mut().filter(|_| self.phase() == Phase::Moving)?;
        let count = mover.hold_back(&without_first(sources, skip));
        Some(if count == 0 { Err(Errno::AGAIN) } else { Ok(count) })
    }

    // Waiting.

    /// Waits for `interest` in a call on this file descriptor alone.
    fn wait_alone(&self, interest: Interest, dont_wait: bool) -> Result<(), Errno> {
        if dont_wait || self.is_nonblocking() {
            return Err(Errno::AGAIN);
        }
        if self.spin(interest) || !self.join(interest, None) {
            return Ok(());
        }
        let woken = signals::let_in(|| match interest.writable {
            true => self.sleep_for_space(),
            false => sys::wait_for_byte(self.fd()),
        });
        // Whatever else it is, it is to be heard on the socket.
        let interrupted = matches!(woken, Err(Errno(libc::EINTR | libc::EAGAIN)));
        self.part(interest, !interrupted);
        if interrupted { woken } else { Ok(()) }
    }

    fn sleep_for_space(&self) -> Result<(), Errno> {
        let fd = self.fd();
        let Some(timeout) = sys::send_timeout(fd) else {
            // Signals restart this one, as they do a write that may wait for ever. The
            // time that reading may take is none of it.
            return match sys::wait_for_byte(fd) {
                Err(Errno::AGAIN) => Ok(()),
                woken => woken,
            };
        };
        let mut entry = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
        match sys::ppoll(&mut entry, Some(timeout), std::ptr::null())? {
            0 => Err(Errno::AGAIN),
            _ => Ok(()),
        }
    }

    /// Spins for `interest`, if that may pay. Returns whether it came.
    fn spin(&self, interest: Interest) -> bool {
        let Some(ring) = self.ring() else { return false };
        let Some(mut policy) = self.spinning() else { return false };
        spin::until(&mut policy, || ring.is_ready(interest), |_| false)
    }

    /// The policy, if spinning for this connection may pay.
    pub(crate) fn spinning(&self) -> Option<MutexGuard<'_, SpinPolicy>> {
        // One thread spins at a time; another sleeps.
        let policy = self.policy.try_lock().ok()?;
        self.ring()?.may_spin(&policy).then_some(policy)
    }

    pub(crate) fn forget_mode(&self) {
        self.blocking.store(MODE_UNKNOWN, Relaxed);
    }

    fn is_nonblocking(&self) -> bool {
        match self.blocking.load(Relaxed) {
            MODE_BLOCKING => false,
            MODE_NONBLOCKING => true,
            _ => {
                let nonblocking = sys::is_nonblocking(self.fd());
                let mode = if nonblocking { MODE_NONBLOCKING } else { MODE_BLOCKING };
                self.blocking.store(mode, Relaxed);
                nonblocking
            }
        }
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

    // The way to shared memory and back.

    /// Marks a call that goes to the kernel with the program's bytes; `false` if
    /// they do not travel there any more.
    pub(crate) fn enter(&self) -> bool {
        // ORDERING, SeqCst: pairs with `begin_move`, which stores the phase and then
        // looks for calls: one of the two sees the other.
        self.in_kernel.fetch_add(1, SeqCst);
        let on_socket = matches!(self.phase(), Phase::Socket | Phase::Returning);
        if !on_socket {
            self.leave();
        }
        on_socket
    }

    pub(crate) fn leave(&self) {
        self.in_kernel.fetch_sub(1, SeqCst);
    }

    /// As [`Connection::enter`], to send: replies may come before the kernel returns.
    pub(crate) fn enter_to_send(&self) -> bool {
        self.sending.fetch_add(1, SeqCst);
        let on_socket = self.enter();
        if !on_socket {
            self.sending.fetch_sub(1, SeqCst);
        }
        on_socket
    }

    /// The program sent the first `count` bytes of `spans` on the socket.
    pub(crate) fn note_sent(self: &Arc<Self>, spans: Spans<'_>, count: usize) {
        self.note(|tracker| {
            let is_last = self.sending.fetch_sub(1, SeqCst) == 1;
            each(spans, count, |bytes| tracker.sent(bytes))?;
            if is_last { tracker.all_sent() } else { Ok(()) }
        });
    }

    /// The program received so many bytes from the socket.
    pub(crate) fn note_received(self: &Arc<Self>, spans: Spans<'_>, count: usize) {
        self.note(|tracker| {
            let may_be_early = self.may_be_early();
            each(spans, count, |bytes| tracker.received(bytes, may_be_early))
        });
    }

    /// Whether replies may have come to what is not tracked yet. To be asked with the
    /// tracker locked.
    fn may_be_early(&self) -> bool {
        self.sending.load(SeqCst) > 0
    }

    fn note(self: &Arc<Self>, see: impl FnOnce(&mut Tracker) -> Result<(), GivenUp>) {
        let result = lock(&self.tracker).as_mut().map_or(Ok(()), see);
        if result.is_err() {
            self.give_up();
        }
    }

    /// Leaves it on its socket for good: it is none of our business any more. Returns
    /// whether it could: not once the server has been asked.
    pub(crate) fn give_up(self: &Arc<Self>) -> bool {
        {
            // Whoever begins a move holds the mover.
            let _mover = lock(&self.mover);
            if self.phase() != Phase::Socket {
                return false;
            }
            *lock(&self.tracker) = None;
        }
        for fd in lock(&self.fds).clone() {
            table::clear(fd);
            table::note_watched(fd);
        }
        for (epoll, fd) in self.watchers() {
            epoll.forget(fd);
        }
        true
    }

    /// Whether it is time to ask the server.
    pub(crate) fn may_move(&self) -> bool {
        self.phase() == Phase::Socket && lock(&self.tracker).as_ref().is_some_and(Tracker::may_move)
    }

    /// Asks the server to go on in shared memory, if everything is quiet.
    pub(crate) fn begin_move(self: &Arc<Self>) {
        // A child may use the socket too; or it was closed where we could not see it.
        if self.forks != table::forks() || self.identity != sys::identity(self.fd()) {
            self.give_up();
            return;
        }
        let mut place = lock(&self.mover);
        if self.phase() != Phase::Socket {
            return;
        }
        // ORDERING, SeqCst: pairs with `enter`.
        self.phase.store(Phase::Moving as u8, SeqCst);
        let quiet = self.in_kernel.load(SeqCst) == 0
            && lock(&self.tracker).as_ref().is_some_and(Tracker::may_move);
        match quiet.then(|| Mover::begin(self.fd(), self.is_tcp)).flatten() {
            Some(mover) => *place = Some(mover),
            None => {
                self.phase.store(Phase::Socket as u8, SeqCst);
                return;
            }
        }
        if let Some(tracker) = lock(&self.tracker).as_mut() {
            tracker.asked();
        }
        drop(place);
        for (epoll, fd) in self.watchers() {
            epoll.adopt(fd, self);
        }
    }

    /// Takes what is on the socket, if nobody else sleeps on it: the mover's answers
    /// or doorbells. To be called with the sleepers locked.
    pub(crate) fn attend_alone(&self) {
        match self.phase() {
            Phase::Moving => self.advance(),
            Phase::Shared => {
                if let Some(ring) = self.ring() {
                    ring.listen(self.fd());
                }
            }
            Phase::Socket | Phase::Returning => {}
        }
    }

    /// Takes what the server answered, and goes on.
    fn advance(&self) {
        let mut place = lock(&self.mover);
        let Some(mover) = place.as_mut() else { return };
        let outcome = mover.advance(self.fd());
        let kept = mover.take_kept();
        let unseen = kept[kept.len() - mover.unseen_bytes()..].to_vec();
        if !kept.is_empty() {
            let mut all = lock(&self.kept);
            all.extend(kept);
            self.kept_bytes.store(all.len(), Relaxed);
        }
        let next = match outcome {
            Outcome::Waiting => return,
            Outcome::Moved(ring) => {
                self.move_into(ring, mover);
                Phase::Shared
            }
            Outcome::Refused(refusal) => {
                let mut tracker = lock(&self.tracker);
                mover.flush_to_socket(self.fd());
                if self.write_shut.load(Relaxed) {
                    sys::shut_down_writing(self.fd());
                }
                let held_back = mover.take_held_back();
                let still_tracked = tracker.as_mut().is_some_and(|tracker| {
                    if refusal.may_be_retried() {
                        tracker.refused_transiently();
                    }
                    !refusal.is_permanent()
                        && tracker.sent(&held_back).is_ok()
                        && tracker.received(&unseen, false).is_ok()
                });
                if !still_tracked {
                    *tracker = None;
                }
                Phase::Returning
            }
        };
        *place = None;
        // ORDERING, SeqCst: publishes the ring, too.
        self.phase.store(next as u8, SeqCst);
    }

    fn move_into(&self, ring: Duplex, mover: &mut Mover) {
        let held_back = mover.take_held_back();
        // The ring is empty and larger than what is ever held back.
        drop(ring.write(self.fd(), &[std::io::IoSlice::new(&held_back)]));
        if self.write_shut.load(Relaxed) {
            ring.close_writing(self.fd());
        }
        if self.is_tcp {
            sys::send_at_once(self.fd());
        }
        self.ring.set(ring).ok();
        lock(&self.fds).iter().copied().for_each(sys::close_on_exec);
    }

    /// After a refusal: back to the kernel, once what was kept has been read.
    pub(crate) fn settle(&self) {
        if self.phase() != Phase::Returning || self.kept_bytes.load(Relaxed) > 0 {
            return;
        }
        self.phase.store(Phase::Socket as u8, SeqCst);
        for (epoll, fd) in self.watchers() {
            epoll.give_back(fd);
        }
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

    /// The program exits. What it has written is still to be executed.
    pub(crate) fn finish(&self) {
        // A signal handler may exit in the middle of anything.
        let holds_back = || self.mover.try_lock().is_ok_and(|mover| holds_back(&mover));
        if self.phase() == Phase::Moving && holds_back() {
            self.end(self.fd());
        }
    }

    /// The program ends both directions. What it has written is still to be executed.
    fn end(&self, fd: RawFd) {
        // A server that cannot send its answer any more ends the client before it reads on.
        while holds_back(&lock(&self.mover)) {
            const PATIENCE: libc::timespec = libc::timespec { tv_sec: 1, tv_nsec: 0 };
            let mut entry = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
            if sys::ppoll(&mut entry, Some(PATIENCE), std::ptr::null()) == Ok(0) {
                // It is stopped, or far too busy.
                break;
            }
            self.advance();
        }
        if let Some(mover) = lock(&self.mover).take() {
            self.write_shut.store(true, Relaxed);
            mover.hand_over(fd);
        }
        if let Some(ring) = self.ring() {
            ring.close(fd);
        }
    }

    /// `shutdown(2)`. Returns whether the kernel is to do it as well.
    pub(crate) fn shut_down(&self, how: libc::c_int) -> bool {
        // Keeps a move from ending meanwhile.
        let sleepers = lock(&self.sleepers);
        if !self.is_moved() {
            return true;
        }
        // The socket has to carry doorbells as long as one direction is open.
        match (how, self.ring()) {
            (libc::SHUT_RD, Some(_)) => {
                self.read_shut.store(true, Relaxed);
                // Nothing else wakes who waits for data; it ends the doorbells.
                return sleepers.for_data();
            }
            (libc::SHUT_WR, Some(ring)) => ring.close_writing(self.fd()),
            (libc::SHUT_WR, None) => self.write_shut.store(true, Relaxed),
            (libc::SHUT_RDWR, _) => {
                self.read_shut.store(true, Relaxed);
                self.end(self.fd());
                return true;
            }
            // Moving, or nonsense.
            _ => return true,
        }
        false
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

fn holds_back(mover: &Option<Mover>) -> bool {
    mover.as_ref().is_some_and(Mover::holds_back)
}

fn each(
    spans: Spans<'_>,
    count: usize,
    mut see: impl FnMut(&[u8]) -> Result<(), GivenUp>,
) -> Result<(), GivenUp> {
    let mut result = Ok(());
    spans.for_each_of(count, |bytes| {
        result = see(bytes);
        result.is_ok()
    });
    result
}

/// `sources` without their first `skip` bytes in all.
fn without_first<'a>(
    sources: &'a [std::io::IoSlice<'a>],
    mut skip: usize,
) -> Vec<std::io::IoSlice<'a>> {
    let rest = |source: &'a std::io::IoSlice<'a>| {
        let skipped = skip.min(source.len());
        skip -= skipped;
        std::io::IoSlice::new(&source[skipped..])
    };
    sources.iter().map(rest).filter(|rest| !rest.is_empty()).collect()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
