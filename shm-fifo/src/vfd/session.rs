//! One connection on shared memory, as its file descriptor.

use super::Errno;
use super::poller::Poller;
use super::stats::COUNTERS;
use super::unread;
use crate::consumer::Consumer;
use crate::os::doorbell::{self, Heard};
use crate::os::region::{Endpoint, Mapping};
use crate::os::sys;
use crate::park::{DataWatch, PublishFence, SpaceWatch};
use crate::producer::Producer;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};

const AGAIN: Errno = Errno(libc::EAGAIN);
const BROKEN_PIPE: Errno = Errno(libc::EPIPE);
const BAD_FD: Errno = Errno(libc::EBADF);

/// No poller watches the session.
const NOBODY: RawFd = -1;

/// Sessions that live, and the bytes of their regions.
static LIVE_SESSIONS: AtomicUsize = AtomicUsize::new(0);
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// What the moved connections take at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// How many there are.
    pub sessions: usize,
    /// Bytes of memory of all their regions.
    pub region_bytes: usize,
    /// Bytes of memory that hold what the peers of ended connections have not read.
    pub unread_bytes: usize,
}

/// What the moved connections take at the moment.
#[must_use]
pub fn usage() -> Usage {
    // ORDERING, Relaxed: statistics; no data depends on them.
    Usage {
        sessions: LIVE_SESSIONS.load(Relaxed),
        region_bytes: LIVE_BYTES.load(Relaxed),
        unread_bytes: unread::bytes(),
    }
}

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
/// Locks are taken in the order `life`, poller, and then `reader` or `writer`.
#[derive(Debug)]
pub(super) struct Session {
    fd: RawFd,
    live: AtomicBool,
    /// The peer's end was heard on the socket.
    ended: AtomicBool,
    /// The peer broke the protocol: no byte is exchanged any more.
    poisoned: AtomicBool,
    hot: AtomicBool,
    /// Something was published and nobody has looked yet whether the peer sleeps.
    unrung: AtomicBool,
    /// The last write found no space for all it was given. Changed by a writer.
    unfinished: AtomicBool,
    owner: AtomicU64,
    /// The consumer's position, for pollers.
    head: AtomicU64,
    /// The producer's position, for pollers.
    tail: AtomicU64,
    /// The epoll instance whose poller has a member for this session.
    watched_by: AtomicI32,
    reader: Mutex<Option<Consumer<'static>>>,
    writer: Mutex<Option<Producer<'static>>>,
    /// Held while the session begins, ends, or joins or leaves a poller: nobody
    /// can join with views of memory that is being unmapped.
    life: Mutex<Option<Mapping>>,
}

