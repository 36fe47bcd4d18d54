//! The connections that an epoll instance watches: the list, who is hot, who is parked, and
//! whose socket the private instance watches.

use super::calling::Call;
use super::member::{Member, Place};
use super::private::{News, Private};
use crate::connection::{Connection, Phase};
use crate::errno::Errno;
use libc::{epoll_event, sigset_t};
use shm_fifo::interposer::pace::SILENCE_NS;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Index, IndexMut};
use std::os::fd::RawFd;
use std::sync::Arc;

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
    pub(super) hot: Vec<usize>,
    pub(super) on_socket: usize,
    /// Where the next turn begins.
    pub(super) turn: usize,
    pub(super) sleeping: u32,
    /// Another instance watches the private one: all are parked while nobody waits.
    pub(super) is_exposed: bool,
    pub(super) call: Call,
    /// The registrations that are one-shot: their data, and the members.
    pub(super) one_shots: BTreeSet<(u64, usize)>,
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
}
