//! Who sleeps until something comes on a connection's socket.
//!
//! A connection has one socket and one parked word for each direction, whatever the
//! number of threads that sleep for it and of epoll instances in which it is parked. So
//! the last who wants a direction takes its announcement back. A doorbell is taken off
//! the socket by the last of the threads that sleep on it alone (before that all are
//! woken by it), who then tells the epoll instances.

use crate::connection::{Connection, Phase, lock};
use crate::epoll::Epoll;
use crate::sleeps;
use shm_fifo::Interest;
use std::sync::Arc;

/// How many want to be woken, and for what.
#[derive(Debug, Default)]
pub(crate) struct Sleepers {
    /// Threads that sleep on the socket, not by way of an epoll instance.
    threads: u32,
    data: u32,
    space: u32,
}

impl Sleepers {
    /// Whether somebody waits for something to read.
    pub(crate) fn for_data(&self) -> bool {
        self.data > 0
    }

    /// The part of `interest` that nobody sleeps for.
    fn unwanted(&self, interest: Interest, is_alert: bool) -> Interest {
        Interest {
            readable: interest.readable && self.data == 0 && !is_alert,
            writable: interest.writable && self.space == 0,
        }
    }

    fn add(&mut self, interest: Interest) {
        self.data += u32::from(interest.readable);
        self.space += u32::from(interest.writable);
    }

    fn remove(&mut self, interest: Interest) {
        self.data -= u32::from(interest.readable);
        self.space -= u32::from(interest.writable);
    }
}

impl Connection {
    /// Announces that this thread is about to sleep for `interest`, on the socket. Returns
    /// whether it may: `false`, nothing announced, if that is there.
    #[must_use = "on false it is there: do not sleep"]
    pub(crate) fn join(self: &Arc<Self>, interest: Interest) -> bool {
        self.join_behind(interest, self.noticed())
    }

    /// The same for a call on this connection alone: it takes whatever comes, though it may
    /// be less than the program wants to hear of.
    #[must_use = "on false it is there: do not sleep"]
    pub(crate) fn join_alone(self: &Arc<Self>, interest: Interest) -> bool {
        self.join_behind(interest, None)
    }

    fn join_behind(self: &Arc<Self>, interest: Interest, noticed: Option<u64>) -> bool {
        let mut sleepers = lock(&self.sleepers);
        // Another thread may have heard a refusal: what this one waits for is the kernel's again.
        let is_ours = self.is_virtual();
        let may_sleep = is_ours && self.announce(&mut sleepers, interest, noticed);
        if may_sleep {
            sleepers.threads += 1;
            sleeps::begin(self, interest);
        }
        may_sleep
    }

    /// This thread, having joined for `interest`, is awake. `rung` says whether
    /// something is on the socket.
    pub(crate) fn part(self: &Arc<Self>, interest: Interest, rung: bool) {
        if sleeps::end(self, interest) {
            self.left(interest);
        }
        if rung {
            self.attend(None);
        }
    }

    /// A thread that had joined for `interest` is awake, or will not be again.
    pub(crate) fn left(&self, interest: Interest) {
        let mut sleepers = lock(&self.sleepers);
        sleepers.threads -= 1;
        self.withdraw(&mut sleepers, interest);
    }

    /// It is parked in an epoll instance for `interest`. Returns whether it may be, as
    /// [`Connection::join`]. Whoever has noticed the bytes up to `noticed`, and left them,
    /// waits for those behind.
    #[must_use = "on false it is there: do not sleep"]
    pub(crate) fn park(&self, interest: Interest, noticed: Option<u64>) -> bool {
        self.note_seen_waiting();
        self.announce(&mut lock(&self.sleepers), interest, noticed.or_else(|| self.noticed()))
    }

    /// It is no more.
    pub(crate) fn unpark(&self, interest: Interest) {
        self.withdraw(&mut lock(&self.sleepers), interest);
    }

    /// Something may be on the socket: takes it, unless there are threads asleep, who are
    /// woken by it. Other epoll instances than `except` hear of it.
    pub(crate) fn attend(self: &Arc<Self>, except: Option<&Epoll>) {
        if self.attend_quietly() {
            self.tell_watchers(except);
        }
    }

    /// The same, with an epoll instance's lock: returns whether others are to hear of it.
    pub(crate) fn attend_quietly(&self) -> bool {
        self.note_woken();
        let sleepers = lock(&self.sleepers);
        sleepers.threads == 0 && self.attend_alone()
    }

    /// The socket has ended: that wakes all who sleep on it, whoever takes the doorbells before.
    #[cold]
    pub(crate) fn hear_the_end(&self) {
        let _sleepers = lock(&self.sleepers);
        if let Some(ring) = self.ring().filter(|_| self.phase() == Phase::Shared) {
            ring.listen(self.fd());
        }
    }

    fn announce(&self, sleepers: &mut Sleepers, interest: Interest, noticed: Option<u64>) -> bool {
        let may_sleep = match self.phase() {
            Phase::Shared if noticed.is_some() || !self.is_ready(interest) => {
                self.ring().is_none_or(|ring| ring.park(self.fd(), interest, noticed))
            }
            Phase::Shared => false,
            Phase::Socket => true,
            Phase::Opening | Phase::Starting | Phase::Leaving => !self.is_ready(interest),
            // It is to be settled first, or has something to read.
            Phase::Returning => false,
        };
        if may_sleep {
            sleepers.add(interest);
        } else if let Some(ring) = self.ring() {
            ring.unpark(sleepers.unwanted(interest, self.is_alert()));
        }
        may_sleep
    }

    fn withdraw(&self, sleepers: &mut Sleepers, interest: Interest) {
        sleepers.remove(interest);
        if let Some(ring) = self.ring() {
            ring.unpark(sleepers.unwanted(interest, self.is_alert()));
        }
    }
}
