//! The epoll instances that have been told of a connection.

use super::{Connection, Phase, lock};
use crate::epoll::Epoll;
use crate::report::Reason;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

/// One of them.
#[derive(Debug)]
pub(super) struct Watcher {
    epoll: Weak<Epoll>,
    /// The number by which it was told.
    fd: RawFd,
    /// How often it had been waited in then.
    waits: u64,
    /// The program has taken it back, but the instance keeps a place for it.
    lingers: bool,
}

impl Watcher {
    /// Whether the program has it still, and is told by it.
    pub(super) fn tells(&self) -> bool {
        !self.lingers && self.epoll.upgrade().is_some_and(|epoll| epoll.is_open())
    }

    /// Whether it has been waited in, by calls that are served alone, since it was told.
    pub(super) fn is_served(&self) -> bool {
        self.epoll.upgrade().is_none_or(|epoll| epoll.is_served_since(self.waits))
    }

    fn is(&self, epoll: &Arc<Epoll>, fd: RawFd) -> bool {
        self.fd == fd && std::ptr::eq(self.epoll.as_ptr(), Arc::as_ptr(epoll))
    }
}

impl Connection {
    /// `epoll` has been told of it as `fd`.
    pub(crate) fn watched_by(&self, epoll: &Arc<Epoll>, fd: RawFd) {
        let mut watchers = lock(&self.watchers);
        watchers.retain(|other| other.epoll.strong_count() > 0 && !other.is(epoll, fd));
        watchers.push(Watcher {
            epoll: Arc::downgrade(epoll),
            fd,
            waits: epoll.waits(),
            lingers: false,
        });
    }

    /// `epoll` is told of it as `fd` no more.
    pub(crate) fn unwatched_by(&self, epoll: &Arc<Epoll>, fd: RawFd) {
        self.lingers_with(epoll, fd);
        lock(&self.watchers).retain(|other| !other.is(epoll, fd));
    }

    /// The same; but `epoll` keeps a place for it, and is to hear of its end.
    pub(crate) fn lingers_with(&self, epoll: &Arc<Epoll>, fd: RawFd) {
        for watcher in lock(&self.watchers).iter_mut().filter(|other| other.is(epoll, fd)) {
            // Some event loops do so whenever they have been told of something.
            if !watcher.lingers && watcher.is_served() {
                self.note_waited();
            }
            watcher.lingers = true;
        }
    }

    /// The number, once, of each instance that watches it.
    pub(super) fn watchers(&self) -> Vec<Arc<Epoll>> {
        let watchers = lock(&self.watchers);
        let mut found: Vec<Arc<Epoll>> = Vec::new();
        for epoll in watchers.iter().filter_map(|watcher| watcher.epoll.upgrade()) {
            if !found.iter().any(|known| Arc::ptr_eq(known, &epoll)) {
                found.push(epoll);
            }
        }
        found
    }

    /// Something has changed that may be news to those who watch it, but `except`, who
    /// knows. To be called without an instance's or the sleepers' lock.
    pub(crate) fn tell_watchers(self: &Arc<Self>, except: Option<&Epoll>) {
        for epoll in self.watchers() {
            if !except.is_some_and(|known| std::ptr::eq(known, Arc::as_ptr(&epoll))) {
                epoll.look_at(self);
            }
        }
    }

    /// One of those who watch it is watched by another instance, which is not to be told of
    /// what has been read.
    pub(crate) fn note_nested_watch(&self) {
        self.is_far.store(true, Relaxed);
    }

    /// Something was read.
    #[inline]
    pub(super) fn after_read(self: &Arc<Self>) {
        if self.is_far.load(Relaxed) {
            self.tell_watchers(None);
        }
    }

    /// The number `fd` is being closed, by which it may be watched: another is `left`.
    pub(super) fn renumber_watched(self: &Arc<Self>, fd: RawFd, left: RawFd) {
        let is_watched = lock(&self.watchers).iter().any(|watcher| watcher.fd == fd);
        // The kernel keeps the program's registration, which nobody can change any more.
        if is_watched && self.phase() == Phase::Socket {
            self.give_up(Reason::Watched);
            return;
        }
        for epoll in self.watchers() {
            epoll.renumber(self.id, fd, left);
        }
    }

    /// Whether the program has closed a number by which it is watched: nobody can change that any
    /// more.
    pub(super) fn is_watched_by_closed_number(&self) -> bool {
        lock(&self.watchers).iter().any(|watcher| !self.has_number(watcher.fd))
    }

    /// Nobody watches it any more.
    pub(super) fn leave_watchers(&self) {
        for epoll in self.watchers() {
            epoll.forget(self.id);
        }
        lock(&self.watchers).clear();
    }
}
