//! Counters of everything the engine does, for operators.

use crate::os::wait::SpinEnd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter that any thread may raise.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, amount: u64) {
        // ORDERING, Relaxed: statistics; no data depends on it.
        self.0.fetch_add(amount, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// What the engine has done since the process started.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        #[derive(Debug)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)+
        }

        pub(super) static COUNTERS: Counters = Counters {
            $($name: Counter(AtomicU64::new(0)),)+
        };

        /// The counters at this moment.
        #[must_use]
        pub fn stats() -> Stats {
            Stats { $($name: COUNTERS.$name.get(),)+ }
        }
    };
}

counters! {
    /// Connections moved onto shared memory.
    sessions_started,
    /// Connections whose peers went back to their sockets.
    sessions_returned,
    /// Connections that were ended because the peer broke the protocol.
    protocol_violations,
    /// Doorbell bytes sent to peers.
    doorbells_sent,
    /// Doorbell bytes received from peers.
    doorbells_received,
    /// Times an event loop went to sleep with connections announced as parked.
    parks,
    /// Spins that ended with a peer's bytes.
    spins_won,
    /// Spins that ran out of their budget.
    spins_expired,
    /// Spins in which the scheduler took the CPU away.
    spins_preempted,
    /// Times an event loop gave up spinning for a while, because it did not pay.
    spin_backoffs,
    /// Nanoseconds spent spinning.
    spin_ns,
    /// Bytes found in a parked connection whose doorbell never rang. 0 unless a
    /// peer misbehaves.
    missed_doorbells,
}

impl Counters {
    pub(super) fn count_spin(&self, end: SpinEnd, spent_ns: u64) {
        self.spin_ns.add(spent_ns);
        match end {
            SpinEnd::Won => self.spins_won.add(1),
            SpinEnd::Expired => self.spins_expired.add(1),
            SpinEnd::Preempted => self.spins_preempted.add(1),
            SpinEnd::Interrupted => {}
        }
    }
}
