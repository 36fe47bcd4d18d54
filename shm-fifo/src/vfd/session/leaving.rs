//! The way back: a session whose peer goes on over the socket.
//!
//! The peer sends [`LEAVE`] on the socket, behind its last doorbell: it neither reads nor
//! writes the rings from then on. This side sends the same byte, behind its last doorbell, and
//! behind that the stream goes on where the peer has stopped to read: first what it has not
//! read of the ring, then what the program writes. The program reads the ring empty, and then
//! the socket. Once nothing is left in either ring the file descriptor is a socket as it was
//! before.

use super::super::Errno;
use super::super::poller::{DOORBELLS, EPOLLIN, EPOLLOUT, Poller, State};
use super::super::stats::COUNTERS;
use super::super::tag::tag_of;
use super::super::usage;
use super::{AGAIN, NOBODY, Session};
use crate::os::doorbell::LEAVE;
use crate::os::published::send_published;
use crate::os::sys;
use crate::{Consumer, Producer};
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

/// How far a session is on its way back.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    is_asked: AtomicBool,
    /// The peer was told that doorbells have ended. Changed while writing, as the next one is.
    is_answered: AtomicBool,
    /// Up to where the bytes of the ring are on the socket.
    sent: AtomicU64,
    /// All of them are, as far as anybody takes them.
    is_sent: AtomicBool,
    /// It is the socket that it was, until another session begins.
    is_over: AtomicBool,
}

impl Session {
    /// Whether its peer has left the rings.
    #[inline]
    pub(in super::super) fn is_leaving(&self) -> bool {
        // ORDERING E4, Acquire: pairs with `note_leave`. What the peer published before it left
        // is seen by whichever thread finds that nothing more comes.
        self.leaving.is_asked.load(Acquire)
    }

    /// Whether its peer was told that this side has left, too.
    pub(super) fn has_answered_leave(&self) -> bool {
        self.leaving.is_answered.load(Relaxed)
    }

    /// The peer has left the rings. [`Session::see_off`] does the rest, without a poller's lock.
    pub(super) fn note_leave(&self) {
        // ORDERING E4, Release: see `is_leaving`.
        self.leaving.is_asked.store(true, Release);
    }

    /// Another session begins.
    pub(super) fn forget_leave(&self) {
        self.leaving.is_over.store(false, Relaxed);
        self.forget_way();
    }

    fn forget_way(&self) {
        self.leaving.is_asked.store(false, Relaxed);
        self.leaving.is_answered.store(false, Relaxed);
        self.leaving.is_sent.store(false, Relaxed);
    }

    /// Goes as far on the way back as it can now. Returns whether what is written next may
    /// go to the socket.
    ///
    /// Whoever rings the peer has one of the locks that are held here: no doorbell follows the
    /// answer.
    pub(in super::super) fn see_off(&self) -> bool {
        let mut held = self.halves.hold();
        // One that was closed on its way has nothing to be seen off.
        if !self.is_leaving() || held.is_empty() {
            return true;
        }
        let poller = Poller::existing(self.watched_by.load(Relaxed));
        let mut watching = poller.map(|poller| (poller.epfd, poller.state.lock()));
        let is_sent = self.answer();
        self.leaving.is_sent.store(is_sent, Relaxed);
        let is_over = is_sent && self.has_read_all();
        if let Some((epfd, state)) = &mut watching {
            self.follow(*epfd, state, is_over);
        }
        drop(watching);
        if is_over {
            self.watched_by.store(NOBODY, Relaxed);
            self.live.store(false, Relaxed);
            // ORDERING, Relaxed: whoever finds no endpoint has taken a lock after this, in which
            // it was taken out.
            self.leaving.is_over.store(true, Relaxed);
            if let Some(endpoint) = held.take() {
                usage::count_out(endpoint.total_bytes());
                // A peer may keep the region for as long as it likes.
                endpoint.discard_rings();
            }
            // Not before: whoever finds it not leaving writes into the ring.
            self.forget_way();
            COUNTERS.sessions_returned.add(1);
        }
        is_sent
    }

