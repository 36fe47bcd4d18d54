//! One side's end of both rings: what is read, what is written, and the peer's end.
//!
//! All that has an end of its own is made of this: it owns no file descriptor, takes no
//! lock, never waits and wakes nobody. [`Channel`](crate::Channel) adds what wakes and how
//! to wait, [`Halves`](super::halves::Halves) a lock for each direction.

use super::doorbell::Heard;
use super::mapping::Mapping;
use crate::{Consumer, Corrupt, Interest, Positions, Producer, Watch};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// One process's end of a region: the producer of one ring, the consumer of the
/// other. [`Channel`](crate::Channel) makes a byte stream of it.
//
// The two ends borrow from `mapping` in truth, whatever their lifetime says:
// only this crate may reach them, and it never lets them outlive the endpoint.
pub struct Endpoint {
    pub(crate) producer: Producer<'static>,
    pub(crate) consumer: Consumer<'static>,
    pub(crate) peer: Peer,
    pub(crate) wanted: Wanted,
    pub(crate) mapping: Mapping,
}

/// What is to be there before anything is worth doing: what the last call wanted that did not
/// wait for it.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) bytes: usize,
    /// `None` is a quarter of the ring.
    pub(crate) space_bytes: Option<usize>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { bytes: 1, space_bytes: None }
    }
}

/// What is known of the peer beside its words in the rings. Any thread may ask.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// Its end was heard by whatever wakes this side.
    ended: AtomicBool,
    /// It broke the protocol: nothing is read or written any more.
    broken: AtomicBool,
}

/// Why nothing was read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is nothing to read, or no space, yet.
    NotYet,
    /// Nobody will read what is written.
    NobodyReads,
    /// The peer broke the protocol: by this, or before.
    Broken(Option<Corrupt>),
}

impl Endpoint {
    pub(crate) fn new(
        producer: Producer<'static>,
        consumer: Consumer<'static>,
        mapping: Mapping,
    ) -> Self {
        Self { producer, consumer, peer: Peer::default(), wanted: Wanted::default(), mapping }
    }

    /// Bytes of memory the region takes.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.mapping.total_bytes()
    }

    pub(crate) fn watch(&self) -> Watch<'static> {
        let space = match self.wanted.space_bytes {
            None => self.producer.watch(),
            Some(bytes) => self.producer.watch_for(bytes),
        };
        Watch::new(self.consumer.watch_for(self.wanted.bytes), space)
    }

    pub(crate) fn positions(&self) -> Positions {
        Positions { head: self.consumer.position(), tail: self.producer.position() }
    }

    /// Whether what `interest` names is there. The end of the peer counts as both.
    pub(crate) fn is_ready(&self, interest: Interest) -> bool {
        self.peer.is_gone() || self.watch().is_ready(interest, self.positions())
    }

    /// Announces a sleep for what `interest` names; `false`, with nothing announced, if
    /// some of it is there.
    pub(crate) fn park(&self, interest: Interest) -> bool {
        !self.peer.is_gone() && self.watch().park(interest, self.positions())
    }

    /// Tells the peer that nothing more comes, and that nothing more is read.
    pub(crate) fn close(&self) {
        self.producer.close();
        self.consumer.close();
    }
}

impl fmt::Debug for Endpoint {
    /// Nothing of the shared memory, which a forked child does not have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("mapping", &self.mapping).finish_non_exhaustive()
    }
}

impl Peer {
    /// Its end was heard.
    pub(crate) fn note_end(&self) {
        // ORDERING E4, Release: pairs with the Acquire load in `has_ended`. What the peer
        // published before its end is seen by whichever thread reads.
        self.ended.store(true, Release);
    }

    /// Notes what was heard of it by a doorbell. Returns whether it has broken the protocol and
    /// that is news: the caller is to tell it, by the end of the socket. Whoever serves a peer
    /// that leaves keeps [`Heard::Leave`] to itself.
    pub(crate) fn note(&self, heard: Heard) -> bool {
        match heard {
            Heard::Nothing | Heard::Rung(_) => false,
            Heard::End => {
                self.note_end();
                false
            }
            Heard::Leave | Heard::Violation(_) => self.note_breach(),
        }
    }

    /// It broke the protocol. Returns whether that is news.
    pub(crate) fn note_breach(&self) -> bool {
        // ORDERING, Relaxed: no data depends on it.
        !self.broken.swap(true, Relaxed)
    }

    /// Another one, `new`, takes its place.
    pub(crate) fn become_as(&self, new: &Self) {
        // ORDERING, Relaxed: whoever shows the new one to other threads orders it.
        self.ended.store(new.has_ended(), Relaxed);
        self.broken.store(new.is_broken(), Relaxed);
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        // ORDERING E4, Acquire: see `note_end`. Weaker: another thread than the one that
        // heard the end could read an older position after it, and lose the last bytes.
        self.ended.load(Acquire)
    }

    #[inline]
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// Whether nothing new comes of it.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.has_ended() || self.is_broken()
    }

    /// Reads by `take`, which says how many bytes it took: `Ok(0)` is the end of the
    /// stream, or that nothing is `wanted`.
    #[inline]
    pub(crate) fn read<'m>(
        &self,
        consumer: &mut Consumer<'m>,
        wanted: bool,
        mut take: impl FnMut(&mut Consumer<'m>) -> Result<usize, Corrupt>,
    ) -> Result<usize, Refusal> {
        if self.is_broken() {
            return Err(Refusal::Broken(None));
        }
        let mut at_end = false;
        // One call of `take`, so that it becomes part of its caller.
        loop {
            let read = take(consumer).map_err(|corrupt| self.breach(corrupt))?;
            if read > 0 || !wanted || at_end {
                return Ok(read);
            }
            at_end = self.has_ended() || consumer.watch().producer_closed();
            if !at_end {
                return Err(Refusal::NotYet);
            }
            // What was published before the end is seen by now: once more.
        }
    }

    /// Writes by `put`, which says how many bytes it published, of some that are `wanted`
    /// there.
    #[inline]
    pub(crate) fn write<'m>(
        &self,
        producer: &mut Producer<'m>,
        wanted: bool,
        put: impl FnOnce(&mut Producer<'m>) -> Result<usize, Corrupt>,
    ) -> Result<usize, Refusal> {
        if self.is_gone() {
            let broken = self.is_broken();
            return Err(if broken { Refusal::Broken(None) } else { Refusal::NobodyReads });
        }
        let written = put(producer).map_err(|corrupt| self.breach(corrupt))?;
        if written > 0 || !wanted {
            return Ok(written);
        }
        // A reader that has closed is looked for here only, unless the caller does: that
        // word lies beside the reader's position, which it has just written, and the line
        // would have to come from its CPU before each write.
        let nobody_reads = producer.watch().consumer_closed();
        Err(if nobody_reads { Refusal::NobodyReads } else { Refusal::NotYet })
    }

    #[cold]
    fn breach(&self, corrupt: Corrupt) -> Refusal {
        self.note_breach();
        Refusal::Broken(Some(corrupt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doorbell_is_no_end_and_what_is_none_breaks_the_protocol_once() {
        let peer = Peer::default();
        assert!(!peer.note(Heard::Nothing) && !peer.note(Heard::Rung(3)));
        assert!(!peer.is_gone());

        assert!(!peer.note(Heard::End));
        assert!(peer.has_ended() && !peer.is_broken());

        for stranger in [Heard::Leave, Heard::Violation(b'P')] {
            let peer = Peer::default();
            assert!(peer.note(stranger) && peer.is_broken());
            assert!(!peer.note(stranger), "no news");
        }
    }
}
