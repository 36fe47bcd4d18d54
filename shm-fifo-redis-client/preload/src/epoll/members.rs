//! The connections that an epoll instance watches, and what is to be told of them.

use super::private::{News, Private};
use super::{CALL, EDGE, EXCLUSIVE, ONE_SHOT};
use crate::connection::{Connection, HANG_UP, Phase, WRITABLE, interest_of};
use crate::errno::Errno;
use crate::sys;
use libc::{epoll_event, sigset_t};
use shm_fifo::{Interest, SpinPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Index, IndexMut};
use std::os::fd::RawFd;
use std::sync::{Arc, MutexGuard};

/// How long a connection that is silent stays hot.
const SILENCE_NS: u64 = 2_000_000;

/// For how long one thread's event is not another's, too: it is about to read. The kernel
/// wakes one thread at a time, which mostly has read before the next is awake.
const GRACE_NS: u64 = 50_000;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) private: Option<Private>,
    members: Vec<Option<Member>>,
    free: Vec<usize>,
    /// From a connection's number and a descriptor's to the member.
    places: BTreeMap<(u64, RawFd), usize>,
    /// The connections whose sockets the private instance watches, and by which number.
    sockets: BTreeMap<u64, RawFd>,
    /// The hot ones, in no order.
    hot: Vec<usize>,
    pub(super) on_socket: usize,
    /// Where the next turn begins.
    turn: usize,
    pub(super) sleeping: u32,
    /// Another instance watches the private one: all are parked while nobody waits.
    pub(super) is_exposed: bool,
    /// The descriptor by which those are called who sleep in the program's instance alone.
    pub(super) calling: Option<RawFd>,
    /// The program's data that such events had.
    pub(super) called_with: Vec<u64>,
    /// How many of those may still come with such an event.
    pub(super) called: u32,
    /// The registrations that are one-shot: their data, and the members.
    one_shots: BTreeSet<(u64, usize)>,
    pub(super) kernel_polled_ns: u64,
    pub(super) kernel_had_events: bool,
    /// Some of what was reported last were its events.
    pub(super) kernel_was_last: bool,
    /// How often the program's instance alone was asked since.
    pub(super) unasked: u32,
    swept_ns: u64,
    /// To be settled without the lock.
    pub(super) attended: Vec<Attended>,
}

/// A connection on whose socket there was something.
#[derive(Debug)]
pub(super) struct Attended {
    pub(super) connection: Arc<Connection>,
    /// It was taken off: others who watch the connection are to be told.
    pub(super) is_news: bool,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) fd: RawFd,
    pub(super) connection: Arc<Connection>,
    events: u32,
    data: u64,
    /// The program watches it; else it only did, and may come back.
    pub(super) is_watched: bool,
    /// It is to be reported; not so after a one-shot report.
    is_armed: bool,
    pub(super) place: Place,
    /// What the last report told of, for reports of news alone.
    pub(super) told: Option<Told>,
    /// When there was last something to report, and to which thread.
    active_ns: u64,
    told_to: u64,
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
    fn of(connection: &Connection) -> Self {
        Self {
            arrivals: connection.arrivals(),
            kept: connection.kept_in_all(),
            ends: connection.end_events(),
            peer_ended: connection.has_ended(),
            short_writes: connection.short_writes(),
        }
    }

    /// Whether there is nothing new `now`, space aside.
    fn is_all(&self, now: &Self) -> bool {
        let parts = |told: &Self| (told.arrivals, told.kept, told.ends, told.peer_ended);
        parts(self) == parts(now)
    }

    /// What will have been told of, after what was `before`, by a report that is or is not of
    /// space.
    fn after(mut self, before: Option<Self>, has_space: bool) -> Self {
        if !has_space {
            self.short_writes =
                before.map_or(self.short_writes.wrapping_sub(1), |before| before.short_writes);
        }
        self
    }
}

impl Index<usize> for State {
    type Output = Member;

    fn index(&self, index: usize) -> &Member {
        self.members[index].as_ref().expect("the place of a member")
    }
}

impl IndexMut<usize> for State {
    fn index_mut(&mut self, index: usize) -> &mut Member {
        self.members[index].as_mut().expect("the place of a member")
    }
}

impl State {
    // The list.

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn find(&self, connection: u64, fd: RawFd) -> Option<usize> {
        self.places.get(&(connection, fd)).copied()
    }

    /// The members of that connection: mostly one.
    pub(super) fn all_of(&self, connection: u64) -> Vec<usize> {
        let range = (connection, RawFd::MIN)..=(connection, RawFd::MAX);
        self.places.range(range).map(|(_, &index)| index).collect()
    }