    /// Has the kernel tell what it knows of the socket again: the program itself, once
    /// nothing is left in here.
    fn follow(&self, epfd: RawFd, state: &mut State, is_over: bool) {
        let event = if is_over {
            let Some(member) = state.members.take(self) else { return };
            libc::epoll_event { events: member.interest, u64: member.data }
        } else {
            let Some(member) = state.members.activate(self, sys::monotonic_ns()) else { return };
            self.tagged(member.interest)
        };
        // It may have been closed behind our back; nobody is to be told then.
        sys::epoll_ctl(epfd, libc::EPOLL_CTL_MOD, self.fd, Some(event)).ok();
    }

    /// How the socket is registered, where the program asks for `interest`.
    pub(in super::super) fn tagged(&self, interest: u32) -> libc::epoll_event {
        let events = if self.is_leaving() { self.awaited(interest) } else { DOORBELLS };
        libc::epoll_event { events, u64: tag_of(self.fd) }
    }

    /// What the socket of one that is leaving is watched for: room for what is to be sent, and
    /// what the program asks for, once the ring has been read.
    fn awaited(&self, interest: u32) -> u32 {
        let in_turn = if self.has_read_all() { EPOLLIN | EPOLLOUT } else { EPOLLOUT };
        let room = if self.leaving.is_sent.load(Relaxed) { 0 } else { EPOLLOUT };
        interest & in_turn | room
    }

    /// Tells the peer that doorbells have ended, and sends what it has not read, as much as
    /// the socket takes. Returns whether nothing is left, or nobody takes it.
    fn answer(&self) -> bool {
        let answered = self
            .halves
            .reading(|_no_doorbell_now| self.halves.writing(|producer| self.send_unread(producer)));
        match answered.flatten() {
            Some(Err(error)) => {
                !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
            }
            Some(Ok(())) | None => true,
        }
    }

    fn send_unread(&self, producer: &Producer<'_>) -> io::Result<()> {
        let Leaving { is_answered, sent, .. } = &self.leaving;
        if !is_answered.load(Relaxed) {
            sys::send(self.fd, &[LEAVE], libc::MSG_DONTWAIT)?;
            is_answered.store(true, Relaxed);
            sent.store(producer.position().wrapping_sub(producer.unread_bytes() as u64), Relaxed);
        }
        let send = |piece: &[u8]| sys::send(self.fd, piece, libc::MSG_DONTWAIT);
        send_published(producer, sent, send)
    }

    fn has_read_all(&self) -> bool {
        let is_empty = |consumer: &mut Consumer<'_>| consumer.available_bytes() == Ok(0);
        self.halves.reading(is_empty).unwrap_or(true)
    }

    /// Reads what the peer left in the ring, and then the socket.
    #[cold]
    pub(super) fn read_last(&self, target: &mut [u8]) -> Result<usize, Errno> {
        match self.try_read(target) {
            Err(AGAIN) => self.read_socket(target),
            result => {
                // That may have been the last of it.
                self.see_off();
                result
            }
        }
    }

    /// For a call that finds the session gone: another thread has seen it off, and the socket
    /// carries the stream, or has closed it.
    #[cold]
    pub(super) fn check_whether_returned(&self) -> Result<(), Errno> {
        const BAD_FD: Errno = Errno(libc::EBADF);
        if self.leaving.is_over.load(Relaxed) { Ok(()) } else { Err(BAD_FD) }
    }

    /// There is nothing in the ring any more: the stream goes on on the socket.
    #[cold]
    pub(super) fn read_socket(&self, target: &mut [u8]) -> Result<usize, Errno> {
        self.see_off();
        Ok(sys::recv(self.fd, target, 0)?)
    }

    /// For a write: as much as the socket takes, behind what was written into the ring.
    #[cold]
    pub(super) fn write_socket(&self, sources: &[IoSlice<'_>]) -> Result<usize, Errno> {
        while !self.see_off() {
            if sys::is_nonblocking(self.fd) {
                return Err(AGAIN);
            }
            if !sys::wait_writable(self.fd, sys::timeout(self.fd, libc::SO_SNDTIMEO))? {
                return Err(AGAIN);
            }
        }
        Ok(sys::send_vectored(self.fd, sources)?)
    }
}
