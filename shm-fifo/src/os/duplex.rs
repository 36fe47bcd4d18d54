//! A channel whose two directions are used by different threads.

use super::doorbell::{self, Heard};
use super::region::{Endpoint, FIRST_POSITION, Mapping};
use super::sys;
use super::wait::SpinPolicy;
use crate::consumer::Consumer;
use crate::park::{DataWatch, PublishFence, SpaceWatch};
use crate::producer::Producer;
use crate::watch::{Interest, Watch};
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How much is taken back at once.
const TAKE_BACK_BYTES: usize = 4096;

/// How often the socket is read for what is on it now. A peer that floods it is not
/// listened to for longer.
const LOOKS: usize = 4;

/// Both ends of a region's rings, for any number of threads, none of which waits
/// in here.
///
/// It is what an interposer puts behind a file descriptor: reading never blocks
/// writing, and the waiting is done by whoever calls, on whatever else it waits
/// for too. The doorbell socket is the caller's and passed to each call, because
/// a program may duplicate it and close the original.
///
/// A parked word stands for all threads of a side. So the caller counts those
/// that sleep: it calls [`Duplex::park`] for each of them, [`Duplex::unpark`] when
/// the last has woken, and [`Duplex::listen`] while none sleeps.
///
/// # Before the peer enters
///
/// A side that has asked its peer to go on in the rings, on their socket, may write at
/// once ([`Duplex::new_unstarted`]): the peer finds it when it enters. Meanwhile the
/// socket still carries the bytes of both, so nobody is rung, and the caller reads it.
/// It ends with the peer's first doorbell, where the caller calls [`Duplex::enter`]; or
/// the peer refuses, and [`Duplex::take_back`] has what it has not read.
#[derive(Debug)]
pub struct Duplex {
    reader: Mutex<Consumer<'static>>,
    writer: Mutex<Producer<'static>>,
    data: DataWatch<'static>,
    space: SpaceWatch<'static>,
    /// The consumer's position, for whoever looks without its lock.
    head: AtomicU64,
    /// The producer's position, likewise.
    tail: AtomicU64,
    /// The peer's end was heard on the socket.
    ended: AtomicBool,
    /// The peer broke the protocol: nothing is exchanged any more.
    broken: AtomicBool,
    /// What is written was ended by this side.
    write_closed: AtomicBool,
    /// The socket carries doorbells and nothing else, in both directions.
    entered: AtomicBool,
    /// Up to where the bytes were taken back. Changed with `writer` locked.
    taken_back: AtomicU64,
    /// The CPU last published, plus one.
    cpu: AtomicU64,
    // The last field, so that it drops after all that looks into it.
    mapping: Mapping,
}

