//! A connection's way to shared memory and back, and its end, which may come at any
//! moment of it.

use super::fate::reason_of;
use super::{Connection, Phase, lock};
use crate::mover::{self, Mover, Outcome};
use crate::report::Reason;
use crate::spans::Spans;
use crate::track::{GivenUp, Tracker};
use crate::{habits, sys, table};
use shm_fifo::duplex::Duplex;
use shm_fifo_redis_client::Refusal;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, MutexGuard};

impl Connection {
    /// Marks a call that goes to the kernel to read; `false` if what there is to read is
    /// not the kernel's to tell.
    pub(crate) fn enter(&self) -> bool {
        self.enter_if(|phase| matches!(phase, Phase::Socket | Phase::Returning))
    }

    /// Marks a wait for the socket itself, which asks for something to read or does not;
    /// `false` if it is ours to wait for.
    pub(crate) fn enter_to_wait(&self, wants_kept: bool) -> bool {
        self.enter_if(|phase| match phase {
            Phase::Socket => true,
            Phase::Returning => !wants_kept,
            _ => false,
        })
    }

    fn enter_if(&self, may_enter: impl FnOnce(Phase) -> bool) -> bool {
        // ORDERING, SeqCst: pairs with `quietly`, which stores the phase and then
        // looks for calls: one of the two sees the other.
        self.in_kernel.fetch_add(1, SeqCst);
        let may_enter = may_enter(self.phase());
        if !may_enter {
            self.leave();
        }
        may_enter
    }

    pub(crate) fn leave(&self) {
        self.in_kernel.fetch_sub(1, SeqCst);
    }

    /// As [`Connection::enter`], to send: that may go on behind `SHM.OPEN`. Replies may come
    /// before the kernel returns.
    pub(crate) fn enter_to_send(&self) -> bool {
        self.sending.fetch_add(1, SeqCst);
        let is_for_kernel =
            |phase| matches!(phase, Phase::Socket | Phase::Opening | Phase::Returning);
        let may_enter = self.enter_if(is_for_kernel);
        if !may_enter {
            self.sending.fetch_sub(1, SeqCst);
        }
        may_enter
    }