impl Session {
    pub(super) fn new(fd: RawFd) -> Self {
        Self {
            fd,
            live: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            hot: AtomicBool::new(false),
            unrung: AtomicBool::new(false),
            unfinished: AtomicBool::new(false),
            owner: AtomicU64::new(0),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            watched_by: AtomicI32::new(NOBODY),
            reader: Mutex::new(None),
            writer: Mutex::new(None),
            life: Mutex::new(None),
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
        let mut life = lock(&self.life);
        if life.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.ended.store(false, Relaxed);
        self.poisoned.store(false, Relaxed);
        self.unfinished.store(false, Relaxed);
        self.owner.store(owner, Relaxed);
        self.head.store(endpoint.consumer.position(), Relaxed);
        self.tail.store(endpoint.producer.position(), Relaxed);
        *lock(&self.reader) = Some(endpoint.consumer);
        *lock(&self.writer) = Some(endpoint.producer);
        LIVE_SESSIONS.fetch_add(1, Relaxed);
        LIVE_BYTES.fetch_add(endpoint.mapping.total_bytes(), Relaxed);
        *life = Some(endpoint.mapping);
        // ORDERING, Release: whoever sees the session live sees all of the above.
        self.live.store(true, Release);
        COUNTERS.sessions_started.add(1);
        Ok(())
    }

    /// Publishes what the peer is to read first.
    ///
    /// To be called before a poller looks at the ring. A peer that writes before it was
    /// greeted rings nobody: whoever goes to sleep over the ring has to look at it
    /// behind the greeting. The peer is rung by [`Session::ring_after_greeting`].
    pub(super) fn greet(&self, greeting: &[u8]) {
        // ORDERING E6: the Release store of the position, and the fence of whoever
        // announces a sleep later (`announce`). Joining a poller orders the two.
        if let Some(producer) = lock(&self.writer).as_mut() {
            // A peer that has scribbled on its words already is ended by the next write.
            producer.write(greeting).ok();
            self.tail.store(producer.position(), Relaxed);
        }
    }

    /// Rings the peer for its greeting: now, or at the event loop's next wait.
    pub(super) fn ring_after_greeting(&self) {
        if let Some(producer) = lock(&self.writer).as_ref() {
            self.notify(producer, false);
        }
    }

    /// Takes a session back that could not be started: the socket lives on.
    pub(super) fn abandon(&self) {
        drop(self.take());
    }

    /// Ends the session because its file descriptor is being closed.
    pub(super) fn end(&self) {
        let Some(ended) = self.take() else { return };
        ended.producer.close();
        ended.consumer.close();
        // The peer wakes by the socket's end, even if a forked child keeps a copy.
        sys::shutdown(self.fd);
        // A peer may keep the region for as long as it likes; what it may still read, our
        // last words, is all that is left to it.
        if self.peer_is_gone() {
            ended.discard();
        } else {
            unread::leave(ended);
        }
    }

    fn take(&self) -> Option<Endpoint> {
        let mut life = lock(&self.life);
        self.live.store(false, Relaxed);
        self.leave_poller();
        let consumer = lock(&self.reader).take();
        let producer = lock(&self.writer).take();
        let mapping = life.take()?;
        LIVE_SESSIONS.fetch_sub(1, Relaxed);
        LIVE_BYTES.fetch_sub(mapping.total_bytes(), Relaxed);
        Some(Endpoint { producer: producer?, consumer: consumer?, mapping })
    }

    /// Makes this session a member of the poller of `epfd` with `join`, once
    /// `register` has told the kernel, and leaves the one it was in. Where the
    /// kernel refuses, or the session has ended, it stays where it is.
    pub(super) fn join_poller(
        &self,
        epfd: RawFd,
        register: impl FnOnce() -> io::Result<()>,
        join: impl FnOnce(Views),
    ) -> io::Result<()> {
        let _life = lock(&self.life);
        let views = self.views().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        register()?;
        if self.watched_by.load(Relaxed) != epfd {
            // Before it joins: two pollers would speak for one sleep.
            self.leave_poller();
        }
        join(views);
        self.watched_by.store(epfd, Relaxed);
        Ok(())
    }

    /// Leaves the poller of `epfd`, if that is where the session is.
    pub(super) fn dismiss_from(&self, epfd: RawFd) {
        let _life = lock(&self.life);
        if self.watched_by.load(Relaxed) == epfd {
            self.leave_poller();
        }
    }

    /// To be called with `life` held.
    fn leave_poller(&self) {
        let epfd = self.watched_by.swap(NOBODY, Relaxed);
        if let Some(poller) = Poller::existing(epfd) {
            poller.remove(self.fd);
        }
        self.hot.store(false, Relaxed);
        self.ring_now();
    }

    fn views(&self) -> Option<Views> {
        Some(Views {
            data: lock(&self.reader).as_ref()?.watch(),
            space: lock(&self.writer).as_ref()?.watch(),
        })
    }

    /// Reads what there is. A descriptor in blocking mode waits for it.
    #[inline]
    pub(super) fn read(&self, target: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match self.try_read(target) {
                Err(AGAIN) if !sys::is_nonblocking(self.fd) => self.wait_for_bytes()?,
                result => return result,
            }
        }
    }