impl Duplex {
    /// Takes an endpoint into use whose peer has entered.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        let duplex = Self::new_unstarted(endpoint);
        duplex.enter();
        duplex
    }

    /// Takes an endpoint into use whose peer may not have entered yet.
    #[must_use]
    pub fn new_unstarted(endpoint: Endpoint) -> Self {
        let Endpoint { producer, consumer, mapping } = endpoint;
        Self {
            data: consumer.watch(),
            space: producer.watch(),
            head: AtomicU64::new(consumer.position()),
            tail: AtomicU64::new(producer.position()),
            reader: Mutex::new(consumer),
            writer: Mutex::new(producer),
            ended: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            write_closed: AtomicBool::new(false),
            entered: AtomicBool::new(false),
            taken_back: AtomicU64::new(FIRST_POSITION),
            cpu: AtomicU64::new(0),
            mapping,
        }
    }

    /// Whether the peer has entered: its first bytes are here. What it said on the socket
    /// before may still be on its way there.
    #[must_use]
    pub fn has_peer_entered(&self) -> bool {
        let inherited = self.mapping.is_inherited();
        self.has_entered() || !inherited && self.watch().has_peer_entered(FIRST_POSITION)
    }

    /// To be called when the peer's first doorbell was heard on the socket: all that it
    /// had said there was read before.
    pub fn enter(&self) {
        // ORDERING, Relaxed: says less than the peer's first bytes do, which are looked
        // for until then.
        self.entered.store(true, Relaxed);
    }

    /// Gives `send` what was written, piece by piece and in order, for a peer that
    /// refused to enter and so read none of it. Nothing can be written here any more.
    ///
    /// `send` says how many bytes it took. Where it fails, as with `WouldBlock`, the next
    /// call goes on with the first byte that it did not take. Others that write wait for it.
    ///
    /// # Errors
    /// That of `send`, `WriteZero` if it takes nothing; `InvalidData` if the peer has
    /// entered after all, or says that it has read some; `BrokenPipe` in a forked child.
    pub fn take_back(&self, mut send: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        self.refuse_if_inherited()?;
        let producer = lock(&self.writer);
        self.write_closed.store(true, Relaxed);
        // More than the ring was written only if the peer gave space back.
        let written = producer.position().wrapping_sub(FIRST_POSITION);
        if self.has_peer_entered() || written > producer.capacity() as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        loop {
            let position = self.taken_back.load(Relaxed);
            let left = producer.position().wrapping_sub(position);
            let mut piece = [0; TAKE_BACK_BYTES];
            let length = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            let piece = &mut piece[..length];
            if piece.is_empty() {
                return Ok(());
            }
            producer.copy_published(position, piece);
            let sent = send(piece)?.min(length);
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.taken_back.store(position.wrapping_add(sent as u64), Relaxed);
        }
    }

    /// Reads what there is. `Ok(0)` is the end of the stream, or an empty `target`.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing yet, `BrokenPipe` in a forked child. A peer
    /// that breaks the protocol has ended.
    pub fn read(&self, socket: RawFd, target: &mut [u8]) -> io::Result<usize> {
        self.take(socket, target, |consumer, target| {
            let read = consumer.read(target)?;
            if consumer.must_ring() {
                self.ring(socket);
            }
            Ok(read)
        })
    }

    /// As [`Duplex::read`], leaving the bytes where they are.
    ///
    /// # Errors
    /// As [`Duplex::read`].
    pub fn peek(&self, socket: RawFd, target: &mut [u8]) -> io::Result<usize> {
        self.take(socket, target, Consumer::peek)
    }

    /// Writes what there is space for and publishes it at once.
    ///
    /// # Errors
    /// `WouldBlock` if there is no space, `BrokenPipe` if nobody will read it or
    /// this is a forked child.
    pub fn write(&self, socket: RawFd, sources: &[IoSlice<'_>]) -> io::Result<usize> {
        self.refuse_if_inherited()?;
        let mut producer = lock(&self.writer);
        let closed = self.write_closed.load(Relaxed);
        // As `Channel` does it: the line with the word that ends the peer's reading is
        // not fetched for each write.
        let peer_has_closed = || self.data.producer_closed() && self.space.consumer_closed();
        if closed || self.peer_is_gone() || peer_has_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let Ok(written) = producer.write_vectored(sources) else {
            self.break_off(socket);
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        self.tail.store(producer.position(), Relaxed);
        if written > 0 && self.must_ring(&producer) {
            doorbell::ring(socket);
        }
        let wanted = sources.iter().any(|source| !source.is_empty());
        match written {
            0 if wanted && self.space.consumer_closed() => Err(io::ErrorKind::BrokenPipe.into()),
            0 if wanted => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(written),
        }
    }

    /// Bytes that can be read without waiting.
    #[must_use]
    pub fn available_bytes(&self) -> usize {
        if self.mapping.is_inherited() {
            return 0;
        }
        lock(&self.reader).available_bytes().unwrap_or(0)
    }

    /// Whether what `interest` names is there. The peer's end counts as both.
    #[must_use]
    #[inline]
    pub fn is_ready(&self, interest: Interest) -> bool {
        self.peer_is_gone()
            || self.mapping.is_inherited()
            || interest.readable && self.data.is_ready(self.head.load(Relaxed))
            || interest.writable && self.space.is_ready(self.tail.load(Relaxed))
    }

    /// Whether the peer has ended and nothing of it is left to be read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        let ended = self.peer_is_gone() || self.peer_closed();
        ended && self.available_bytes() == 0
    }

    /// Whether the peer has said that it ended; what it published before can still
    /// be read.
    #[must_use]
    pub fn peer_closed(&self) -> bool {
        !self.mapping.is_inherited() && self.data.producer_closed()
    }

    /// A number that differs from what it was whenever bytes have come since.
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        if self.mapping.is_inherited() { 0 } else { self.data.published() }
    }

    /// Whether spinning for the peer may pay, by `policy`. Tells the peer on which
    /// CPU this thread waits.
    #[must_use]
    pub fn may_spin(&self, policy: &SpinPolicy) -> bool {
        if self.mapping.is_inherited() {
            return false;
        }
        let own_cpu = sys::current_cpu();
        if let Some(cpu) = own_cpu
            && self.cpu.swap(u64::from(cpu) + 1, Relaxed) != u64::from(cpu) + 1
        {
            self.data.publish_cpu(cpu);
            self.space.publish_cpu(cpu);
        }
        policy.may_spin(sys::monotonic_ns(), own_cpu, self.data.peer_cpu())
    }

    /// Announces that a thread is about to sleep on the socket for what `interest`
    /// names. Returns whether it may: `false` if that has come.
    ///
    /// What there is to read counts from what has been read; or, for somebody who
    /// has noticed more and left it, from the [`arrivals`](Duplex::arrivals) then.
    #[must_use = "on false it has come: do not sleep"]
    pub fn park(&self, socket: RawFd, interest: Interest, noticed: Option<u64>) -> bool {
        if self.mapping.is_inherited() {
            return false;
        }
        let mut reader = lock(&self.reader);
        if reader.must_ring_now() {
            self.ring(socket);
        }
        let seen = noticed.unwrap_or_else(|| reader.position());
        drop(reader);
        (!interest.readable || self.data.park(seen))
            && (!interest.writable || self.space.park(self.tail.load(Relaxed)))
    }

    /// Takes back what [`Duplex::park`] announced, for the part of `interest` that
    /// no thread sleeps for any more.
    pub fn unpark(&self, interest: Interest) {
        if self.mapping.is_inherited() {
            return;
        }
        // The first doorbell is what ends the peer's stream on the socket: it has to come.
        if interest.readable && self.has_entered() {
            self.data.unpark();
        }
        if interest.writable {
            self.space.unpark();
        }
    }

    /// Takes doorbells off the socket, once [`Duplex::enter`] was called. Returns
    /// whether the peer's end was heard.
    pub fn listen(&self, socket: RawFd) -> bool {
        // The end is behind the last doorbells: who asks for one is told of the other.
        for _ in 0..LOOKS {
            match doorbell::listen(socket) {
                Heard::Rung(_) => continue,
                Heard::Nothing => {}
                // ORDERING E4, Release: pairs with the Acquire load in `peer_is_gone`. What
                // the peer published before its end is seen by whichever thread reads.
                Heard::End => self.ended.store(true, Release),
                Heard::Violation(_) => self.break_off(socket),
            }
            break;
        }
        self.peer_is_gone()
    }

    /// Ends what is written: the peer reads what is there, and then the end.
    pub fn close_writing(&self, socket: RawFd) {
        if !self.mapping.is_inherited() {
            self.end_writing();
            // As after a write: a peer that has not entered looks before it sleeps.
            let _before_the_look = PublishFence::execute();
            self.ring(socket);
        }
    }

    /// Ends both directions and the socket. In a forked child it does nothing: the
    /// parent's connection goes on.
    pub fn close(&self, socket: RawFd) {
        if !self.mapping.is_inherited() {
            self.end_writing();
            lock(&self.reader).close();
            sys::shutdown(socket);
        }
    }

    fn watch(&self) -> Watch<'static> {
        Watch::new(self.data, self.space)
    }

    fn has_entered(&self) -> bool {
        self.entered.load(Relaxed)
    }

    /// After publishing: whether the peer sleeps and must be rung.
    fn must_ring(&self, producer: &Producer<'_>) -> bool {
        if self.has_entered() {
            producer.must_ring()
        } else {
            self.watch().must_ring_if_entered(FIRST_POSITION)
        }
    }

    /// Rings the peer, unless the socket is not there for that yet.
    fn ring(&self, socket: RawFd) {
        if self.has_peer_entered() {
            doorbell::ring(socket);
        }
    }

    fn end_writing(&self) {
        self.write_closed.store(true, Relaxed);
        lock(&self.writer).close();
    }

    fn take(
        &self,
        socket: RawFd,
        target: &mut [u8],
        from: impl FnOnce(&mut Consumer<'static>, &mut [u8]) -> Result<usize, crate::Corrupt>,
    ) -> io::Result<usize> {
        self.refuse_if_inherited()?;
        let mut consumer = lock(&self.reader);
        if target.is_empty() || self.broken.load(Relaxed) {
            return Ok(0);
        }
        // The end is looked at first: what was published before it is seen then.
        let at_end = self.peer_is_gone() || self.data.producer_closed();
        let Ok(read) = from(&mut consumer, target) else {
            self.break_off(socket);
            return Ok(0);
        };
        self.head.store(consumer.position(), Relaxed);
        if read == 0 && !at_end { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(read) }
    }

    fn peer_is_gone(&self) -> bool {
        // ORDERING E4, Acquire: see `listen`. Weaker: another thread than the one that
        // heard the end could read an older position after it, and lose the last bytes.
        self.ended.load(Acquire) || self.broken.load(Relaxed)
    }

    fn refuse_if_inherited(&self) -> io::Result<()> {
        if self.mapping.is_inherited() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    /// The peer broke the protocol: it is told by the end of the socket.
    fn break_off(&self, socket: RawFd) {
        self.broken.store(true, Relaxed);
        sys::shutdown(socket);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
