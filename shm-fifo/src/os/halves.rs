//! An endpoint whose two halves different threads use, each behind a lock of its own.

use super::endpoint::{Endpoint, Peer};
use super::mapping::Mapping;
#[cfg(feature = "virtual-fd")]
use crate::Watch;
use crate::{Consumer, Positions, Producer};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The two halves of an endpoint, or the empty place for them. Reading never blocks
/// writing.
///
/// Locks are taken in the order [`Halves::hold`], and then the reader's or the writer's.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    reader: Mutex<Option<Consumer<'static>>>,
    writer: Mutex<Option<Producer<'static>>>,
    pub(crate) peer: Peer,
    /// The consumer's position, for whoever looks without its lock.
    head: AtomicU64,
    /// The producer's position, likewise.
    tail: AtomicU64,
    // The last field, so that it drops after all that looks into it.
    mapping: Mutex<Option<Mapping>>,
}

/// The place of an endpoint, held: none comes or goes meanwhile.
#[derive(Debug)]
pub(crate) struct Held<'h> {
    halves: &'h Halves,
    mapping: MutexGuard<'h, Option<Mapping>>,
}

impl Halves {
    /// Uses the reading half, if there is one.
    #[inline]
    pub(crate) fn reading<T>(&self, work: impl FnOnce(&mut Consumer<'static>) -> T) -> Option<T> {
        let mut reader = lock(&self.reader);
        let consumer = reader.as_mut()?;
        let result = work(consumer);
        self.head.store(consumer.position(), Relaxed);
        Some(result)
    }

    /// Uses the writing half, if there is one.
    #[inline]
    pub(crate) fn writing<T>(&self, work: impl FnOnce(&mut Producer<'static>) -> T) -> Option<T> {
        let mut writer = lock(&self.writer);
        let producer = writer.as_mut()?;
        let result = work(producer);
        self.tail.store(producer.position(), Relaxed);
        Some(result)
    }

    /// Where the halves are.
    #[inline]
    pub(crate) fn positions(&self) -> Positions {
        Positions { head: self.head.load(Relaxed), tail: self.tail.load(Relaxed) }
    }

    pub(crate) fn hold(&self) -> Held<'_> {
        Held { halves: self, mapping: lock(&self.mapping) }
    }
}

impl Held<'_> {
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn is_empty(&self) -> bool {
        self.mapping.is_none()
    }

    /// Puts `endpoint` into the place, which is empty.
    pub(crate) fn put(&mut self, endpoint: Endpoint) {
        let Endpoint { producer, consumer, peer, mapping, wanted: _ } = endpoint;
        self.halves.peer.become_as(&peer);
        self.halves.head.store(consumer.position(), Relaxed);
        self.halves.tail.store(producer.position(), Relaxed);
        *lock(&self.halves.reader) = Some(consumer);
        *lock(&self.halves.writer) = Some(producer);
        *self.mapping = Some(mapping);
    }

    /// Takes the endpoint out of the place.
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn take(&mut self) -> Option<Endpoint> {
        let consumer = lock(&self.halves.reader).take();
        let producer = lock(&self.halves.writer).take();
        Some(Endpoint::new(producer?, consumer?, self.mapping.take()?))
    }

    /// Gives the memory of the ring that this side writes back to the system, if the peer has
    /// read all of it; it comes again when it is written. Returns whether it has.
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn give_back_if_read(&self) -> bool {
        // Nobody writes meanwhile.
        let writer = lock(&self.halves.writer);
        let is_read = writer.as_ref().is_some_and(|producer| producer.unread_bytes() == 0);
        if let Some(mapping) = self.mapping.as_ref().filter(|_| is_read) {
            mapping.discard_outgoing();
        }
        is_read
    }

    /// The view of both halves, for as long as the endpoint stays in its place.
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn watch(&self) -> Option<Watch<'static>> {
        let data = lock(&self.halves.reader).as_ref()?.watch();
        let space = lock(&self.halves.writer).as_ref()?.watch();
        Some(Watch::new(data, space))
    }

    /// Bytes of memory the region takes.
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn total_bytes(&self) -> Option<usize> {
        self.mapping.as_ref().map(Mapping::total_bytes)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
