//! A channel whose two directions are used by different threads.

use super::doorbell::{self, Heard};
use super::region::{Endpoint, Mapping};
use super::sys;
use super::wait::SpinPolicy;
use crate::consumer::Consumer;
use crate::park::{DataWatch, SpaceWatch};
use crate::producer::Producer;
use crate::watch::Interest;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    /// The CPU last published, plus one.
    cpu: AtomicU64,
    // The last field, so that it drops after all that looks into it.
    mapping: Mapping,
}

impl Duplex {
    /// Takes an endpoint into use.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
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
            cpu: AtomicU64::new(0),
            mapping,
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
                doorbell::ring(socket);
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
        if written > 0 && producer.must_ring() {
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
            doorbell::ring(socket);
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
        if interest.readable {
            self.data.unpark();
        }
        if interest.writable {
            self.space.unpark();
        }
    }

    /// Takes doorbells off the socket. Returns whether the peer's end was heard.
    pub fn listen(&self, socket: RawFd) -> bool {
        match doorbell::listen(socket) {
            Heard::Nothing | Heard::Rung(_) => {}
            // ORDERING E4, Release: pairs with the Acquire load in `peer_is_gone`. What
            // the peer published before its end is seen by whichever thread reads.
            Heard::End => self.ended.store(true, Release),
            Heard::Violation(_) => self.break_off(socket),
        }
        self.peer_is_gone()
    }

    /// Ends what is written: the peer reads what is there, and then the end.
    pub fn close_writing(&self, socket: RawFd) {
        if !self.mapping.is_inherited() {
            self.end_writing();
            doorbell::ring(socket);
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
