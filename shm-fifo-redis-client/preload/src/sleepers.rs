//! Threads that sleep until something comes on a connection's socket.
//!
//! A connection has one socket and one parked word for each direction, whatever the
//! number of threads that sleep for it. So the last one to wake takes the doorbells
//! off the socket (before that all are woken by them), and the last one that sleeps
//! for a direction takes its announcement back.

use crate::connection::{Connection, Phase, lock};
use shm_fifo::Interest;

/// How many threads sleep, and for what.
#[derive(Debug, Default)]
pub(crate) struct Sleepers {
    total: u32,
    data: u32,
    space: u32,
}

impl Sleepers {
    /// Whether somebody waits for something to read.
    pub(crate) fn for_data(&self) -> bool {
        self.data > 0
    }

    /// The part of `interest` that nobody sleeps for.
    fn unwanted(&self, interest: Interest) -> Interest {
        Interest {
            readable: interest.readable && self.data == 0,
            writable: interest.writable && self.space == 0,
        }
    }
}

impl Connection {
    /// Announces that this thread is about to sleep for `interest`. Returns whether
    /// it may: `false`, nothing announced, if that is there. Whoever has noticed
    /// the bytes up to `noticed`, and left them, sleeps for those behind.
    #[must_use = "on false it is there: do not sleep"]
    pub(crate) fn join(&self, interest: Interest, noticed: Option<u64>) -> bool {
        let mut sleepers = lock(&self.sleepers);
        let may_sleep = match self.phase() {
            Phase::Shared if noticed.is_some() || !self.is_ready(interest) => {
                self.ring().is_none_or(|ring| ring.park(self.fd(), interest, noticed))
            }
            Phase::Shared => false,
            Phase::Socket => true,
            Phase::Moving | Phase::Returning => !self.is_ready(interest),
        };
        if may_sleep {
            sleepers.total += 1;
            sleepers.data += u32::from(interest.readable);
            sleepers.space += u32::from(interest.writable);
        } else if let Some(ring) = self.ring() {
            ring.unpark(sleepers.unwanted(interest));
        }
        may_sleep
    }

    /// This thread, having joined for `interest`, is awake. `rung` says whether
    /// something is on the socket.
    pub(crate) fn part(&self, interest: Interest, rung: bool) {
        let mut sleepers = lock(&self.sleepers);
        sleepers.total -= 1;
        sleepers.data -= u32::from(interest.readable);
        sleepers.space -= u32::from(interest.writable);
        if let Some(ring) = self.ring() {
            ring.unpark(sleepers.unwanted(interest));
        }
        if rung && sleepers.total == 0 {
            self.attend_alone();
        }
    }

    /// Something may be on the socket: takes it, unless there are sleepers, who are
    /// woken by it.
    pub(crate) fn attend(&self) {
        let sleepers = lock(&self.sleepers);
        if sleepers.total == 0 {
            self.attend_alone();
        }
    }
}
