//! The executable specification of a FIFO, and FIFOs for tests to play with.
//!
//! [`run`] drives a real FIFO and an [`Oracle`] side by side and panics where
//! they differ. Property tests and fuzz targets call this same function, so
//! there is one statement of what a FIFO does. The position it starts at is an
//! input: a counter that wraps needs no test of its own.
//!
//! [`HeapFifo`] lets a test play the hostile peer: it can overwrite any [`Word`]
//! of the header at any time. [`run_hostile`] does so at every step.

mod heap_fifo;
mod hostile;
mod in_place;
mod pattern;
mod random;

use crate::producer::PUBLISH_EVERY_BYTES;
use crate::{Consumer, Producer};
use in_place::{forward, grant, grant_up_to, read_in_place};
use pattern::fill_with_pattern;

pub use heap_fifo::{End, HeapFifo, Word};
pub use hostile::{Scribble, run_hostile};
pub use pattern::{is_pattern, pattern};
pub use random::Random;

/// One step of a FIFO's life. Lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// [`Producer::write`].
    Write(usize),
    /// [`Producer::write_whole`].
    WriteWhole(usize),
    /// [`Producer::write_vectored`].
    WriteVectored(Pieces),
    /// [`Producer::write_vectored_whole`].
    WriteVectoredWhole(Pieces),
    /// [`Producer::grant`]; so much of it is committed, or it is dropped.
    Grant(usize, Option<usize>),
    /// [`Producer::grant_up_to`]; so much of it is committed, if it is that much.
    GrantUpTo(Pieces),
    /// As [`Op::GrantUpTo`], by slices.
    GrantSlices(Pieces),
    /// [`Producer::stage`].
    Stage(usize),
    /// [`Producer::publish`].
    Publish,
    /// [`Producer::free_bytes`].
    FreeBytes,
    /// [`Producer::needs_notify`].
    RingConsumer,
    /// [`SpaceWatch::park`](crate::watch::SpaceWatch::park).
    ParkProducer,
    /// [`SpaceWatch::unpark`](crate::watch::SpaceWatch::unpark).
    UnparkProducer,
    /// [`Producer::close`].
    CloseProducer,
    /// [`Consumer::read`].
    Read(usize),
    /// [`Consumer::read_vectored`].
    ReadVectored(Pieces),
    /// [`Consumer::grant`]; so much of it is looked at, and the first piece of that consumed.
    ReadInPlace(Pieces),
    /// As [`Op::ReadInPlace`], by slices.
    ReadSlices(Pieces),
    /// As [`Op::Read`], by way of another ring.
    Forward(usize),
    /// [`Consumer::available_bytes`].
    AvailableBytes,
    /// [`Consumer::needs_notify`].
    RingProducer,
    /// [`Consumer::needs_notify_now`].
    RingProducerNow,
    /// [`DataWatch::park`](crate::watch::DataWatch::park).
    ParkConsumer,
    /// [`DataWatch::unpark`](crate::watch::DataWatch::unpark).
    UnparkConsumer,
    /// [`Consumer::close`].
    CloseConsumer,
}

/// A message of two pieces, and an empty one between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pieces {
    /// Bytes of the first piece.
    pub first: usize,
    /// Bytes of all pieces.
    pub total: usize,
}

impl Pieces {
    fn of<'b>(&self, bytes: &'b [u8]) -> [&'b [u8]; 3] {
        let (first, last) = bytes.split_at(self.first);
        [first, &[], last]
    }
}

