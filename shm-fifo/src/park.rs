//! Parking: sleep after announcing it, so that the peer rings the doorbell.
//!
//! Edge E3 of `docs/memory-ordering.md`, Dekker's pattern. The side that wants
//! to sleep stores its parked word, fences, and looks at the position again;
//! the side that publishes a position stores it, fences, and looks at the parked
//! word. Whatever the interleaving, at least one of them sees the other's store:
//! either the sleeper stays awake, or the publisher rings. Both fences are
//! `SeqCst` because only that orders a store before a later load.
//!
//! Whoever finds the word set takes it back. The publisher always rings *after*
//! taking it, so a sleeper that parks anew in between is rung all the same.

use crate::layout::{FifoHeader, WaitLine};
use crate::sync::Ordering::{Acquire, Relaxed, SeqCst};
use crate::sync::{AtomicU32, fence};

/// Announces that this side sleeps. The caller looks at the position after it.
fn announce(parked: &AtomicU32) {
    // ORDERING E3, Relaxed: the fence below orders it; no data travels by it.
    parked.store(1, Relaxed);
    // ORDERING E3: pairs with the fence in `take`. Without it the position that
    // is read next could be older than the publisher's look at `parked`.
    fence(SeqCst);
}

/// Takes the announcement back, awake again.
fn retract(parked: &AtomicU32) {
    // ORDERING E3, Relaxed: a publisher that still sees 1 rings once too often.
    parked.store(0, Relaxed);
}

/// The fence between publishing and [`SpaceWatch::needs_notify`].
///
/// One serves any number of FIFOs: an event loop that wrote to many peers in one
/// turn looks for their sleep behind a single fence.
#[derive(Debug)]
pub struct PublishFence(());

impl PublishFence {
    /// Executes it: what the caller published before is settled afterwards, and
    /// what another thread published and then told the caller of by an Acquire
    /// load.
    #[must_use = "it is for a look at the peers' sleep"]
    pub fn execute() -> Self {
        // ORDERING E3: pairs with the fence in `announce`. Without it the load in
        // `take` could overtake the store of the position published before.
        fence(SeqCst);
        Self(())
    }
}

/// After a publish: whether the peer sleeps and must be rung.
///
/// Takes its announcement, so that one sleep costs one doorbell.
pub(crate) fn take(parked: &AtomicU32, _behind: &PublishFence) -> bool {
    // ORDERING E3, Relaxed: a hint written by the peer; lying harms only the liar.
    let sleeping = parked.load(Relaxed) != 0;
    if sleeping {
        // ORDERING E3, Relaxed: the doorbell follows, which is what wakes.
        parked.store(0, Relaxed);
    }
    sleeping
}

/// A side's CPU as it travels: 0 is unknown.
fn publish_cpu(line: &WaitLine, cpu: u32) {
    // ORDERING, Relaxed: a hint for the waiting policy.
    line.cpu.store(cpu.wrapping_add(1), Relaxed);
}

fn published_cpu(line: &WaitLine) -> Option<u32> {
    // ORDERING, Relaxed: a hint for the waiting policy.
    line.cpu.load(Relaxed).checked_sub(1)
}

/// The consumer's view of "is there something to read", for pollers.
///
/// Unlike [`Consumer`](crate::Consumer) it is `Copy` and may be used by any
/// thread beside it: it only loads the peer's words and speaks for the
/// consumer's sleep. What it says is a hint; reading validates.
#[derive(Debug, Clone, Copy)]
pub struct DataWatch<'m> {
    header: &'m FifoHeader,
    /// Bytes worth waking for, at least one.
    wanted: u64,
}

impl<'m> DataWatch<'m> {
    pub(crate) const fn new(header: &'m FifoHeader, wanted: usize) -> Self {
        Self { header, wanted: wanted as u64 }
    }

    /// Whether a consumer at position `head` has something to read, as much as it wants
    /// ([`Consumer::watch_for`](crate::Consumer::watch_for)), or the end of the stream to
    /// notice. Once true it stays true until that consumer reads.
    #[must_use]
    #[inline]
    pub fn is_ready(&self, head: u64) -> bool {
        // ORDERING E1, Acquire: pairs with `Producer::publish`. A hint here, but
        // it keeps the read that follows from seeing an older position. (An impossible one
        // is far ahead, and so ready: the read refuses it.)
        self.header.producer.tail.load(Acquire).wrapping_sub(head) >= self.wanted
            || self.producer_closed()
    }

    /// The producer's position as it is published. A hint, like all of this.
    #[must_use]
    #[inline]
    pub fn published(&self) -> u64 {
        // ORDERING E1, Acquire: as in `is_ready`.
        self.header.producer.tail.load(Acquire)
    }

    /// Whether the producer has ended; what it published before can still be read.
    #[must_use]
    #[inline]
    pub fn producer_closed(&self) -> bool {
        // ORDERING E4, Acquire: pairs with `Producer::close`: whoever sees the
        // end also sees everything published before it.
        self.header.producer.closed.load(Acquire) != 0
    }