    /// Writes what there is space for. A descriptor in blocking mode waits for more.
    #[inline]
    pub(super) fn write(&self, sources: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let length: usize = sources.iter().map(|source| source.len()).sum();
        match self.try_write(sources) {
            result @ (Ok(_) | Err(AGAIN)) if result != Ok(length) => {
                let written = result.unwrap_or(0);
                if sys::is_nonblocking(self.fd) {
                    result
                } else {
                    self.write_rest(sources, written)
                }
            }
            result => result,
        }
    }

    fn try_read(&self, target: &mut [u8]) -> Result<usize, Errno> {
        let mut reader = lock(&self.reader);
        let Some(consumer) = reader.as_mut() else { return Err(BAD_FD) };
        if self.poisoned.load(Relaxed) || target.is_empty() {
            return Ok(0);
        }
        // The end is looked at first: what was published before it is seen then.
        let at_end = self.peer_is_gone() || consumer.watch().producer_closed();
        let Ok(read) = consumer.read(target) else {
            self.poison();
            return Ok(0);
        };
        self.head.store(consumer.position(), Relaxed);
        if consumer.must_ring() {
            self.ring();
        }
        if read == 0 && !at_end { Err(AGAIN) } else { Ok(read) }
    }

    fn try_write(&self, sources: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let mut writer = lock(&self.writer);
        let Some(producer) = writer.as_mut() else { return Err(BAD_FD) };
        if self.peer_is_gone() {
            return Err(BROKEN_PIPE);
        }
        let result = match sources {
            [source] => producer.write(source),
            _ => producer.write_vectored(sources),
        };
        let Ok(written) = result else {
            self.poison();
            return Err(BROKEN_PIPE);
        };
        self.tail.store(producer.position(), Relaxed);
        let unfinished = written < sources.iter().map(|source| source.len()).sum();
        // The parts of what the ring cannot hold are written as there is space, not
        // just before a wait.
        let in_parts = self.unfinished.load(Relaxed) || unfinished;
        self.unfinished.store(unfinished, Relaxed);
        if written > 0 {
            self.notify(producer, in_parts);
        }
        match written {
            // A peer that has closed is heard of by its socket; here it is only looked
            // for where nothing else says so: the word lies in the line of the peer's
            // position, which would have to come from its CPU before each write.
            0 if unfinished && producer.watch().consumer_closed() => Err(BROKEN_PIPE),
            0 if unfinished => Err(AGAIN),
            _ => Ok(written),
        }
    }