impl Op {
    /// The operation that `kind` stands for; `length` matters to some of them.
    ///
    /// Reads and writes are more likely than the others, for generators that
    /// know nothing of their meaning.
    #[must_use]
    pub const fn decode(kind: u8, length: usize) -> Self {
        // What is left of the kind: from nothing to all of the length.
        let sevenths = (kind / 32) as usize;
        let pieces = Pieces { first: length * sevenths / 7, total: length };
        match kind % 32 {
            0..=2 => Self::Write(length),
            3 => Self::WriteVectored(pieces),
            4 => Self::WriteVectoredWhole(pieces),
            5 => Self::WriteWhole(length),
            6 => Self::Grant(length, if sevenths == 0 { None } else { Some(pieces.first) }),
            7 if sevenths % 2 == 0 => Self::GrantUpTo(pieces),
            7 => Self::GrantSlices(pieces),
            8..=9 => Self::Stage(length),
            10..=11 => Self::Publish,
            12 => Self::FreeBytes,
            13..=14 => Self::RingConsumer,
            15..=16 => Self::ParkProducer,
            17 => Self::UnparkProducer,
            18..=21 => Self::Read(length),
            22 if sevenths % 2 == 0 => Self::ReadInPlace(pieces),
            22 => Self::ReadSlices(pieces),
            23 => Self::Forward(length),
            24 => Self::ReadVectored(pieces),
            25 => Self::AvailableBytes,
            26 => Self::RingProducer,
            27 => Self::RingProducerNow,
            28..=29 => Self::ParkConsumer,
            30 => Self::UnparkConsumer,
            // Rare, because the ends never open again.
            _ => match length % 8 {
                0 => Self::CloseProducer,
                1 => Self::CloseConsumer,
                _ => Self::Publish,
            },
        }
    }
}

/// What a FIFO does, said without shared memory.
///
/// It knows no bytes, only positions: the byte at a position is always
/// [`pattern`]'s, so what must come out follows from where.
#[derive(Debug)]
pub struct Oracle {
    capacity: usize,
    /// Where the producer is, where it was when it last published, and where
    /// the consumer is.
    tail: u64,
    published: u64,
    head: u64,
    producer_parked: bool,
    consumer_parked: bool,
    producer_closed: bool,
    consumer_closed: bool,
    /// Bytes read since the consumer last looked whether the producer sleeps.
    read_since_look: usize,
}

impl Oracle {
    /// An empty FIFO of `capacity` bytes through which `position` bytes passed.
    #[must_use]
    pub fn new(capacity: usize, position: u64) -> Self {
        Self {
            capacity,
            tail: position,
            published: position,
            head: position,
            producer_parked: false,
            consumer_parked: false,
            producer_closed: false,
            consumer_closed: false,
            read_since_look: 0,
        }
    }

    /// Bytes that can be written.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.capacity - bytes_between(self.head, self.tail)
    }

    /// Bytes that can be read.
    #[must_use]
    pub fn available_bytes(&self) -> usize {
        bytes_between(self.head, self.published)
    }

    fn stage(&mut self, length: usize) -> usize {
        let length = length.min(self.free_bytes());
        if length > PUBLISH_EVERY_BYTES {
            // All parts but the last one, which has at least a byte.
            let parts = (length - 1) / PUBLISH_EVERY_BYTES;
            self.published = self.tail.wrapping_add((parts * PUBLISH_EVERY_BYTES) as u64);
        }
        self.tail = self.tail.wrapping_add(length as u64);
        length
    }

    fn publish(&mut self) {
        self.published = self.tail;
    }

    fn write(&mut self, length: usize) -> usize {
        let length = self.stage(length);
        self.publish();
        length
    }

    fn write_whole(&mut self, length: usize) -> bool {
        let fits = length <= self.free_bytes();
        if fits {
            self.write(length);
        }
        fits
    }

    /// Returns whether so much is granted.
    fn grant(&mut self, length: usize, committed: Option<usize>) -> bool {
        let granted = length <= self.free_bytes();
        if let Some(committed) = committed.filter(|_| granted) {
            self.tail = self.tail.wrapping_add(committed as u64);
            self.publish();
        }
        granted
    }

    /// Returns how much is granted.
    fn grant_up_to(&mut self, pieces: Pieces) -> usize {
        let granted = pieces.total.min(self.free_bytes());
        self.grant(granted, Some(pieces.first.min(granted)));
        granted
    }

    fn read(&mut self, length: usize) -> usize {
        let length = length.min(self.available_bytes());
        self.head = self.head.wrapping_add(length as u64);
        self.read_since_look += length;
        length
    }

    fn park_consumer(&mut self) -> bool {
        self.consumer_parked = self.available_bytes() == 0 && !self.producer_closed;
        self.consumer_parked
    }

    fn park_producer(&mut self) -> bool {
        let worthwhile = self.free_bytes() >= self.capacity / 4;
        self.producer_parked = !worthwhile && !self.consumer_closed;
        self.producer_parked
    }

    fn ring_consumer(&mut self) -> bool {
        std::mem::take(&mut self.consumer_parked)
    }

    fn ring_producer(&mut self) -> bool {
        self.read_since_look >= self.capacity / 2 && self.ring_producer_now()
    }

    fn ring_producer_now(&mut self) -> bool {
        self.read_since_look = 0;
        std::mem::take(&mut self.producer_parked)
    }
}