    /// Puts `member` in the place of the one before with the same numbers, if there is one.
    pub(super) fn put(&mut self, mut member: Member, is_ours: bool) -> usize {
        let key = (member.connection.id, member.fd);
        if let Some(before) = self.places.get(&key).copied() {
            self.take(before);
        }
        member.place = if is_ours { Place::Cold } else { Place::OnSocket };
        self.on_socket += usize::from(!is_ours);
        let index = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        });
        self.members[index] = Some(member);
        self.places.insert(key, index);
        self.note_whether_one_shot(index);
        if is_ours {
            self.heat(index);
        } else {
            // What is the kernel's to tell is no doorbell.
            self.release_socket(key.0);
        }
        index
    }

    pub(super) fn take(&mut self, index: usize) -> Member {
        self.cool(index);
        let member = self.members[index].take().expect("the place of a member");
        self.on_socket -= usize::from(member.place == Place::OnSocket);
        self.one_shots.remove(&(member.data, index));
        self.places.remove(&(member.connection.id, member.fd));
        self.free.push(index);
        member
    }

    /// Its registration in the kernel was taken over.
    pub(super) fn take_over(&mut self, index: usize) {
        self[index].told = None;
        self.on_socket -= usize::from(self[index].place == Place::OnSocket);
        self[index].place = Place::Cold;
        self.heat(index);
    }

    /// Its registration is the kernel's again.
    pub(super) fn hand_over(&mut self, index: usize) {
        self[index].place = Place::OnSocket;
        self.on_socket += 1;
    }

    /// Its registration would be the kernel's again, if the program wanted to be told.
    pub(super) fn withhold(&mut self, index: usize) {
        self[index].place = Place::Withheld;
    }

    /// A member that is ours to tell of, by another number than `fd`; and its data.
    pub(super) fn one_of_ours_but(&self, fd: RawFd) -> Option<(RawFd, u64)> {
        let mut others = self.members.iter().flatten().filter(|member| member.fd != fd);
        let other = others.find(|member| member.is_watched && member.is_ours())?;
        Some((other.fd, other.data))
    }

    /// Whether there is a registration of that connection which only this knows.
    pub(super) fn withholds(&self, connection: u64) -> bool {
        self.all_of(connection).iter().any(|&index| self[index].place == Place::Withheld)
    }

    /// The program has closed its instance.
    pub(super) fn dissolve(&mut self) {
        for index in 0..self.members.len() {
            if self.members[index].is_some() {
                self.cool(index);
                self.take(index);
            }
        }
        self.private = None;
        self.sockets.clear();
    }

    /// Another instance watches the private one from now on.
    pub(super) fn expose(&mut self) {
        self.is_exposed = true;
        for member in self.members.iter().flatten() {
            member.connection.note_nested_watch();
        }
    }

    /// The program changed what it wants to be told of a member.
    pub(super) fn rearm(&mut self, index: usize, event: epoll_event) {
        let before = self[index].data;
        self.one_shots.remove(&(before, index));
        self[index].rearm(event);
        self.note_whether_one_shot(index);
    }

    fn note_whether_one_shot(&mut self, index: usize) {
        let member = &self[index];
        if member.is_one_shot() {
            let entry = (member.data, index);
            self.one_shots.insert(entry);
        }
    }

    // Hot, parked and cold.

    /// Looks at it from the next turn on.
    pub(super) fn heat(&mut self, index: usize) {
        let is_told = self[index].is_watched && self[index].is_armed;
        match self[index].place {
            Place::OnSocket | Place::Withheld | Place::Hot(_) => return,
            Place::Parked(interest) => self[index].connection.unpark(interest),
            Place::Cold => {}
        }
        self[index].place = Place::Cold;
        if is_told {
            self[index].place = Place::Hot(self.hot.len());
            self.hot.push(index);
        }
    }

    /// Looks at it no more, and wants no doorbell.
    pub(super) fn cool(&mut self, index: usize) {
        match self[index].place {
            Place::OnSocket | Place::Withheld | Place::Cold => return,
            Place::Parked(interest) => self[index].connection.unpark(interest),
            Place::Hot(place) => self.leave_hot(place),
        }
        self[index].place = Place::Cold;
    }

    fn leave_hot(&mut self, place: usize) {
        self.hot.swap_remove(place);
        if let Some(&moved) = self.hot.get(place) {
            self[moved].place = Place::Hot(place);
        }
    }

    /// Lets it be rung for, or forgets it. Returns whether nothing is to be told of it now.
    fn park(&mut self, index: usize) -> bool {
        let Place::Hot(place) = self[index].place else { return true };
        // An end, which no doorbell tells of once more.
        let (news, seen) = self[index].look();
        if news != 0 {
            let is_over = self[index].is_over();
            if is_over {
                self.take(index);
            }
            return is_over;
        }
        self[index].pass_over(seen);
        let (interest, noticed) = self[index].to_sleep_for();
        let may_sleep = self[index].connection.park(interest, noticed);
        if may_sleep {
            self.leave_hot(place);
            self[index].place = Place::Parked(interest);
        }
        may_sleep
    }

    /// Parks all, so that a thread may sleep; `false` if one of them is ready.
    pub(super) fn park_all(&mut self) -> bool {
        while let Some(&last) = self.hot.last() {
            if !self.park(last) {
                return false;
            }
        }
        true
    }

    /// Parks those that have been silent for long, beside others that are not.
    pub(super) fn park_silent(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.swept_ns) < SILENCE_NS {
            return;
        }
        self.swept_ns = now_ns;
        for place in (0..self.hot.len()).rev() {
            let index = self.hot[place];
            if now_ns.saturating_sub(self[index].active_ns) > SILENCE_NS {
                self.park(index);
            }
        }
    }

    // The private instance.

    pub(super) fn watch_socket(&mut self, connection: &Connection) -> Result<(), Errno> {
        if let Some(private) = &self.private
            && !self.sockets.contains_key(&connection.id)
        {
            let fd = connection.fd();
            private.add_socket(fd, connection.id)?;
            self.sockets.insert(connection.id, fd);
        }
        Ok(())
    }

    pub(super) fn unwatch_socket(&mut self, connection: u64) {
        if let (Some(fd), Some(private)) = (self.sockets.remove(&connection), &self.private) {
            private.remove_socket(fd);
        }
    }

    /// The same, unless a member waits for what comes on it.
    pub(super) fn release_socket(&mut self, connection: u64) {
        let is_needed = |&index: &usize| self[index].is_watched && self[index].is_ours();
        if !self.all_of(connection).iter().any(is_needed) {
            self.unwatch_socket(connection);
        }
    }

    /// The number `fd` of a connection is being closed; another one is `left`.
    pub(super) fn renumber_socket(&mut self, connection: u64, fd: RawFd, left: RawFd) {
        if self.sockets.get(&connection) == Some(&fd)
            && let Some(private) = &self.private
        {
            private.remove_socket(fd);
            private.add_socket(left, connection).ok();
            self.sockets.insert(connection, left);
        }
    }

    pub(super) fn ask_private(
        &self,
        timeout_ns: Option<u64>,
        mask: *const sigset_t,
    ) -> Result<News, Errno> {
        let private = self.private.as_ref().ok_or(Errno(libc::EBADF))?;
        Private::wait(private.fd(), timeout_ns, mask)
    }

    /// Acts on what the kernel said.
    pub(super) fn hear(&mut self, news: &News) {
        self.kernel_had_events |= news.has_programs;
        for &connection in news.rung() {
            for index in self.all_of(connection) {
                self.rung(index);
            }
        }
    }

    /// There is something on the member's socket.
    fn rung(&mut self, index: usize) {
        let connection = Arc::clone(&self[index].connection);
        let is_news = connection.attend_quietly();
        if is_news || connection.phase() == Phase::Returning {
            self.attended.push(Attended { connection: Arc::clone(&connection), is_news });
        }
        if self[index].is_watched {
            self.heat(index);
        } else {
            // What nobody waits for is not to wake anybody.
            self.take(index);
            self.release_socket(connection.id);
        }
        // The end is reported for ever.
        if connection.is_gone() {
            self.unwatch_socket(connection.id);
        }
    }

    pub(super) fn kernel_is_due(&self, now_ns: u64) -> bool {
        super::private::is_due(self.kernel_polled_ns, now_ns)
    }

    // What is told.

    /// Whether the kernel had the only place of the last report, and rings wait for it.
    pub(super) fn take_rings_turn(&mut self, events: &[epoll_event]) -> bool {
        let is_theirs = events.len() == 1 && self.kernel_was_last && self.has_news();
        self.kernel_was_last &= !is_theirs;
        is_theirs
    }

    /// Room for the kernel's events: some is left for the rings, or busy sockets
    /// could starve them.
    pub(super) fn room_in<'e>(&self, events: &'e mut [epoll_event]) -> &'e mut [epoll_event] {
        let ours = self.hot.len().min(events.len() / 2);
        let room = events.len() - ours;
        &mut events[..room]
    }

    /// Writes the events of ready members, as many as there is room for.
    pub(super) fn collect(&mut self, events: &mut [epoll_event], now_ns: u64) -> usize {
        let hot = self.hot.len();
        let thread = sys::thread();
        let mut found = 0;
        let mut disarmed = Vec::new();
        let mut closed = Vec::new();
        // So that the first has no advantage.
        let mut next = self.turn.wrapping_add(1);
        for step in 0..hot {
            let index = self.hot[(self.turn + step) % hot];
            let Some(event) = events.get_mut(found) else {
                // No room: the next turn begins with the one left out.
                next = (self.turn + step) % hot;
                break;
            };
            let connection = &self[index].connection;
            // An answer of the server may have replies behind it.
            let is_news = connection.is_being_asked() && connection.attend_quietly();
            if is_news || self[index].is_to_be_settled() {
                let connection = Arc::clone(connection);
                self.attended.push(Attended { connection, is_news });
                continue;
            }
            // The ends of both directions are told at once, as far as they are there.
            if connection.has_unheard_end() {
                let connection = Arc::clone(connection);
                let is_news = connection.attend_quietly();
                self.attended.push(Attended { connection, is_news });
            }
            let member = &mut self[index];
            if member.is_being_read(thread, now_ns) {
                continue;
            }
            let (news, seen) = member.look();
            if news != 0 && member.is_over() {
                closed.push(index);
            } else if news == 0 {
                member.pass_over(seen);
            } else {
                member.tell(news, seen);
                member.active_ns = now_ns;
                member.told_to = thread;
                *event = epoll_event { events: news, u64: member.data };
                found += 1;
                if !member.is_armed {
                    disarmed.push(index);
                }
            }
        }
        disarmed.into_iter().for_each(|index| self.cool(index));
        for index in closed {
            self.take(index);
        }
        self.turn = next % hot.max(1);
        found
    }

    /// Some are not to be told of in here any more, once they are settled.
    pub(super) fn note_unsettled(&mut self) {
        let unsettled = self.hot.iter().filter(|&&index| self[index].is_to_be_settled());
        let unsettled = unsettled.map(|&index| Arc::clone(&self[index].connection));
        let unsettled = unsettled.map(|connection| Attended { connection, is_news: false });
        let unsettled: Vec<_> = unsettled.collect();
        self.attended.extend(unsettled);
    }

    /// Whether one of the members is ready.
    pub(super) fn has_news(&self) -> bool {
        self.hot.iter().any(|&index| self[index].look().0 != 0 && !self[index].is_over())
    }

    /// The policy of a hot member for which spinning may pay.
    pub(super) fn spinning(&self) -> Option<MutexGuard<'_, SpinPolicy>> {
        self.hot.iter().find_map(|&index| self[index].connection.spinning())
    }

    /// Leaves out the events that were to wake others. How many remain.
    pub(super) fn without_calls(&self, events: &mut [epoll_event], count: usize) -> usize {
        if self.called_with.is_empty() {
            return count;
        }
        let mut kept = 0;
        for index in 0..count {
            let event = events[index];
            if event.events != CALL || !self.called_with.contains(&{ event.u64 }) {
                events[kept] = event;
                kept += 1;
            }
        }
        kept
    }

    /// The kernel reported these: it has disarmed what was one-shot. Of several with the
    /// same data nobody knows which: they may be told of once too often.
    pub(super) fn note_one_shots(&mut self, events: &[epoll_event]) {
        if self.on_socket == 0 || self.one_shots.is_empty() {
            return;
        }
        for event in events {
            let with_its_data = self.one_shots.range((event.u64, 0)..=(event.u64, usize::MAX));
            let mut meant = with_its_data
                .map(|&(_, index)| index)
                .filter(|&index| self[index].place == Place::OnSocket);
            if let (Some(index), None) = (meant.next(), meant.next()) {
                self[index].is_armed = false;
            }
        }
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

    fn is_one_shot(&self) -> bool {
        self.events & ONE_SHOT != 0
    }

    /// The program changed what it wants to be told.
    fn rearm(&mut self, event: epoll_event) {
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
    fn look(&self) -> (u32, Option<Told>) {
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

    /// Whether another thread was told of it a moment ago.
    fn is_being_read(&self, thread: u64, now_ns: u64) -> bool {
        self.told_to != thread && now_ns.saturating_sub(self.active_ns) < GRACE_NS
    }

    /// Whether it has ended, and the program has closed it where nobody saw: the kernel knows,
    /// and would tell of it no more.
    fn is_over(&self) -> bool {
        self.connection.reading_has_ended() && !self.connection.is_open()
    }

    /// Whether nothing that it asks for is there.
    fn is_quiet(&self) -> bool {
        self.connection.phase() == Phase::Shared && self.connection.ready_events(self.events) == 0
    }

    /// What came has been read, without an event: it is none any more.
    fn pass_over(&mut self, seen: Option<Told>) {
        if let Some(seen) = seen.filter(|_| self.is_quiet()) {
            self.told = Some(seen.after(self.told, false));
        }
    }

    /// It is being reported.
    fn tell(&mut self, news: u32, seen: Option<Told>) {
        if let Some(seen) = seen {
            self.told = Some(seen.after(self.told, news & WRITABLE != 0));
        }
        if self.is_one_shot() {
            self.is_armed = false;
        }
    }

    /// What would be news of it, and up to where bytes are none.
    fn to_sleep_for(&self) -> (Interest, Option<u64>) {
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
