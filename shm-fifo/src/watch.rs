//! One end's view of both its directions: what it sleeps for, and how.
//!
//! This is the sequence that every sleeper goes through, whatever wakes it: a `Channel` on
//! its doorbell, an event loop over many ends, and the models that loom explores
//! (`tests/models.rs`).

pub use crate::park::{DataWatch, PublishFence, SpaceWatch};

/// What a wait is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Bytes to read, or the end of the stream.
    pub readable: bool,
    /// Space to write, a quarter of the ring, or the end of the reader.
    pub writable: bool,
}

impl Interest {
    /// Something to read.
    pub const READABLE: Self = Self { readable: true, writable: false };
    /// Space to write.
    pub const WRITABLE: Self = Self { readable: false, writable: true };
    /// Either.
    pub const BOTH: Self = Self { readable: true, writable: true };
}

/// Where an end is in its two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// [`Consumer::position`](crate::Consumer::position) of what it reads.
    pub head: u64,
    /// [`Producer::position`](crate::Producer::position) of what it writes.
    pub tail: u64,
}

/// The view that an end which reads one FIFO and writes another has of both.
///
/// As its two halves it is `Copy`, and what it says is a hint.
#[derive(Debug, Clone, Copy)]
pub struct Watch<'m> {
    pub(crate) data: DataWatch<'m>,
    pub(crate) space: SpaceWatch<'m>,
}

impl<'m> Watch<'m> {
    /// The view of an end that consumes what `data` watches and produces what
    /// `space` does.
    #[must_use]
    pub const fn new(data: DataWatch<'m>, space: SpaceWatch<'m>) -> Self {
        Self { data, space }
    }

    /// Whether what `interest` names is there for an end at these positions.
    #[must_use]
    #[inline]
    pub fn is_ready(&self, interest: Interest, at: Positions) -> bool {
        interest.readable && self.data.is_ready(at.head)
            || interest.writable && self.space.is_ready(at.tail)
    }

    /// Announces that the end sleeps until it is rung for what `interest` names.
    ///
    /// Returns whether it may: `false`, awake again, if some of it is there.
    #[must_use = "on false there is something to do: do not sleep"]
    pub fn park(&self, interest: Interest, at: Positions) -> bool {
        let parked = (!interest.readable || self.data.park(at.head))
            && (!interest.writable || self.space.park(at.tail));
        if !parked {
            self.unpark(interest);
        }
        parked
    }

    /// As [`Watch::park`], but what is announced stays so: where others sleep by the same
    /// words, who need not is not to take that back.
    #[cfg(all(feature = "std", not(loom)))]
    pub(crate) fn announce(&self, interest: Interest, at: Positions) -> bool {
        (!interest.readable || self.data.announce(at.head))
            && (!interest.writable || self.space.announce(at.tail))
    }

    /// Takes the announcements back.
    pub fn unpark(&self, interest: Interest) {
        if interest.readable {
            self.data.unpark();
        }
        if interest.writable {
            self.space.unpark();
        }
    }

    /// Calls `wait`, which is to end by the doorbell, between announcing the sleep
    /// and taking that back; or does not, if something is there: `None`.
    pub fn sleep<T>(
        &self,
        interest: Interest,
        at: Positions,
        wait: impl FnOnce() -> T,
    ) -> Option<T> {
        let woken = self.park(interest, at).then(wait);
        self.unpark(interest);
        woken
    }

    /// Whether the peer has ended both its directions.
    ///
    /// The word that ends its writing is looked at first: that line stays in our cache.
    /// The one that ends its reading lies beside its position, which it has just written,
    /// and would have to come from its CPU before each write.
    #[must_use]
    #[inline]
    pub fn peer_has_closed(&self) -> bool {
        self.data.producer_closed() && self.space.consumer_closed()
    }

    /// Whether the peer has entered: taken its end into use and published its first
    /// bytes, behind the position `start`. Once true it stays true.
    #[must_use]
    #[inline]
    pub fn has_peer_entered(&self, start: u64) -> bool {
        self.data.published() != start
    }

    /// How far the peer has published: a hint, not checked.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn published(&self) -> u64 {
        self.data.published()
    }

    /// After publishing: whether the peer sleeps and must be rung, where it may not have
    /// entered yet, and is not to be rung before that.
    ///
    /// Nor need it be: it publishes its first bytes before it first looks at the ring to
    /// sleep. Either it sees what was published here, or this side sees that it entered.
    #[must_use = "a consumer that is not rung sleeps on"]
    pub fn needs_notify_if_entered(&self, start: u64) -> bool {
        // ORDERING E6: pairs with the fence in `announce`, for the look at the peer's
        // position as for that at its parked word. If either came before it, a peer that
        // fell asleep meanwhile could go unnoticed.
        let fence = PublishFence::execute();
        self.has_peer_entered(start) && self.space.needs_notify(&fence)
    }

    /// Publishes the CPU that the end waits on.
    pub fn publish_cpu(&self, cpu: u32) {
        self.data.publish_cpu(cpu);
        self.space.publish_cpu(cpu);
    }

    /// The CPU on which the peer last waited.
    #[must_use]
    pub fn peer_cpu(&self) -> Option<u32> {
        self.data.peer_cpu()
    }
}
