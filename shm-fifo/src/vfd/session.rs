//! One connection on shared memory, as its file descriptor: its beginning and end, and who
//! watches it. Its bytes are in `bytes.rs`, its way back to the socket in `leaving.rs`.

mod bytes;
mod leaving;

use super::Errno;
use super::idle::LastSeen;
use super::place::{Place, SharedPlace};
use super::poller::Poller;
use super::stats::COUNTERS;
use super::unread;
use super::usage;
use crate::os::doorbell;
use crate::os::endpoint::Endpoint;
use crate::os::halves::{Halves, Held};
use crate::os::sys;
use crate::{Positions, Watch};
use leaving::Leaving;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize};

/// No poller watches the session.
const NOBODY: RawFd = -1;

const AGAIN: Errno = Errno(libc::EAGAIN);

/// What a program may know of a moved connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionInfo {
    /// The connection's file descriptor.
    pub fd: RawFd,
    /// The number that [`start`](super::start) was given.
    pub owner: u64,
    /// Whether it is being polled; otherwise it waits for its doorbell.
    pub hot: bool,
    /// Bytes read from the peer.
    pub bytes_in: u64,
    /// Bytes written to the peer.
    pub bytes_out: u64,
    /// Bytes of memory its region takes.
    pub region_bytes: usize,
}

/// The session of one file descriptor, or the empty place for its next one.
///
/// It begins, ends, joins or leaves a poller with `halves` held: nobody can join with a
/// view of memory that is being unmapped. Locks are taken in the order of that, poller,
/// and then the reader's or the writer's.
#[derive(Debug)]
pub(super) struct Session {
    fd: RawFd,
    live: AtomicBool,
    halves: Halves,
    /// Something was published and nobody has looked yet whether the peer sleeps.
    deferred: AtomicBool,
    /// The last write found no space for all it was given. Changed by a writer.
    unfinished: AtomicBool,
    owner: AtomicU64,
    /// Doorbells that were heard and are still on the socket, whoever heard them.
    unread_doorbells: AtomicUsize,
    /// The epoll instance whose poller has a member for this session.
    watched_by: AtomicI32,
    /// Where that member is.
    place: SharedPlace,
    leaving: Leaving,
    last_seen: LastSeen,
}

impl Session {
    pub(super) fn new(fd: RawFd) -> Self {
        Self {
            fd,
            live: AtomicBool::new(false),
            halves: Halves::default(),
            deferred: AtomicBool::new(false),
            unfinished: AtomicBool::new(false),
            owner: AtomicU64::new(0),
            unread_doorbells: AtomicUsize::new(0),
            watched_by: AtomicI32::new(NOBODY),
            place: SharedPlace::nowhere(),
            leaving: Leaving::default(),
            last_seen: LastSeen::default(),
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.fd
    }

    #[inline]
    pub(super) fn is_live(&self) -> bool {
        // ORDERING, Acquire: pairs with the Release store in `begin`.
        self.live.load(Acquire)
    }

    pub(super) fn begin(&self, endpoint: Endpoint, owner: u64) -> io::Result<()> {
        let mut held = self.halves.hold();
        if !held.is_empty() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.unfinished.store(false, Relaxed);
        self.unread_doorbells.store(0, Relaxed);
        self.forget_leave();
        self.last_seen.forget();
        self.owner.store(owner, Relaxed);
        usage::count_in(endpoint.total_bytes());
        held.put(endpoint);
        // ORDERING, Release: whoever sees the session live sees all of the above.
        self.live.store(true, Release);
        COUNTERS.sessions_started.add(1);
        Ok(())
    }

    /// Takes a session back that could not be started: the socket lives on.
    pub(super) fn abandon(&self) {
        drop(self.take());
    }

    /// Ends the session because its file descriptor is being closed.
    pub(super) fn end(&self) {
        let Some(ended) = self.take() else { return };
        ended.close();
        // The peer wakes by the socket's end, even if a forked child keeps a copy.
        sys::shutdown(self.fd);
        // Closed with doorbells unread, the socket would end by an error at the peer's side. Not
        // before: on a unix socket none follows the end.
        if !self.is_leaving() {
            let _ = doorbell::listen(self.fd);
        }
        // A peer may keep the region for as long as it likes; what it may still read, our
        // last words, is all that is left to it. Also where its socket has ended, or has carried
        // what it must not: that may be another process's doing, who has it, too.
        if self.has_answered_leave() {
            ended.discard_rings();
        } else {
            unread::leave(ended);
        }
    }

    fn take(&self) -> Option<Endpoint> {
        let mut held = self.halves.hold();
        self.live.store(false, Relaxed);
        self.leave_poller(&held);
        let endpoint = held.take()?;
        usage::count_out(endpoint.total_bytes());
        Some(endpoint)
    }

    /// Makes this session a member of the poller of `epfd` with `join`, once
    /// `register` has told the kernel, and leaves the one it was in. Where the
    /// kernel refuses, or the session has ended, it stays where it is.
    pub(super) fn join_poller(
        &self,
        epfd: RawFd,
        register: impl FnOnce() -> io::Result<()>,
        join: impl FnOnce(Watch<'static>),
    ) -> io::Result<()> {
        let held = self.halves.hold();
        let watch = held.watch().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        register()?;
        if self.watched_by.load(Relaxed) != epfd {
            // Before it joins: two pollers would speak for one sleep.
            self.leave_poller(&held);
        }
        join(watch);
        self.watched_by.store(epfd, Relaxed);
        Ok(())
    }

    /// Leaves the poller of `epfd`, if that is where the session is.
    pub(super) fn dismiss_from(&self, epfd: RawFd) {
        let held = self.halves.hold();
        if self.watched_by.load(Relaxed) == epfd {
            self.leave_poller(&held);
        }
    }

    fn leave_poller(&self, _held: &Held<'_>) {
        let epfd = self.watched_by.swap(NOBODY, Relaxed);
        if let Some(poller) = Poller::existing(epfd) {
            poller.remove(self);
        }
        self.notify_now();
    }

    /// Where it is among the members of its poller.
    pub(super) fn place(&self) -> &SharedPlace {
        &self.place
    }

    pub(super) fn last_seen(&self) -> &LastSeen {
        &self.last_seen
    }

    /// Gives the memory of the ring that it writes back, if the peer has read all of that.
    /// Returns whether it has.
    pub(super) fn give_back_if_read(&self) -> bool {
        self.halves.hold().give_back_if_read()
    }

    fn is_hot(&self) -> bool {
        matches!(self.place.get(), Some(Place::Hot(_)))
    }

    #[inline]
    pub(super) fn peer_is_gone(&self) -> bool {
        self.halves.peer.is_gone()
    }

    #[inline]
    pub(super) fn positions(&self) -> Positions {
        self.halves.positions()
    }

    pub(super) fn info(&self) -> Option<SessionInfo> {
        let region_bytes = self.halves.hold().total_bytes()?;
        let Positions { head, tail } = self.positions();
        Some(SessionInfo {
            fd: self.fd,
            owner: self.owner.load(Relaxed),
            hot: self.is_hot(),
            bytes_in: head,
            bytes_out: tail,
            region_bytes,
        })
    }
}
