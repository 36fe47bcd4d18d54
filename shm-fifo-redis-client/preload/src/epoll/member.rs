//! One registration of a connection in an epoll instance, and what is to be told of it.

use super::{EDGE, EXCLUSIVE, ONE_SHOT};
use crate::connection::{Connection, HANG_UP, Phase, WRITABLE, interest_of};
use libc::epoll_event;
use shm_fifo::Interest;
use shm_fifo::interposer::pace::GRACE_NS;
use std::os::fd::RawFd;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) fd: RawFd,
    pub(super) connection: Arc<Connection>,
    events: u32,
    pub(super) data: u64,
    /// The program watches it; else it only did, and may come back.
    pub(super) is_watched: bool,
    /// It is to be reported; not so after a one-shot report.
    pub(super) is_armed: bool,
    pub(super) place: Place,
    /// What the last report told of, for reports of news alone.
    pub(super) told: Option<Told>,
    /// When there was last something to report, and to which thread.
    pub(super) active_ns: u64,
    pub(super) told_to: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The kernel has the program's registration.
    OnSocket,
    /// It would have one that was one-shot and has been reported: such a one is silent, and
    /// the kernel takes none that is from the beginning. It is made when the program wants to
    /// be told again.
    Withheld,
    /// Looked at in each turn; where it is in the list of those.
    Hot(usize),
    /// Its peer is to ring for this.
    Parked(Interest),
    /// Nothing of it is to be told.
    Cold,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    arrivals: u64,
    kept: u64,
    /// Which directions had ended, as the bits that say so; and whether by the peer's doing.
    ends: u32,
    peer_ended: bool,
    /// Behind how many writes that had too little space there was some.
    short_writes: u64,
}

impl Told {
    pub(super) fn of(connection: &Connection) -> Self {
        Self {
            arrivals: connection.arrivals(),
            kept: connection.kept_in_all(),
            ends: connection.end_events(),
            peer_ended: connection.has_ended(),
            short_writes: connection.short_writes(),
        }
    }

    /// Whether there is nothing new `now`, space aside.
    pub(super) fn is_all(&self, now: &Self) -> bool {
        let parts = |told: &Self| (told.arrivals, told.kept, told.ends, told.peer_ended);
        parts(self) == parts(now)
    }

    /// What will have been told of, after what was `before`, by a report that is or is not of
    /// space.
    pub(super) fn after(mut self, before: Option<Self>, has_space: bool) -> Self {
        if !has_space {
            self.short_writes =
                before.map_or(self.short_writes.wrapping_sub(1), |before| before.short_writes);
        }
        self
    }
}

impl Member {
    pub(super) fn new(fd: RawFd, connection: Arc<Connection>, event: epoll_event) -> Self {
        Self {
            fd,
            connection,
            events: event.events,
            data: event.u64,
            is_watched: true,
            is_armed: true,
            place: Place::OnSocket,
            told: None,
            active_ns: 0,
            told_to: 0,
        }
    }

    /// Whether what is to be told of it is ours to tell.
    pub(super) fn is_ours(&self) -> bool {
        !matches!(self.place, Place::OnSocket | Place::Withheld)
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.events & EXCLUSIVE != 0
    }

    pub(super) fn is_one_shot(&self) -> bool {
        self.events & ONE_SHOT != 0
    }

    /// The program changed what it wants to be told.
    pub(super) fn rearm(&mut self, event: epoll_event) {
        self.events = event.events;
        self.data = event.u64;
        self.is_armed = true;
        self.told = None;
    }

    /// The registration as the kernel is to have it; `None` for one that is silent.
    pub(super) fn registration(&self) -> Option<epoll_event> {
        self.is_armed.then_some(epoll_event { events: self.events, u64: self.data })
    }

    /// What is to be reported now, and, for reports of news alone, what will have been
    /// told of then.
    #[inline]
    pub(super) fn look(&self) -> (u32, Option<Told>) {
        let connection = &self.connection;
        if self.events & EDGE == 0 {
            return (connection.ready_events(self.events), None);
        }
        // Before the look: what comes during it may not be in this report, and is news.
        let seen = Told::of(connection);
        let ready = connection.ready_events(self.events);
        let is_news = self.told.is_none_or(|told| {
            !told.is_all(&seen) || ready & WRITABLE != 0 && told.short_writes != seen.short_writes
        });
        (if is_news { ready } else { 0 }, Some(seen))
    }

    /// Whether the kernel can tell of it again, as soon as its connection is settled. What was
    /// kept is to be told of as long as it is there, or once.
    pub(super) fn is_to_be_settled(&self) -> bool {
        if self.connection.phase() != Phase::Returning {
            return false;
        }
        let is_all = |told: Told| told.is_all(&Told::of(&self.connection));
        let is_told_once = self.events & EDGE != 0 && self.told.is_some_and(is_all);
        let wants_kept = self.is_armed && interest_of(self.events).readable && !is_told_once;
        !wants_kept || !self.connection.has_kept()
    }

    /// Whether another thread was told of it a moment ago. The kernel wakes one at a time, too,
    /// which mostly has read before the next is awake.
    pub(super) fn is_being_read(&self, thread: u64, now_ns: u64) -> bool {
        self.told_to != thread && now_ns.saturating_sub(self.active_ns) < GRACE_NS
    }

    /// Whether it has ended, and the program has closed it where nobody saw: the kernel knows,
    /// and would tell of it no more.
    pub(super) fn is_over(&self) -> bool {
        self.connection.reading_has_ended() && !self.connection.is_open()
    }

    /// Whether nothing that it asks for is there.
    pub(super) fn is_quiet(&self) -> bool {
        self.connection.phase() == Phase::Shared && self.connection.ready_events(self.events) == 0
    }

    /// What came has been read, without an event: it is none any more.
    pub(super) fn pass_over(&mut self, seen: Option<Told>) {
        if let Some(seen) = seen.filter(|_| self.is_quiet()) {
            self.told = Some(seen.after(self.told, false));
        }
    }

    /// It is being reported.
    pub(super) fn tell(&mut self, news: u32, seen: Option<Told>) {
        if let Some(seen) = seen {
            self.told = Some(seen.after(self.told, news & WRITABLE != 0));
        }
        if self.is_one_shot() {
            self.is_armed = false;
        }
    }

    /// What would be news of it, and up to where bytes are none.
    pub(super) fn to_sleep_for(&self) -> (Interest, Option<u64>) {
        let mut interest = interest_of(self.events);
        let Some(told) = self.told.filter(|_| self.events & EDGE != 0) else {
            return (interest, None);
        };
        // Where the program has ended one direction itself, the other one goes on.
        let has_hung_up = told.ends & HANG_UP != 0;
        let wants_space = told.short_writes != self.connection.short_writes();
        interest.readable &= !has_hung_up && !told.peer_ended;
        interest.writable &= !has_hung_up && wants_space;
        (interest, Some(told.arrivals))
    }
}
