//! A connection's way to shared memory and back, and its end, which may come at any
//! moment of it.

use super::{Connection, Phase, lock};
use crate::mover::{Mover, Outcome};
use crate::spans::Spans;
use crate::track::{GivenUp, Tracker};
use crate::{sys, table};
use shm_fifo::Duplex;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

impl Connection {
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
    pub(super) fn may_be_early(&self) -> bool {
        self.sending.load(SeqCst) > 0
    }

    pub(super) fn note(self: &Arc<Self>, see: impl FnOnce(&mut Tracker) -> Result<(), GivenUp>) {
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

    /// The program exits. What it has written is still to be executed.
    pub(crate) fn finish(&self) {
        // A signal handler may exit in the middle of anything.
        let holds_back = || self.mover.try_lock().is_ok_and(|mover| holds_back(&mover));
        if self.phase() == Phase::Moving && holds_back() {
            self.end(self.fd());
        }
    }

    /// The program ends both directions. What it has written is still to be executed.
    pub(super) fn end(&self, fd: RawFd) {
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