    /// Whether the producer leaves the rings: its byte is on the socket, or will be.
    #[cfg(all(feature = "virtual-fd", not(loom)))]
    pub(crate) fn producer_leaves(&self) -> bool {
        // ORDERING, Relaxed: see `Producer::announce_leave`.
        self.header.producer.leaves.load(Relaxed) != 0
    }

    /// Announces that the consumer at `head` sleeps until it is rung.
    ///
    /// Returns whether it may: `false`, awake again, if there is something.
    #[must_use = "on false there is something to read: do not sleep"]
    pub fn park(&self, head: u64) -> bool {
        let empty = self.announce(head);
        if !empty {
            self.unpark();
        }
        empty
    }

    /// As [`DataWatch::park`], but it stays announced in any case: where another sleeps by the
    /// same word, who need not is not to take that back.
    pub(crate) fn announce(&self, head: u64) -> bool {
        announce(&self.header.consumer_wait.parked);
        !self.is_ready(head)
    }

    /// Takes the announcement back.
    pub fn unpark(&self) {
        retract(&self.header.consumer_wait.parked);
    }

    /// Publishes the CPU the consumer waits on.
    pub fn publish_cpu(&self, cpu: u32) {
        publish_cpu(&self.header.consumer_wait, cpu);
    }

    /// The CPU on which the producer last waited.
    #[must_use]
    pub fn peer_cpu(&self) -> Option<u32> {
        published_cpu(&self.header.producer_wait)
    }
}

/// The producer's view of "is there space", for pollers; see [`DataWatch`].
#[derive(Debug, Clone, Copy)]
pub struct SpaceWatch<'m> {
    header: &'m FifoHeader,
    capacity: u64,
    /// With more unread bytes than these there is no space worth waking for.
    most_unread: u64,
}

impl<'m> SpaceWatch<'m> {
    pub(crate) const fn new(header: &'m FifoHeader, capacity: usize, most_unread: usize) -> Self {
        Self { header, capacity: capacity as u64, most_unread: most_unread as u64 }
    }

    /// Whether a producer at position `tail` has space worth waking for, a
    /// quarter of the ring or what it wants
    /// ([`Producer::watch_for`](crate::Producer::watch_for)), or the end of its reader to
    /// notice. Once true it stays true until that producer writes.
    #[must_use]
    #[inline]
    pub fn is_ready(&self, tail: u64) -> bool {
        // ORDERING E2, Acquire: pairs with `Consumer::release`, as in `DataWatch`.
        let used = tail.wrapping_sub(self.header.consumer.head.load(Acquire));
        // An impossible distance is ready too: the write that follows refuses it.
        used <= self.most_unread || used > self.capacity || self.consumer_closed()
    }

    /// Has the line that the producer writes to come from the consumer's CPU, for
    /// one that will write soon and has something else to do meanwhile.
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn prefetch(&self) {
        crate::memory::prefetch_to_write(&self.header.producer.inline_key);
    }

    /// Whether the consumer has ended: nobody will read what is written.
    #[must_use]
    #[inline]
    pub fn consumer_closed(&self) -> bool {
        // ORDERING E4, Acquire: pairs with `Consumer::close`.
        self.header.consumer.closed.load(Acquire) != 0
    }

    /// As [`Producer::needs_notify`](crate::Producer::needs_notify), for what was
    /// published before `fence` was executed.
    #[must_use = "a consumer that is not rung sleeps on"]
    pub fn needs_notify(&self, fence: &PublishFence) -> bool {
        take(&self.header.consumer_wait.parked, fence)
    }

    /// Whether the consumer has read everything up to `tail`.
    #[must_use]
    pub fn has_read_all(&self, tail: u64) -> bool {
        // ORDERING E2, Acquire: as in `is_ready`.
        self.header.consumer.head.load(Acquire) == tail
    }

    /// Announces that the producer at `tail` sleeps until there is space.
    ///
    /// Returns whether it may: `false`, awake again, if there is some.
    #[must_use = "on false there is space: do not sleep"]
    pub fn park(&self, tail: u64) -> bool {
        let full = self.announce(tail);
        if !full {
            self.unpark();
        }
        full
    }

    /// As [`SpaceWatch::park`], but it stays announced in any case: where another sleeps by the
    /// same word, who need not is not to take that back.
    pub(crate) fn announce(&self, tail: u64) -> bool {
        announce(&self.header.producer_wait.parked);
        !self.is_ready(tail)
    }

    /// Takes the announcement back.
    pub fn unpark(&self) {
        retract(&self.header.producer_wait.parked);
    }

    /// Publishes the CPU the producer waits on.
    pub fn publish_cpu(&self, cpu: u32) {
        publish_cpu(&self.header.producer_wait, cpu);
    }
}