    /// The program sent the first `count` bytes of `spans` on the socket.
    pub(crate) fn note_sent(self: &Arc<Self>, spans: Spans<'_>, count: usize) {
        if count > 0 {
            self.note_written();
        }
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
    pub(super) fn may_be_early(&self) -> bool {
        self.sending.load(SeqCst) > 0
    }

    pub(super) fn note(self: &Arc<Self>, see: impl FnOnce(&mut Tracker) -> Result<(), GivenUp>) {
        let mut tracker = lock(&self.tracker);
        let Some(known) = tracker.as_mut() else { return };
        if see(known).is_err() {
            *tracker = None;
            drop(tracker);
            // Not while an answer is on its way, which is to be taken out of the stream.
            self.give_up(Reason::NotUnderstood);
        }
    }

    /// Leaves it on its socket for good: it is none of our business any more. Returns
    /// whether it could: not once the server has been asked, and not answered.
    pub(crate) fn give_up(self: &Arc<Self>, reason: Reason) -> bool {
        {
            // Whoever begins a step of a move holds the mover.
            let mut mover = lock(&self.mover);
            if self.phase() != Phase::Socket {
                return false;
            }
            *mover = None;
            *lock(&self.tracker) = None;
        }
        if self.watchers().iter().any(|epoll| epoll.withholds(self.id)) {
            self.stays(reason);
            return true;
        }
        for fd in lock(&self.fds).clone() {
            table::clear_if(fd, self.id);
        }
        self.leave_watchers();
        self.stays(reason);
        true
    }

    /// Goes one step further to shared memory, if this is a moment for it: the program has
    /// just read a reply.
    pub(crate) fn proceed(self: &Arc<Self>) {
        if self.phase() != Phase::Socket {
            return;
        }
        let may_ask = match lock(&self.tracker).as_ref() {
            Some(tracker) if tracker.is_quiet() => tracker.may_ask(),
            _ => return,
        };
        let is_offered = lock(&self.mover).as_deref().is_some_and(Mover::is_offered);
        if !is_offered && !may_ask {
            return;
        }
        if !self.is_seen_waiting() {
            self.stays(Reason::NotSeenWaiting);
        } else if self.forks != table::forks() {
            self.give_up(Reason::SharedWithChild);
        } else if self.identity != sys::identity(self.fd()) {
            self.give_up(Reason::Replaced);
        } else if let Some(reason) = habits::known() {
            self.give_up(reason);
        } else if is_offered {
            self.start();
        } else if let Some(refusal) = self.known_refusal() {
            self.stays(reason_of(&refusal));
        } else {
            self.open();
        }
    }

    fn known_refusal(&self) -> Option<Refusal> {
        lock(&self.tracker).as_mut().and_then(Tracker::known_refusal)
    }

    /// Asks the server to go on in shared memory.
    fn open(self: &Arc<Self>) {
        self.quietly(Phase::Opening, lock(&self.mover), |place| {
            *place = Mover::open(self.fd(), self.is_tcp).map(Box::new);
            if place.is_some()
                && let Some(tracker) = lock(&self.tracker).as_mut()
            {
                tracker.asked();
            }
            place.is_some()
        });
    }

    /// Accepts the server's offer.
    fn start(self: &Arc<Self>) {
        let mut place = lock(&self.mover);
        if place.as_deref().is_none_or(Mover::is_stale) {
            *place = None;
            if let Some(tracker) = lock(&self.tracker).as_mut() {
                tracker.missed_offer();
            }
            return;
        }
        let mut is_broken = false;
        self.early_bytes.store(0, Relaxed);
        self.quietly(Phase::Starting, place, |place| {
            is_broken = !place.as_mut().is_some_and(|mover| mover.start(self.fd()));
            self.close_on_exec();
            // What went in part, or into a socket that has ended, ends the connection.
            true
        });
        if is_broken {
            self.attend(None);
        }
    }

    /// What has moved ends with the program's image.
    fn close_on_exec(&self) {
        let fds = lock(&self.fds).clone();
        let kept_on_exec = fds.into_iter().filter(|&fd| sys::close_on_exec(fd));
        lock(&self.kept_on_exec).extend(kept_on_exec);
    }

    /// Enters `phase` by `step`, if nobody is in the kernel with the socket and no reply is
    /// outstanding; `step` returns whether it was taken.
    fn quietly(
        self: &Arc<Self>,
        phase: Phase,
        mut place: MutexGuard<'_, Option<Box<Mover>>>,
        step: impl FnOnce(&mut Option<Box<Mover>>) -> bool,
    ) {
        if self.phase() != Phase::Socket {
            return;
        }
        // ORDERING, SeqCst: pairs with `enter_if`.
        self.phase.store(phase as u8, SeqCst);
        let is_quiet = self.in_kernel.load(SeqCst) == 0
            && lock(&self.tracker).as_ref().is_some_and(Tracker::is_quiet);
        let has_entered = is_quiet && step(&mut place);
        if !has_entered {
            self.phase.store(Phase::Socket as u8, SeqCst);
        }
        drop(place);
        for epoll in self.watchers() {
            if has_entered {
                epoll.adopt(self);
            } else {
                // Another thread may have changed what it is watched for meanwhile: that took it
                // for ours.
                epoll.give_back(self);
            }
        }
    }

    /// Takes what is on the socket, if nobody else sleeps on it: the server's answers
    /// or doorbells. To be called with the sleepers locked. Returns whether that may be
    /// news to others.
    pub(crate) fn attend_alone(&self) -> bool {
        match self.phase() {
            Phase::Opening | Phase::Starting | Phase::Leaving => self.advance(),
            Phase::Shared => {
                if let Some(ring) = self.ring() {
                    ring.listen(self.fd());
                }
                true
            }
            Phase::Socket | Phase::Returning => false,
        }
    }

    /// Takes what the server answered, and goes on. Returns whether that changed anything.
    fn advance(&self) -> bool {
        let mut place = lock(&self.mover);
        if self.phase() == Phase::Leaving {
            return self.finish_leaving();
        }
        // Who looked at the phase without this lock may have seen a step that was not taken.
        let Some(mover) = place.as_mut().filter(|_| self.is_being_asked()) else { return false };
        let outcome = mover.advance(self.fd(), self.kept_bytes.load(Relaxed));
        let kept = mover.take_kept();
        let has_news = !kept.is_empty();
        if has_news {
            let mut all = lock(&self.kept);
            self.kept_in_all.fetch_add(kept.len() as u64, Relaxed);
            all.extend(kept);
            self.kept_bytes.store(all.len(), Relaxed);
        }
        let next = match outcome {
            Outcome::Waiting => return has_news,
            Outcome::Moved(ring) => {
                *place = None;
                self.move_into(ring);
                Phase::Shared
            }
            Outcome::Offered => Phase::Returning,
            Outcome::Refused(refusal, unread) => {
                *place = None;
                self.return_with(&unread);
                self.note_refusal(&refusal, &unread);
                Phase::Returning
            }
            Outcome::Broken => {
                *place = None;
                self.restore_flags();
                *lock(&self.tracker) = None;
                self.stays(Reason::NotUnderstood);
                Phase::Returning
            }
        };
        // ORDERING, SeqCst: publishes the ring, too.
        self.phase.store(next as u8, SeqCst);
        true
    }

    /// Goes on over the socket: first of all by `unread`.
    fn return_with(&self, unread: &[u8]) {
        if !mover::flush(self.fd(), unread) {
            // Nothing may come behind what has not gone.
            sys::shut_down(self.fd(), libc::SHUT_RDWR);
        } else if self.write_shut.load(Relaxed) {
            sys::shut_down(self.fd(), libc::SHUT_WR);
        }
        self.restore_flags();
    }

    /// It stays open on `exec` after all, where the program wanted that.
    pub(super) fn restore_flags(&self) {
        let left = lock(&self.fds);
        let kept_on_exec = std::mem::take(&mut *lock(&self.kept_on_exec));
        kept_on_exec.into_iter().filter(|fd| left.contains(fd)).for_each(sys::keep_on_exec);
    }

    /// The server refused, and these bytes went on the socket after all.
    fn note_refusal(&self, refusal: &Refusal, sent: &[u8]) {
        let mut tracker = lock(&self.tracker);
        let is_understood = tracker.as_mut().is_some_and(|tracker| {
            tracker.refused(refusal);
            tracker.sent(sent).is_ok()
        });
        if !is_understood {
            *tracker = None;
        }
        drop(tracker);
        self.stays(reason_of(refusal));
    }

    fn move_into(&self, ring: Duplex) {
        if self.is_tcp {
            sys::send_at_once(self.fd());
        }
        if self.write_shut.load(Relaxed) {
            // It was, in the ring, before the server looked; now it may be rung for.
            ring.close_writing(self.fd());
        }
        if self.waits_unseen.load(Relaxed) {
            self.ring_always(&ring);
        }
        self.ring.set(ring).ok();
        self.has_moved();
    }

    /// Back to the kernel, once what was kept has been read.
    pub(crate) fn settle(self: &Arc<Self>) {
        if self.phase() != Phase::Returning {
            return;
        }
        if self.kept_bytes.load(Relaxed) > 0 {
            // The kernel can tell those of it who do not ask for that.
            self.watchers().iter().for_each(|epoll| epoll.give_back(self));
            return;
        }
        if !self.returns() {
            return;
        }
        for epoll in self.watchers() {
            epoll.give_back(self);
        }
        let is_understood = lock(&self.tracker).is_some();
        if self.is_watched_by_closed_number() {
            self.give_up(Reason::Watched);
        } else if self.ring().is_some() {
            // It was brought back.
            self.give_up(Reason::SharedWithChild);
        } else if is_understood {
            // The program may read no other reply for long: an offer does not last.
            self.proceed();
        } else {
            self.give_up(Reason::NotUnderstood);
        }
    }

    /// Goes back to the socket, if it is returning and nothing is kept: another thread may have
    /// done it, and moved it again, since the caller looked. Returns whether this one did.
    fn returns(&self) -> bool {
        // Nothing is kept, and nothing moves, while the mover is locked.
        let _mover = lock(&self.mover);
        if self.phase() != Phase::Returning || self.has_kept() {
            return false;
        }
        if self.read_shut.load(Relaxed) {
            sys::shut_down(self.fd(), libc::SHUT_RD);
        }
        self.phase.store(Phase::Socket as u8, SeqCst);
        true
    }

    /// The program ends both directions of the socket `fd`, or has closed it: -1. What it
    /// has written is still to be executed.
    pub(super) fn end(&self, fd: RawFd) {
        const NOWHERE: RawFd = -1;
        self.write_shut.store(true, Relaxed);
        // Nothing may follow `SHM.START` on the socket, not even a doorbell. The server
        // finds what was written, and its end, in the ring when it starts.
        self.with_early_ring(|ring| ring.close_writing(NOWHERE));
        *lock(&self.mover) = None;
        if let Some(ring) = self.ring() {
            ring.close(fd);
        }
    }

    /// `shutdown(2)`. Returns whether the kernel is to do it as well.
    pub(crate) fn shut_down(self: &Arc<Self>, how: libc::c_int) -> bool {
        // Who sleeps for data hears of it from the kernel, whose socket must carry doorbells. What
        // is there to be read is to be read afterwards, too, and would not come by the socket.
        if (how, self.phase()) == (libc::SHUT_RD, Phase::Shared)
            && self.available_bytes() == Some(0)
            && self.come_back(Reason::NotUnderstood)
        {
            return true;
        }
        let to_kernel = self.shut_down_rings(how);
        self.tell_watchers(None);
        to_kernel
    }

    fn shut_down_rings(&self, how: libc::c_int) -> bool {
        const NOWHERE: RawFd = -1;
        // Keeps a move from ending meanwhile.
        let sleepers = lock(&self.sleepers);
        match (how, self.phase()) {
            (_, Phase::Socket | Phase::Returning) => {
                // An answer to `SHM.OPEN` would come behind the end, or not at all: it stays.
                *lock(&self.tracker) = None;
                return true;
            }
            (libc::SHUT_RDWR, Phase::Opening) => return true,
            (libc::SHUT_WR, Phase::Opening) => return true,
            // The socket has to carry doorbells as long as one direction is open.
            (libc::SHUT_RD, Phase::Shared) => {
                self.read_shut.store(true, Relaxed);
                // Nothing else wakes who waits for data; it ends the doorbells.
                return sleepers.for_data();
            }
            (libc::SHUT_RD, phase) => {
                self.read_shut.store(true, Relaxed);
                if phase == Phase::Opening {
                    // The kernel is told of it once the answer is there: nothing that came behind
                    // `SHM.START` could be received. It stays.
                    *lock(&self.tracker) = None;
                }
            }
            (libc::SHUT_WR, Phase::Starting) => {
                self.write_shut.store(true, Relaxed);
                self.with_early_ring(|ring| ring.close_writing(NOWHERE));
            }
            (libc::SHUT_WR, Phase::Shared) => {
                self.write_shut.store(true, Relaxed);
                if let Some(ring) = self.ring() {
                    ring.close_writing(self.fd());
                }
            }
            (libc::SHUT_RDWR, phase) => {
                self.read_shut.store(true, Relaxed);
                self.end(self.fd());
                // With the rings the socket was ended. Once more is an error, where the peer has
                // answered meanwhile.
                return phase != Phase::Shared;
            }
            // Nonsense, for the kernel to say so.
            _ => return true,
        }
        false
    }
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
