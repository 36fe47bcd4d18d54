//! What `epoll_wait` is told of the members.

use super::member::Place;
use super::members::{Attended, State};
use crate::sys;
use libc::epoll_event;
use shm_fifo::SpinPolicy;
use std::sync::{Arc, MutexGuard};

impl State {
    /// Whether the kernel had the only place of the last report, and rings wait for it.
    pub(super) fn take_rings_turn(&mut self, events: &[epoll_event]) -> bool {
        let is_theirs = events.len() == 1 && self.kernel_was_last && self.has_news();
        self.kernel_was_last &= !is_theirs;
        is_theirs
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
