//! The way back from shared memory to the socket, for what only a socket can do: another
//! process is to have it, too, or the C library is to read and write it.

use super::{Connection, Phase, lock};
use crate::report::Reason;
use crate::{signals, sys};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// So long a call waits for the server, which answers in its next turn.
const LONGEST_NS: u64 = 5_000_000_000;
/// Where another thread is about to take the answer.
const MOMENT_NS: i64 = 50_000;

impl Connection {
    /// Leaves it on its socket for good, or brings it back there, with all that was neither
    /// executed nor read. Returns whether it is there: not where the server has not answered
    /// in time, bytes are left that had come before it moved, or a direction has ended.
    pub(crate) fn come_back(self: &Arc<Self>, reason: Reason) -> bool {
        let deadline_ns = sys::monotonic_ns() + LONGEST_NS;
        while !self.give_up(reason) {
            self.settle();
            let may_come = match self.phase() {
                Phase::Socket => true,
                Phase::Shared => self.ask_back(),
                Phase::Returning => !self.has_kept(),
                Phase::Opening | Phase::Starting | Phase::Leaving => true,
            };
            if !may_come {
                return false;
            }
            if self.is_being_asked() && !self.await_answer(deadline_ns) {
                return false;
            }
        }
        true
    }

    /// Asks the server to go on over the socket. Returns whether that has begun.
    fn ask_back(&self) -> bool {
        // Who takes something off the socket holds these.
        let _sleepers = lock(&self.sleepers);
        let _mover = lock(&self.mover);
        let ring = self.ring().filter(|_| self.phase() == Phase::Shared);
        let has_ended = self.reading_has_ended() || self.write_shut.load(Relaxed);
        let has_left = |fd: RawFd| ring.is_some_and(|ring| ring.leave(fd).is_ok());
        if self.has_kept() || has_ended || !has_left(self.fd()) {
            return false;
        }
        // ORDERING, SeqCst: as in `quietly`.
        self.phase.store(Phase::Leaving as u8, SeqCst);
        true
    }

    /// Waits for something on the socket, and takes it. Returns whether there is time left.
    fn await_answer(self: &Arc<Self>, deadline_ns: u64) -> bool {
        let left_ns = deadline_ns.saturating_sub(sys::monotonic_ns());
        if self.fd() < 0 {
            // Another thread has closed it.
            return false;
        }
        signals::let_in(|| sys::wait_readable(self.fd(), Some(left_ns)).ok()).ok();
        self.attend(None);
        self.settle();
        if self.is_being_asked() {
            sys::nap(MOMENT_NS);
        }
        left_ns > 0
    }

    /// Takes the server's answer, with the sleepers and the mover locked. Returns whether it
    /// was there.
    pub(super) fn finish_leaving(&self) -> bool {
        let Some(ring) = self.ring() else { return false };
        match ring.has_peer_left(self.fd()) {
            Ok(false) => return false,
            Ok(true) => {}
            Err(_) => {
                // It has ended instead, where it was.
                self.phase.store(Phase::Shared as u8, SeqCst);
                return true;
            }
        }
        sys::set_least_bytes(self.fd(), self.least_bytes.load(Relaxed));
        self.phase.store(Phase::Returning as u8, SeqCst);
        // Behind the phase: a copy that is made meanwhile is either left alone or found here.
        self.restore_flags();
        true
    }
}