fn bytes_between(behind: u64, ahead: u64) -> usize {
    usize::try_from(ahead.wrapping_sub(behind)).expect("at most a capacity")
}

/// Runs `ops` on a FIFO of `capacity` bytes that starts at `start_position`, and
/// on an [`Oracle`] beside it.
///
/// # Panics
/// Where the two differ, and if `capacity` is none that a FIFO can have.
pub fn run(ops: &[Op], capacity: usize, start_position: u64) {
    let memory = HeapFifo::new(capacity, start_position);
    // It begins elsewhere, so that the two wrap at different bytes.
    let beside = HeapFifo::new(capacity, !start_position);
    let mut pair = Pair {
        producer: memory.producer(),
        consumer: memory.consumer(),
        beside: (beside.producer(), beside.consumer()),
        oracle: Oracle::new(capacity, start_position),
        buffer: Vec::new(),
    };
    for (step, &op) in ops.iter().enumerate() {
        pair.step(step, op);
    }
    // Nothing may be left behind, whatever happened before.
    pair.step(ops.len(), Op::Publish);
    pair.step(ops.len() + 1, Op::Read(capacity));
    pair.step(ops.len() + 2, Op::AvailableBytes);
}

/// A FIFO and its specification, step by step the same.
struct Pair<'m> {
    producer: Producer<'m>,
    consumer: Consumer<'m>,
    /// Another ring, empty between two steps.
    beside: (Producer<'m>, Consumer<'m>),
    oracle: Oracle,
    /// What is written from and read to; kept, because this runs often.
    buffer: Vec<u8>,
}

