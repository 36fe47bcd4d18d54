//! The connections that an epoll instance watches, and what is to be told of them.

use super::{EDGE, Joined, KERNEL_POLL_INTERVAL_NS, ONE_SHOT};
use crate::connection::{Connection, Phase, WRITABLE, interest_of};
use libc::epoll_event;
use shm_fifo::Interest;
use std::os::fd::RawFd;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) members: Vec<Member>,
    /// From file descriptors to places in `members`.
    pub(super) places: Vec<Option<usize>>,
    /// Where the next turn begins, so that the first has no advantage.
    pub(super) turn: usize,
    pub(super) sleeping: u32,
    pub(super) kernel_polled_ns: u64,
    pub(super) kernel_had_events: bool,
    /// A member goes on over its socket, which is to be settled without the lock.
    pub(super) has_returned: bool,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) fd: RawFd,
    pub(super) connection: Arc<Connection>,
    pub(super) events: u32,
    pub(super) data: u64,
    /// The program watches it; else it only did, and the kernel still does.
    pub(super) is_watched: bool,
    /// It is to be reported; not so after a one-shot report.
    pub(super) is_armed: bool,
    pub(super) in_kernel: InKernel,
    /// The end was heard on the socket; the kernel does not report it again.
    pub(super) is_silenced: bool,
    /// What the last report told of, for reports of news alone.
    pub(super) told: Option<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) arrivals: u64,
    pub(super) ended: bool,
}

/// Whose registration the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InKernel {
    Programs,
    Ours,
}

impl State {
    pub(super) fn place(&self, fd: RawFd) -> Option<usize> {
        *self.places.get(usize::try_from(fd).ok()?)?
    }

    pub(super) fn member(&self, fd: RawFd) -> Option<&Member> {
        self.members.get(self.place(fd)?)
    }

    pub(super) fn member_mut(&mut self, fd: RawFd) -> Option<&mut Member> {
        let place = self.place(fd)?;
        self.members.get_mut(place)
    }

    pub(super) fn put(&mut self, member: Member) {
        let Ok(index) = usize::try_from(member.fd) else { return };
        if let Some(known) = self.member_mut(member.fd) {
            *known = member;
            return;
        }
        if self.places.len() <= index {
            self.places.resize(index + 1, None);
        }
        self.places[index] = Some(self.members.len());
        self.members.push(member);
    }

    pub(super) fn take(&mut self, fd: RawFd) -> Option<Member> {
        let place = self.place(fd)?;
        let member = self.members.swap_remove(place);
        self.set_place(fd, None);
        if let Some(moved) = self.members.get(place).map(|member| member.fd) {
            self.set_place(moved, Some(place));
        }
        Some(member)
    }

    pub(super) fn set_place(&mut self, fd: RawFd, place: Option<usize>) {
        let index = usize::try_from(fd).unwrap_or(usize::MAX);
        if let Some(slot) = self.places.get_mut(index) {
            *slot = place;
        }
    }

    pub(super) fn kernel_is_due(&self, now_ns: u64) -> bool {
        self.kernel_had_events
            || now_ns.saturating_sub(self.kernel_polled_ns) >= KERNEL_POLL_INTERVAL_NS
    }

    /// Whether the kernel had the only place of the last report, and rings wait for it.
    pub(super) fn take_rings_turn(&mut self, events: &[epoll_event]) -> bool {
        let is_theirs = events.len() == 1 && self.kernel_had_events && self.has_news();
        self.kernel_had_events &= !is_theirs;
        is_theirs
    }

    pub(super) fn note_kernel_poll(&mut self, count: usize, now_ns: u64) {
        self.kernel_polled_ns = now_ns;
        self.kernel_had_events = count > 0;
    }

