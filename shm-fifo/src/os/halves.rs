//! An endpoint whose two halves different threads use, each behind a lock of its own.

use super::endpoint::{Endpoint, Peer};
use super::mapping::Mapping;
#[cfg(feature = "virtual-fd")]
use crate::Watch;
use crate::{Consumer, Positions, Producer};
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The two halves of an endpoint, or the empty place for them. Reading never blocks
/// writing.
///
/// Locks are taken in the order [`Halves::hold`], and then the reader's or the writer's.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    // Each on lines of its own: where one thread reads and another writes, neither waits for
    // what the other has changed.
    reader: CachePadded<Half<Consumer<'static>>>,
    writer: CachePadded<Half<Producer<'static>>>,
    pub(crate) peer: Peer,
    // The last field, so that it drops after all that looks into it.
    mapping: Mutex<Option<Mapping>>,
}

/// One half, or the empty place for it.
#[derive(Debug)]
struct Half<T> {
    end: Mutex<Option<T>>,
    /// Its position, for whoever looks without the lock.
    position: AtomicU64,
}

impl<T> Default for Half<T> {
    fn default() -> Self {
        Self { end: Mutex::new(None), position: AtomicU64::new(0) }
    }
}

impl<T> Half<T> {
    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        lock(&self.end)
    }

    fn put(&self, end: T, position: u64) {
        self.position.store(position, Relaxed);
        *self.lock() = Some(end);
    }

    /// Uses it, if it is there, and notes where it is then.
    #[inline]
    fn using<R>(
        &self,
        work: impl FnOnce(&mut T) -> R,
        position: impl FnOnce(&T) -> u64,
    ) -> Option<R> {
        let mut place = self.lock();
        let end = place.as_mut()?;
        let result = work(end);
        self.position.store(position(end), Relaxed);
        Some(result)
    }
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
        self.reader.using(work, Consumer::position)
    }

    /// Uses the writing half, if there is one.
    #[inline]
    pub(crate) fn writing<T>(&self, work: impl FnOnce(&mut Producer<'static>) -> T) -> Option<T> {
        self.writer.using(work, Producer::position)
    }

    /// Where the halves are.
    #[inline]
    pub(crate) fn positions(&self) -> Positions {
        Positions {
            head: self.reader.position.load(Relaxed),
            tail: self.writer.position.load(Relaxed),
        }
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
        let (head, tail) = (consumer.position(), producer.position());
        self.halves.reader.put(consumer, head);
        self.halves.writer.put(producer, tail);
        *self.mapping = Some(mapping);
    }

    /// Takes the endpoint out of the place.
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn take(&mut self) -> Option<Endpoint> {
        let consumer = self.halves.reader.lock().take();
        let producer = self.halves.writer.lock().take();
        Some(Endpoint::new(producer?, consumer?, self.mapping.take()?))
    }

    /// Gives the memory of the ring that this side writes back to the system, if the peer has
    /// read all of it; it comes again when it is written. Returns whether it has.
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn give_back_if_read(&self) -> bool {
        // Nobody writes meanwhile.
        let writer = self.halves.writer.lock();
        let is_read = writer.as_ref().is_some_and(|producer| producer.unread_bytes() == 0);
        if let Some(mapping) = self.mapping.as_ref().filter(|_| is_read) {
            mapping.discard_outgoing();
        }
        is_read
    }

    /// The view of both halves, for as long as the endpoint stays in its place.
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn watch(&self) -> Option<Watch<'static>> {
        let data = self.halves.reader.lock().as_ref()?.watch();
        let space = self.halves.writer.lock().as_ref()?.watch();
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
