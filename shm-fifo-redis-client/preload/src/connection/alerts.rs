//! Connections whose peer is always to ring, not only while somebody sleeps in here.
//!
//! With `O_ASYNC` whatever comes on the socket raises a signal. And a program that reads in
//! blocking mode, but was never yet seen to wait there, may wait in some way that is not
//! seen: it finds the socket readable then, if not as soon as it could.

use super::{Connection, Phase, lock};
use crate::report::Reason;
use shm_fifo::{Interest, duplex::Duplex};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// `O_ASYNC` is on.
const SIGNALLED: u8 = 1;
/// Nobody was seen waiting.
const UNPROVEN: u8 = 2;

impl Connection {
    /// The program switched it on or off. A connection on its socket stays there.
    pub(crate) fn set_async(self: &Arc<Self>, is_async: bool) {
        if is_async && self.give_up(Reason::Watched) {
            return;
        }
        if is_async {
            self.alerts.fetch_or(SIGNALLED, Relaxed);
            self.ask_for_doorbells();
        } else {
            self.alerts.fetch_and(!SIGNALLED, Relaxed);
        }
    }

    /// It has moved, though the program was seen to read in blocking mode alone. To be called
    /// with the sleepers locked.
    pub(super) fn ring_always(&self, ring: &Duplex) {
        self.alerts.fetch_or(UNPROVEN, Relaxed);
        ask(ring, self.fd());
    }

    /// The program waits for it, by `poll` or an epoll instance that is served.
    #[inline]
    pub(crate) fn note_seen_waiting(&self) {
        if self.alerts.load(Relaxed) & UNPROVEN != 0 {
            self.alerts.fetch_and(!UNPROVEN, Relaxed);
        }
    }

    /// A read in blocking mode waits. A doorbell that came late may have called it, so one
    /// alone proves nothing.
    #[inline]
    pub(super) fn note_blocking_wait(&self) {
        const PROOFS: u8 = 4;
        if self.alerts.load(Relaxed) & UNPROVEN != 0 && self.proofs.fetch_add(1, Relaxed) >= PROOFS
        {
            self.note_seen_waiting();
        }
    }

    /// A read found something at once: the program may have waited in some other way.
    #[inline]
    pub(super) fn note_no_wait(&self) {
        if self.alerts.load(Relaxed) & UNPROVEN != 0 {
            self.proofs.store(0, Relaxed);
        }
    }

    /// Whether its peer is always to ring.
    pub(crate) fn is_alert(&self) -> bool {
        self.alerts.load(Relaxed) != 0
    }

    /// After something was read: the next bytes are to ring.
    #[inline]
    pub(crate) fn rearm_alerts(self: &Arc<Self>) {
        if self.is_alert() {
            self.ask_for_doorbells();
        }
    }

    #[cold]
    fn ask_for_doorbells(self: &Arc<Self>) {
        if self.phase() != Phase::Shared {
            return;
        }
        // Doorbells that were for what has been read, and may be news to who watches it.
        self.attend(None);
        let sleepers = lock(&self.sleepers);
        if let Some(ring) = self.ring() {
            ask(ring, self.fd());
        }
        drop(sleepers);
    }
}

/// What is there is read by whoever is reading now: what comes behind it is to ring.
fn ask(ring: &Duplex, fd: RawFd) {
    let _is_behind = ring.park(fd, Interest::READABLE, Some(ring.arrivals()));
}
