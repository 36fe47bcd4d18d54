//! An instance that others watch, or wait for as for any descriptor: what they watch is the
//! private one beside it, once a connection has moved.

use super::Epoll;
use super::members::State;
use super::private::Private;
use crate::connection::lock;
use crate::errno::Errno;
use crate::{sys, table};
use std::os::fd::RawFd;
use std::ptr::null;

impl Epoll {
    /// Whether another instance watches this one: it would not be told.
    pub(super) fn is_nested(&self) -> bool {
        !self.watched().is_empty()
    }

    /// By which of its numbers another instance watches this one, and how.
    pub(super) fn watched(&self) -> Vec<(RawFd, table::Watch)> {
        let fds = lock(&self.fds);
        let all = fds.iter().map(|&fd| (fd, table::watch(fd)));
        all.filter(|(_, watch)| !matches!(watch, table::Watch::Nobody)).collect()
    }

    /// Whether waiting would return at once, by its rings.
    pub(crate) fn has_news(&self) -> bool {
        let mut state = self.state.lock();
        state.note_unsettled();
        self.settle(state).has_news()
    }

    /// Lets somebody sleep for the instance itself; `false` if it has news already.
    pub(crate) fn join(&self) -> bool {
        let mut state = self.state.lock();
        let may_sleep = state.park_all();
        state.sleeping += u32::from(may_sleep);
        if !may_sleep {
            state.note_unsettled();
        }
        drop(self.settle(state));
        may_sleep
    }

    /// Who had joined is awake.
    pub(crate) fn part(&self) {
        self.state.lock().sleeping -= 1;
    }

    /// What the kernel is to be asked for by who waits for the instance itself, which has the
    /// number `fd`.
    pub(crate) fn waited_for_by(&self, fd: RawFd) -> RawFd {
        self.state.lock().private.as_ref().map_or(fd, Private::fd)
    }

    /// Another instance is going to watch this one: by the private one, where a connection has
    /// moved. Returns that; `None` if its own will do, and none of its connections moves.
    pub(crate) fn expose(&self) -> Option<RawFd> {
        let mut state = self.state.lock();
        let has_moved = state.is_exposed || state.len() > state.on_socket;
        let fd = state.private.as_ref().map(Private::fd).filter(|_| has_moved)?;
        state.expose();
        self.wake(&mut state);
        drop(self.settle(state));
        Some(fd)
    }

    /// A connection that has moved is going to be watched by this instance, which another one
    /// watches: by the private one from now on.
    pub(super) fn expose_late(&self, state: &mut State) -> Result<(), Errno> {
        if state.is_exposed {
            return Ok(());
        }
        let watched = self.watched();
        let (epfd, outer, event) = match &watched[..] {
            [] => return Ok(()),
            [(epfd, table::Watch::Once(outer, event))] => (*epfd, outer.upgrade(), *event),
            _ => return Err(Errno(libc::EPERM)),
        };
        // Who would have to be told of the other instance is not known.
        let outer = outer.ok_or(Errno(libc::EPERM))?;
        let private = state.private.as_ref().ok_or(Errno(libc::EPERM))?.fd();
        if sys::epoll_ctl(outer.epfd(), libc::EPOLL_CTL_DEL, epfd, None).is_err() {
            // It was told of what had the number before.
            return Ok(());
        }
        let added = sys::epoll_ctl(outer.epfd(), libc::EPOLL_CTL_ADD, private, Some(event));
        if added.is_err() {
            sys::epoll_ctl(outer.epfd(), libc::EPOLL_CTL_ADD, epfd, Some(event)).ok();
            return added;
        }
        state.expose();
        Ok(())
    }

    /// Who waited for the instance itself was woken: takes doorbells.
    pub(crate) fn attend(&self) {
        let mut state = self.state.lock();
        if let Ok(news) = state.ask_private(Some(0), null()) {
            state.hear(&news);
        }
        // What was taken may have been meant for who sleeps in here.
        self.wake(&mut state);
        drop(self.settle(state));
    }
}