    /// Writes what comes after the first `written` bytes of `sources`, waiting as
    /// often as need be. Returns how many bytes were written in all.
    #[cold]
    fn write_rest(&self, sources: &[IoSlice<'_>], mut written: usize) -> Result<usize, Errno> {
        let mut pieces = sources.to_vec();
        let mut rest = &mut pieces[..];
        IoSlice::advance_slices(&mut rest, written);
        while !rest.is_empty() {
            let result = match self.try_write(rest) {
                Err(AGAIN) => self.wait_for_space().map(|()| 0),
                result => result,
            };
            match result {
                Ok(more) => {
                    IoSlice::advance_slices(&mut rest, more);
                    written += more;
                }
                Err(error) if written == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(written)
    }

    #[cold]
    fn wait_for_bytes(&self) -> Result<(), Errno> {
        // While the lock is held: without it another thread's close may unmap the words.
        let parked = lock(&self.reader).as_ref().map(|own| own.watch().park(self.head()));
        // Stays announced: one doorbell too many, and no poller finds it unannounced.
        if parked.ok_or(BAD_FD)? { self.wait_for_peer(libc::SO_RCVTIMEO) } else { Ok(()) }
    }

    #[cold]
    fn wait_for_space(&self) -> Result<(), Errno> {
        let parked = lock(&self.writer).as_ref().map(|own| own.watch().park(self.tail()));
        if parked.ok_or(BAD_FD)? { self.wait_for_peer(libc::SO_SNDTIMEO) } else { Ok(()) }
    }

    /// Waits until the peer rings or ends, as long as the socket's `timeout` allows.
    fn wait_for_peer(&self, timeout: libc::c_int) -> Result<(), Errno> {
        // The event loop's next wait may be long in coming.
        self.ring_now();
        if !sys::wait_readable(self.fd, sys::timeout(self.fd, timeout))? {
            return Err(AGAIN);
        }
        self.listen();
        Ok(())
    }

    /// Takes doorbells off the socket. Returns whether the peer's end was heard.
    pub(super) fn listen(&self) -> bool {
        match doorbell::listen(self.fd) {
            Heard::Nothing => {}
            Heard::Rung(count) => COUNTERS.doorbells_received.add(count as u64),
            // ORDERING E4, Release: pairs with the Acquire load in `peer_is_gone`. What
            // the peer published before its end is seen by whichever thread reads.
            Heard::End => self.ended.store(true, Release),
            Heard::Violation(_) => self.poison(),
        }
        self.peer_is_gone()
    }

    pub(super) fn peer_is_gone(&self) -> bool {
        // ORDERING E4, Acquire: see `listen`. Weaker: another thread than the one that
        // heard the end could read an older position after it, and lose the last bytes.
        self.ended.load(Acquire) || self.poisoned.load(Relaxed)
    }

    pub(super) fn head(&self) -> u64 {
        self.head.load(Relaxed)
    }

    pub(super) fn tail(&self) -> u64 {
        self.tail.load(Relaxed)
    }

    pub(super) fn set_hot(&self, hot: bool) {
        self.hot.store(hot, Relaxed);
    }

    pub(super) fn info(&self) -> Option<SessionInfo> {
        let region_bytes = lock(&self.life).as_ref()?.total_bytes();
        Some(SessionInfo {
            fd: self.fd,
            owner: self.owner.load(Relaxed),
            hot: self.hot.load(Relaxed),
            bytes_in: self.head(),
            bytes_out: self.tail(),
            region_bytes,
        })
    }

    /// Wakes the peer if it sleeps: `at_once`, or at the event loop's next wait.
    fn notify(&self, producer: &Producer<'_>, at_once: bool) {
        // A parked session is not among those that the loop looks at.
        let may_wait = self.hot.load(Relaxed) && !at_once;
        let poller = may_wait.then(|| self.watched_by.load(Relaxed));
        match poller.and_then(Poller::existing).filter(|poller| poller.may_ring_later()) {
            Some(poller) => {
                self.unrung.store(true, Relaxed);
                poller.ring_at_next_wait();
            }
            None if producer.must_ring() => self.ring(),
            None => {}
        }
    }

    /// Does now what was left to the event loop's next wait, after a write that is
    /// under way.
    pub(super) fn ring_now(&self) {
        if let Some(producer) = lock(&self.writer).as_ref() {
            self.ring_if_unrung(&producer.watch(), &PublishFence::execute());
        }
    }

    /// Rings the peer if it sleeps over what was published before `fence` and
    /// nobody has looked since.
    pub(super) fn ring_if_unrung(&self, space: &SpaceWatch<'_>, fence: &PublishFence) {
        if self.unrung.load(Relaxed) {
            self.unrung.store(false, Relaxed);
            if space.must_ring(fence) {
                self.ring();
            }
        }
    }

    fn ring(&self) {
        COUNTERS.doorbells_sent.add(doorbell::ring(self.fd).into());
    }

    /// Ends a session whose peer broke the protocol: the program sees the end of
    /// its stream, the peer that of the socket.
    fn poison(&self) {
        if !self.poisoned.swap(true, Relaxed) {
            COUNTERS.protocol_violations.add(1);
            sys::shutdown(self.fd);
        }
    }
}

/// What a poller looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Views {
    pub(super) data: DataWatch<'static>,
    pub(super) space: SpaceWatch<'static>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
