//! `epoll_ctl`: what the program wants to be told of.

use super::member::{Member, Place};
use super::members::State;
use super::private::Private;
use super::{EDGE, EXCLUSIVE, Epoll};
use crate::connection::{Connection, lock};
use crate::errno::Errno;
use crate::{sys, table};
use libc::{c_int, epoll_event};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// What an exclusive registration may have besides.
const BESIDE_EXCLUSIVE: u32 =
    (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP | libc::EPOLLWAKEUP)
        .cast_unsigned()
        | EDGE;

impl Epoll {
    /// `epoll_ctl(2)` for a tracked connection.
    pub(crate) fn control(
        self: &Arc<Self>,
        operation: c_int,
        fd: RawFd,
        event: Option<epoll_event>,
        connection: &Arc<Connection>,
    ) -> Result<(), Errno> {
        let mut state = self.state.lock();
        let known = state.find(connection.id, fd).filter(|&index| state[index].is_watched);
        let exclusive = known.is_some_and(|index| state[index].is_exclusive());
        let changed = match (operation, known, event) {
            (_, _, Some(event)) if is_wrongly_exclusive(operation, event.events, exclusive) => {
                Err(Errno(libc::EINVAL))
            }
            (libc::EPOLL_CTL_ADD, None, Some(event)) => self.add(&mut state, fd, event, connection),
            (libc::EPOLL_CTL_MOD, Some(index), Some(event)) => {
                self.change(&mut state, index, event)
            }
            (libc::EPOLL_CTL_DEL, Some(index), _) => self.remove(&mut state, index),
            // The kernel may not know it.
            (libc::EPOLL_CTL_ADD, Some(_), Some(_)) => Err(Errno(libc::EEXIST)),
            // The kernel says what is wrong with it.
            _ if !connection.is_virtual() => sys::epoll_ctl(self.epfd(), operation, fd, event),
            (libc::EPOLL_CTL_ADD | libc::EPOLL_CTL_MOD, _, None) => Err(Errno(libc::EFAULT)),
            (libc::EPOLL_CTL_MOD | libc::EPOLL_CTL_DEL, None, _) => Err(Errno(libc::ENOENT)),
            _ => Err(Errno(libc::EINVAL)),
        };
        self.members.store(state.len(), SeqCst);
        drop(self.settle(state));
        // Another thread may have brought it back, before it was watched.
        if operation == libc::EPOLL_CTL_ADD && !connection.is_virtual() {
            self.give_back(connection);
        }
        changed
    }

    pub(super) fn add(
        self: &Arc<Self>,
        state: &mut State,
        fd: RawFd,
        event: epoll_event,
        connection: &Arc<Connection>,
    ) -> Result<(), Errno> {
        self.begin(state)?;
        let is_ours = connection.is_virtual();
        if is_ours {
            self.expose_late(state)?;
            state.watch_socket(connection)?;
            self.call_strangers(state, fd, event.u64);
        } else {
            self.call_by_another(state, fd);
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_ADD, fd, Some(event))?;
        }
        self.enlist(state, fd, event, connection, is_ours);
        Ok(())
    }

    pub(super) fn enlist(
        self: &Arc<Self>,
        state: &mut State,
        fd: RawFd,
        event: epoll_event,
        connection: &Arc<Connection>,
        is_ours: bool,
    ) {
        connection.watched_by(self, fd);
        if state.is_exposed {
            connection.note_nested_watch();
        }
        let index = state.put(Member::new(fd, Arc::clone(connection), event), is_ours);
        // Another thread may have gone on with it, before it was watched.
        if !is_ours && connection.is_virtual() {
            self.take_over(state, index);
        }
        if state[index].is_ours() {
            self.wake(state);
        }
    }

    /// The connection behind `fd` was no connection yet when this instance was told of it.
    /// Returns whether it is a member now.
    pub(crate) fn enlist_late(
        self: &Arc<Self>,
        fd: RawFd,
        event: epoll_event,
        connection: &Arc<Connection>,
    ) -> bool {
        let mut state = self.state.lock();
        let begun = self.begin(&mut state).is_ok();
        if begun {
            self.enlist(&mut state, fd, event, connection, false);
            self.members.store(state.len(), SeqCst);
        }
        begun
    }

    /// Makes what watching a connection takes.
    ///
    /// # Errors
    /// Where no descriptor is free.
    pub(crate) fn prepare(&self) -> Result<(), Errno> {
        self.begin(&mut self.state.lock())
    }

    /// From the first connection on, threads sleep in a private instance.
    pub(super) fn begin(&self, state: &mut State) -> Result<(), Errno> {
        if state.private.is_none() {
            state.private = Some(Private::new(self.epfd())?);
            self.has_watched.store(true, Relaxed);
            table::begins_to_watch(&lock(&self.fds));
        }
        Ok(())
    }

    pub(super) fn change(
        &self,
        state: &mut State,
        index: usize,
        event: epoll_event,
    ) -> Result<(), Errno> {
        let (fd, place) = (state[index].fd, state[index].place);
        match place {
            Place::OnSocket => {
                sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_MOD, fd, Some(event))?;
            }
            Place::Withheld => {
                sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_ADD, fd, Some(event))?;
                state.hand_over(index);
            }
            Place::Hot(_) | Place::Parked(_) | Place::Cold => {}
        }
        // It has kept something, which may be asked for now.
        if state[index].place == Place::OnSocket && state[index].connection.is_virtual() {
            self.take_over(state, index);
        }
        state.rearm(index, event);
        if state[index].place != Place::OnSocket {
            state.heat(index);
            self.wake(state);
        }
        Ok(())
    }

    pub(super) fn remove(self: &Arc<Self>, state: &mut State, index: usize) -> Result<(), Errno> {
        let fd = state[index].fd;
        if !state[index].is_ours() {
            if state[index].place == Place::OnSocket {
                sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_DEL, fd, None)?;
            }
            let member = state.take(index);
            member.connection.unwatched_by(self, fd);
        } else {
            // Event loops change their minds all the time: the private instance keeps the
            // socket until something comes on it.
            state.cool(index);
            state[index].is_watched = false;
            state[index].connection.lingers_with(self, fd);
            if state.is_exposed {
                let connection = state.take(index).connection.id;
                state.release_socket(connection);
                self.wake(state);
            }
        }
        Ok(())
    }
}

/// An exclusive registration cannot be changed, none becomes exclusive later, and such a one
/// cannot ask for everything.
fn is_wrongly_exclusive(operation: c_int, events: u32, is_exclusive: bool) -> bool {
    let wants_it = events & EXCLUSIVE != 0;
    match operation {
        libc::EPOLL_CTL_ADD => wants_it && events & !(EXCLUSIVE | BESIDE_EXCLUSIVE) != 0,
        libc::EPOLL_CTL_MOD => wants_it || is_exclusive,
        _ => false,
    }
}
