//! Waiting, in a call on one connection alone.

use super::{Connection, MODE_BLOCKING, MODE_NONBLOCKING, MODE_UNKNOWN, Manner};
use crate::errno::Errno;
use crate::{signals, sys};
use shm_fifo::{Interest, SpinPolicy, channel::SpinEnd};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard};

/// The waits of one call: to the socket's timeouts, and to signals, they are one.
#[derive(Debug)]
pub(super) struct Wait {
    interest: Interest,
    has_begun: bool,
    /// When it first slept.
    slept_ns: Option<u64>,
}

impl Wait {
    pub(super) fn new(interest: Interest) -> Self {
        Self { interest, has_begun: false, slept_ns: None }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Sleeps until something comes on `socket`, at most for what is left of its timeout. A
    /// call that `has_some` of what it wants ends with that at any signal; another one is
    /// restarted by the kernel, if it has no timeout and the signal's handler does that.
    fn sleep(&mut self, socket: RawFd, has_some: bool) -> Result<(), Errno> {
        let reads = self.interest.readable;
        let (is_first, now_ns) = (self.slept_ns.is_none(), sys::monotonic_ns());
        let slept_ns = *self.slept_ns.get_or_insert(now_ns);
        if reads && is_first && !has_some {
            // The kernel knows the timeout of this one.
            return sys::wait_for_byte(socket);
        }
        let timeout_ns =
            sys::timeout_ns(socket, if reads { libc::SO_RCVTIMEO } else { libc::SO_SNDTIMEO });
        if timeout_ns.is_none() && !has_some {
            return match sys::wait_for_byte(socket) {
                // The time that reading may take is none of writing's.
                Err(Errno::AGAIN) => Ok(()),
                woken => woken,
            };
        }
        match timeout_ns.map(|all_ns| slept_ns.saturating_add(all_ns).saturating_sub(now_ns)) {
            Some(0) => Err(Errno::AGAIN),
            left_ns => sys::wait_readable(socket, left_ns),
        }
    }
}

impl Connection {
    /// Waits for what `wait` is for, in a call on this file descriptor that has done some of
    /// what it is to do already, or not.
    pub(super) fn wait_alone(
        self: &Arc<Self>,
        wait: &mut Wait,
        dont_wait: bool,
        has_some: bool,
    ) -> Result<(), Errno> {
        if dont_wait || self.is_nonblocking() {
            return Err(Errno::AGAIN);
        }
        wait.has_begun = true;
        self.note_blocking_wait();
        if self.spin(wait.interest) || !self.join_alone(wait.interest) {
            return Ok(());
        }
        let woken = signals::let_in(|| wait.sleep(self.fd(), has_some));
        let woken = woken.unwrap_or_else(|interrupted| match interrupted.restarts && !has_some {
            true => Err(Errno(libc::ERESTART)),
            false => Err(Errno(libc::EINTR)),
        });
        // Whatever else it is, it is to be heard on the socket.
        let is_over = matches!(woken, Err(Errno(libc::EINTR | libc::EAGAIN)));
        self.part(wait.interest, woken.is_ok());
        if is_over { woken } else { Ok(()) }
    }

    /// Whether a read that is the kernel's waits, where there is nothing to read.
    pub(crate) fn may_wait(&self, manner: Manner) -> bool {
        !manner.dont_wait && !self.is_nonblocking()
    }

    /// Spins for `interest`, if that may pay. Returns whether it came.
    fn spin(&self, interest: Interest) -> bool {
        let Some(mut policy) = self.spinning() else { return false };
        policy.spin(|| self.is_ready(interest), |_| signals::is_waiting()) == SpinEnd::Won
    }

    /// The policy, if spinning for this connection may pay.
    pub(crate) fn spinning(&self) -> Option<MutexGuard<'_, SpinPolicy>> {
        // One thread spins at a time; another sleeps.
        let policy = self.policy.try_lock().ok()?;
        self.ring()?.may_spin(&policy).then_some(policy)
    }

    /// Something came for which spins may have been too short.
    pub(crate) fn note_woken(&self) {
        if let Ok(mut policy) = self.policy.try_lock() {
            policy.woken(sys::monotonic_ns());
        }
    }

    pub(crate) fn forget_mode(&self) {
        let before = self.blocking.swap(MODE_UNKNOWN, Relaxed);
        let is_changed = (before == MODE_NONBLOCKING) != self.is_nonblocking();
        if before != MODE_UNKNOWN && is_changed {
            self.forget_waiting();
        }
    }

    /// Whether the file descriptor is in non-blocking mode.
    pub(crate) fn is_nonblocking(&self) -> bool {
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
}
