//! A FIFO on the heap, whose header's words anybody can name and overwrite.
#![allow(unsafe_code)]

use crate::layout::FifoHeader;
use crate::memory::Byte;
use crate::sync::Ordering::Relaxed;
use crate::sync::{AtomicU32, AtomicU64};
use crate::{Consumer, Fifo, Producer};
use std::ptr;

/// One end of a FIFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The writing end.
    Producer,
    /// The reading end.
    Consumer,
}

/// A word of the shared header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Which message is inline.
    InlineKey,
    /// This one of the inline message's words.
    InlineWord(usize),
    /// The producer's position.
    Tail,
    /// Whether the producer has ended.
    ProducerClosed,
    /// Whether the producer leaves the rings.
    ProducerLeaves,
    /// The consumer's position.
    Head,
    /// Whether the consumer has ended.
    ConsumerClosed,
    /// Whether the consumer sleeps.
    ConsumerParked,
    /// The consumer's CPU.
    ConsumerCpu,
    /// Whether the producer sleeps.
    ProducerParked,
    /// The producer's CPU.
    ProducerCpu,
}

impl Word {
    /// All words of the header.
    pub const ALL: [Self; 16] = [
        Self::InlineKey,
        Self::InlineWord(0),
        Self::InlineWord(1),
        Self::InlineWord(2),
        Self::InlineWord(3),
        Self::InlineWord(4),
        Self::InlineWord(5),
        Self::Tail,
        Self::ProducerClosed,
        Self::ProducerLeaves,
        Self::Head,
        Self::ConsumerClosed,
        Self::ConsumerParked,
        Self::ConsumerCpu,
        Self::ProducerParked,
        Self::ProducerCpu,
    ];

    /// The end whose word it is; the other one only looks at it (and takes the
    /// announcement of a sleep back).
    #[must_use]
    pub const fn owner(self) -> End {
        match self {
            Self::Head | Self::ConsumerClosed | Self::ConsumerParked | Self::ConsumerCpu => {
                End::Consumer
            }
            _ => End::Producer,
        }
    }
}

/// A word as it lies in the header.
enum AnyWord<'m> {
    Wide(&'m AtomicU64),
    Narrow(&'m AtomicU32),
}

/// A FIFO on the heap whose header anybody can overwrite.
#[derive(Debug)]
pub struct HeapFifo {
    header: FifoHeader,
    bytes: Box<[Byte]>,
    position: u64,
}

impl HeapFifo {
    /// An empty FIFO of `capacity` bytes through which `position` bytes passed.
    #[must_use]
    pub fn new(capacity: usize, position: u64) -> Self {
        let bytes = (0..capacity).map(|_| Byte::new(0)).collect();
        Self { header: FifoHeader::starting_at(position), bytes, position }
    }

    /// The writing end, as it was at the beginning. One at a time is of use.
    ///
    /// # Panics
    /// If the capacity is none that a FIFO can have.
    #[must_use]
    pub fn producer(&self) -> Producer<'_> {
        self.fifo().into_producer(self.position)
    }

    /// The reading end, as it was at the beginning. One at a time is of use.
    ///
    /// # Panics
    /// If the capacity is none that a FIFO can have.
    #[must_use]
    pub fn consumer(&self) -> Consumer<'_> {
        self.fifo().into_consumer(self.position)
    }

    /// Overwrites `word`, as a hostile peer could; narrow words take the low bits.
    pub fn scribble(&self, word: Word, value: u64) {
        match self.word(word) {
            AnyWord::Wide(shared) => shared.store(value, Relaxed),
            AnyWord::Narrow(shared) => {
                #[allow(clippy::cast_possible_truncation, reason = "as documented")]
                shared.store(value as u32, Relaxed);
            }
        }
    }

    /// Offset of `word` from the header's start, and its size, both in bytes.
    #[must_use]
    pub fn place_of(&self, word: Word) -> (usize, usize) {
        let (address, bytes) = match self.word(word) {
            AnyWord::Wide(shared) => (ptr::from_ref(shared).addr(), size_of_val(shared)),
            AnyWord::Narrow(shared) => (ptr::from_ref(shared).addr(), size_of_val(shared)),
        };
        (address - ptr::from_ref(&self.header).addr(), bytes)
    }

    fn word(&self, word: Word) -> AnyWord<'_> {
        let header = &self.header;
        match word {
            Word::InlineKey => AnyWord::Wide(&header.producer.inline_key),
            Word::InlineWord(index) => AnyWord::Wide(&header.producer.inline_words[index]),
            Word::Tail => AnyWord::Wide(&header.producer.tail),
            Word::ProducerClosed => AnyWord::Narrow(&header.producer.closed),
            Word::ProducerLeaves => AnyWord::Narrow(&header.producer.leaves),
            Word::Head => AnyWord::Wide(&header.consumer.head),
            Word::ConsumerClosed => AnyWord::Narrow(&header.consumer.closed),
            Word::ConsumerParked => AnyWord::Narrow(&header.consumer_wait.parked),
            Word::ConsumerCpu => AnyWord::Narrow(&header.consumer_wait.cpu),
            Word::ProducerParked => AnyWord::Narrow(&header.producer_wait.parked),
            Word::ProducerCpu => AnyWord::Narrow(&header.producer_wait.cpu),
        }
    }

    fn fifo(&self) -> Fifo<'_> {
        let data = self.bytes.as_ptr().cast_mut().cast::<u8>();
        // SAFETY:
        // * `bytes` lives as long as the borrow of `self`, and its cells may be
        //   written through a shared reference;
        // * nothing here reaches them but the FIFOs made by this function.
        let fifo = unsafe { Fifo::from_raw_parts(&self.header, data, self.bytes.len()) };
        fifo.expect("the capacity is one that a FIFO can have")
    }
}