impl Pair<'_> {
    fn step(&mut self, step: usize, op: Op) {
        let Self { producer, consumer, beside, oracle, buffer } = self;
        match op {
            Op::Write(length) => {
                fill_with_pattern(buffer, oracle.tail, length);
                assert_eq!(producer.write(buffer), Ok(oracle.write(length)), "{step}: {op:?}");
            }
            Op::WriteWhole(length) => {
                fill_with_pattern(buffer, oracle.tail, length);
                let expected = Ok(oracle.write_whole(length));
                assert_eq!(producer.write_whole(buffer), expected, "{step}: {op:?}");
            }
            Op::WriteVectored(pieces) => {
                fill_with_pattern(buffer, oracle.tail, pieces.total);
                let written = producer.write_vectored(&pieces.of(buffer));
                assert_eq!(written, Ok(oracle.write(pieces.total)), "{step}: {op:?}");
            }
            Op::WriteVectoredWhole(pieces) => {
                fill_with_pattern(buffer, oracle.tail, pieces.total);
                let written = producer.write_vectored_whole(&pieces.of(buffer));
                assert_eq!(written, Ok(oracle.write_whole(pieces.total)), "{step}: {op:?}");
            }
            Op::Grant(length, committed) => {
                fill_with_pattern(buffer, oracle.tail, length);
                let granted = grant(producer, buffer, committed);
                assert_eq!(granted, Ok(oracle.grant(length, committed)), "{step}: {op:?}");
            }
            Op::GrantUpTo(pieces) | Op::GrantSlices(pieces) => {
                fill_with_pattern(buffer, oracle.tail, pieces.total);
                let by_slices = matches!(op, Op::GrantSlices(_));
                let granted = grant_up_to(producer, buffer, pieces.first, by_slices);
                assert_eq!(granted, Ok(oracle.grant_up_to(pieces)), "{step}: {op:?}");
            }
            Op::Stage(length) => {
                fill_with_pattern(buffer, oracle.tail, length);
                assert_eq!(producer.stage(buffer), Ok(oracle.stage(length)), "{step}: {op:?}");
            }
            Op::Publish => {
                producer.publish();
                oracle.publish();
            }
            Op::FreeBytes => {
                assert_eq!(producer.free_bytes(), Ok(oracle.free_bytes()), "{step}: {op:?}");
            }
            Op::RingConsumer => {
                assert_eq!(producer.needs_notify(), oracle.ring_consumer(), "{step}: {op:?}");
            }
            Op::ParkProducer => {
                let parked = producer.watch().park(producer.position());
                assert_eq!(parked, oracle.park_producer(), "{step}: {op:?}");
            }
            Op::UnparkProducer => {
                producer.watch().unpark();
                oracle.producer_parked = false;
            }
            Op::CloseProducer => {
                producer.close();
                oracle.producer_closed = true;
            }
            Op::Read(length) => {
                // More than was asked for would show as a changed guard byte.
                buffer.clear();
                buffer.resize(length + 1, 0xEE);
                let position = oracle.head;
                let read = consumer.read(&mut buffer[..length]);
                assert_eq!(read, Ok(oracle.read(length)), "{step}: {op:?}");
                let read = read.unwrap_or(0);
                assert!(is_pattern(position, &buffer[..read]), "{step}: {op:?}");
                assert_eq!(buffer[length], 0xEE, "{step}: {op:?}");
            }
            Op::ReadVectored(pieces) => {
                buffer.clear();
                buffer.resize(pieces.total + 1, 0xEE);
                let position = oracle.head;
                let (first, rest) = buffer.split_at_mut(pieces.first);
                let (last, guard) = rest.split_at_mut(pieces.total - pieces.first);
                let read = consumer.read_vectored(&mut [first, &mut [], last]);
                assert_eq!(read, Ok(oracle.read(pieces.total)), "{step}: {op:?}");
                assert_eq!(guard, [0xEE], "{step}: {op:?}");
                let read = read.unwrap_or(0);
                assert!(is_pattern(position, &buffer[..read]), "{step}: {op:?}");
            }
            Op::ReadInPlace(pieces) | Op::ReadSlices(pieces) => {
                let (position, available) = (oracle.head, oracle.available_bytes());
                let by_slices = matches!(op, Op::ReadSlices(_));
                let granted = read_in_place(consumer, buffer, pieces, by_slices);
                assert_eq!(granted, Ok(available), "{step}: {op:?}");
                assert!(is_pattern(position, buffer), "{step}: {op:?}");
                oracle.read(pieces.first);
            }
            Op::Forward(length) => {
                let position = oracle.head;
                let forwarded = forward(consumer, beside, buffer, length);
                assert_eq!(forwarded, Ok(oracle.read(length)), "{step}: {op:?}");
                assert!(is_pattern(position, buffer), "{step}: {op:?}");
            }
            Op::AvailableBytes => {
                let expected = Ok(oracle.available_bytes());
                assert_eq!(consumer.available_bytes(), expected, "{step}: {op:?}");
            }
            Op::RingProducer => {
                assert_eq!(consumer.needs_notify(), oracle.ring_producer(), "{step}: {op:?}");
            }
            Op::RingProducerNow => {
                assert_eq!(
                    consumer.needs_notify_now(),
                    oracle.ring_producer_now(),
                    "{step}: {op:?}"
                );
            }
            Op::ParkConsumer => {
                let parked = consumer.watch().park(consumer.position());
                assert_eq!(parked, oracle.park_consumer(), "{step}: {op:?}");
            }
            Op::UnparkConsumer => {
                consumer.watch().unpark();
                oracle.consumer_parked = false;
            }
            Op::CloseConsumer => {
                consumer.close();
                oracle.consumer_closed = true;
            }
        }
        assert_eq!(producer.position(), oracle.tail, "{step}: {op:?}");
        assert_eq!(consumer.position(), oracle.head, "{step}: {op:?}");
        assert_eq!(consumer.watch().producer_closed(), oracle.producer_closed, "{step}: {op:?}");
        assert_eq!(producer.watch().consumer_closed(), oracle.consumer_closed, "{step}: {op:?}");
    }
}
