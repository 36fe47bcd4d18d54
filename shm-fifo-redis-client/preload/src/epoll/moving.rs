//! Connections that move and come back: whose readiness is whose to tell.

use super::members::State;
use super::{Epoll, FIRST_NUMBER};
use crate::connection::Connection;
use crate::sys;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

impl Epoll {
    /// The connection's readiness is ours to tell from now on.
    pub(crate) fn adopt(&self, connection: &Arc<Connection>) {
        let mut state = self.state.lock();
        // Another thread may have gone on with it.
        let members = if connection.is_virtual() { state.all_of(connection.id) } else { vec![] };
        for index in members {
            if !state[index].is_ours() {
                self.take_over(&mut state, index);
            }
        }
        self.wake(&mut state);
        drop(self.settle(state));
    }

    /// The kernel's registration is ours to tell of.
    pub(super) fn take_over(&self, state: &mut State, index: usize) {
        let (fd, connection) = (state[index].fd, Arc::clone(&state[index].connection));
        if state.watch_socket(&connection).is_ok() {
            // Where the program closed the epoll instance, nobody is to be told.
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_DEL, fd, None).ok();
            state.take_over(index);
        }
    }

    /// The connection goes on over its socket: the kernel's again. While it has kept something,
    /// it is that for members that are not to be told of it.
    pub(crate) fn give_back(self: &Arc<Self>, connection: &Arc<Connection>) {
        let mut state = self.state.lock();
        let mut has_changed = false;
        for index in state.all_of(connection.id) {
            // Another thread may have gone on with it.
            let may_be = !connection.is_virtual() || state[index].is_to_be_settled();
            if !state[index].is_ours() || !may_be {
                continue;
            }
            has_changed = true;
            state.cool(index);
            let fd = state[index].fd;
            if !connection.has_number(fd) {
                self.give_back_nameless(&mut state, index);
                continue;
            }
            self.call_by_another(&mut state, fd);
            let ours = state[index].registration().filter(|_| state[index].is_watched);
            match ours {
                None if state[index].is_watched => state.withhold(index),
                Some(event)
                    if sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_ADD, fd, Some(event))
                        .is_ok() =>
                {
                    state.hand_over(index);
                }
                _ => {
                    let fd = state.take(index).fd;
                    connection.unwatched_by(self, fd);
                }
            }
        }
        state.release_socket(connection.id);
        self.members.store(state.len(), SeqCst);
        // Who waits for the private instance itself may have been told of it.
        if has_changed {
            self.wake(&mut state);
            drop(self.settle(state));
        }
    }

    /// The same for what was registered by a number that the program has closed: the kernel keeps
    /// that, and so it gets it by a number that is closed, too.
    pub(super) fn give_back_nameless(&self, state: &mut State, index: usize) {
        let member = state.take(index);
        let above = FIRST_NUMBER.saturating_add(RawFd::try_from(index).unwrap_or(0));
        if let Some(event) = member.registration().filter(|_| member.is_watched)
            && let Ok(name) = sys::duplicate(member.connection.fd(), above)
        {
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_ADD, name, Some(event)).ok();
            sys::close(name);
        }
    }

    /// Whether there is a registration of that connection which the kernel does not know.
    pub(crate) fn withholds(&self, connection: u64) -> bool {
        self.state.lock().withholds(connection)
    }

    /// The connection with this number is none of our business any more.
    pub(crate) fn forget(&self, connection: u64) {
        let mut state = self.state.lock();
        for index in state.all_of(connection) {
            let fd = state.take(index).fd;
            self.call_by_another(&mut state, fd);
        }
        state.unwatch_socket(connection);
        self.members.store(state.len(), SeqCst);
        self.wake(&mut state);
        drop(self.settle(state));
    }

    /// The number `fd` of the connection is being closed. As the kernel keeps what was registered
    /// by it, so does this: another number is `left` for its doorbells.
    pub(crate) fn renumber(&self, connection: u64, fd: RawFd, left: RawFd) {
        self.state.lock().renumber_socket(connection, fd, left);
    }
}