    /// Room for the kernel's events: some is left for the rings, or busy sockets
    /// could starve them.
    pub(super) fn room_in<'e>(&self, events: &'e mut [epoll_event]) -> &'e mut [epoll_event] {
        let ours = self.members.len().min(events.len() / 2);
        let room = events.len() - ours;
        &mut events[..room]
    }

    /// Writes the events of ready members, as many as there is room for.
    pub(super) fn collect(&mut self, events: &mut [epoll_event]) -> usize {
        let members = self.members.len();
        let mut found = 0;
        for step in 0..members {
            let Some(event) = events.get_mut(found) else {
                // No room: the next turn begins with the one left out.
                self.turn = (self.turn + step) % members;
                return found;
            };
            let member = &mut self.members[(self.turn + step) % members];
            if !member.is_told_by_us() {
                continue;
            }
            let (news, seen) = member.look();
            if news != 0 {
                member.tell(news, seen);
                *event = epoll_event { events: news, u64: member.data };
                found += 1;
            }
        }
        self.turn = self.turn.wrapping_add(1);
        found
    }

    /// Announces that a thread is about to sleep for all members; `None`, nothing
    /// announced, if one of them is ready.
    pub(super) fn join_all(&self) -> Option<Joined> {
        let mut joined = Joined::with_capacity(self.members.len());
        // Who arms one again wakes those who sleep.
        let watched = self.members.iter().filter(|member| member.is_watched && member.is_armed);
        for member in watched {
            let (interest, noticed) = member.to_sleep_for();
            if !member.connection.join(interest, noticed) {
                for (connection, interest) in joined {
                    Connection::part(&connection, interest, false);
                }
                return None;
            }
            joined.push((Arc::clone(&member.connection), interest));
        }
        Some(joined)
    }

    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        self.members.iter().map(|member| Arc::clone(&member.connection)).collect()
    }

    pub(super) fn returned(&self) -> Vec<Arc<Connection>> {
        let connections = self.members.iter().map(|member| &member.connection);
        connections.filter(|connection| connection.phase() == Phase::Returning).cloned().collect()
    }

    /// Whether one of the members is ready.
    pub(super) fn has_news(&self) -> bool {
        self.members.iter().any(|member| member.is_told_by_us() && member.news() != 0)
    }

    /// The kernel reported `data`: it has disarmed that registration, if it was
    /// one-shot. Of several with the same data nobody knows which: they may be told of
    /// once too often.
    pub(super) fn note_one_shot(&mut self, data: u64) {
        let is_meant = |member: &&mut Member| {
            let kernels = member.in_kernel == InKernel::Programs;
            kernels && member.data == data && member.events & ONE_SHOT != 0
        };
        let mut meant = self.members.iter_mut().filter(is_meant);
        if let (Some(member), None) = (meant.next(), meant.next()) {
            member.is_armed = false;
        }
    }
}

impl Member {
    pub(super) fn is_told_by_us(&self) -> bool {
        self.is_watched && self.is_armed && self.in_kernel == InKernel::Ours
    }

    /// What is to be reported now.
    #[inline]
    pub(super) fn news(&self) -> u32 {
        self.look().0
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
        let seen = Told { arrivals: connection.arrivals(), ended: connection.reading_has_ended() };
        let ready = connection.ready_events(self.events);
        let is_news = self.told != Some(seen)
            || ready & WRITABLE != 0 && connection.wants_space()
            || connection.phase() == Phase::Returning;
        (if is_news { ready } else { 0 }, Some(seen))
    }

    /// It is being reported.
    pub(super) fn tell(&mut self, news: u32, seen: Option<Told>) {
        if seen.is_some() {
            self.told = seen;
            if news & WRITABLE != 0 {
                self.connection.told_of_space();
            }
        }
        if self.events & ONE_SHOT != 0 {
            self.is_armed = false;
        }
    }

    /// What would be news of it, and up to where bytes are none.
    pub(super) fn to_sleep_for(&self) -> (Interest, Option<u64>) {
        let mut interest = interest_of(self.events);
        let Some(told) = self.told.filter(|_| self.events & EDGE != 0) else {
            return (interest, None);
        };
        interest.readable &= !told.ended;
        interest.writable &= !told.ended && self.connection.wants_space();
        (interest, Some(told.arrivals))
    }
}
