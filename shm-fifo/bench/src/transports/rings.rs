//! Queues for two threads of one process: rtrb and ringbuf.

use crate::transport::{End, Message, Pair, Place, Transport, spin_until};
use anyhow::Result;
use ringbuf::traits::{Consumer as _, Producer as _, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use rtrb::RingBuffer;

/// A burst is one `push_partial_slice`, or, with `EACH`, every message a `push`.
#[derive(Debug)]
pub struct Rtrb<const EACH: bool>;

#[derive(Debug)]
pub struct RtrbEnd<const N: usize, const EACH: bool> {
    producer: rtrb::Producer<Message<N>>,
    consumer: rtrb::Consumer<Message<N>>,
}

impl<const N: usize, const EACH: bool> Transport<N> for Rtrb<EACH> {
    type End = RtrbEnd<N, EACH>;
    const PLACE: Place = Place::Threads;

    fn connect(capacity: usize) -> Result<Pair<Self::End>> {
        let (near_producer, far_consumer) = RingBuffer::new(capacity);
        let (far_producer, near_consumer) = RingBuffer::new(capacity);
        Ok((
            Box::new(|| Ok(RtrbEnd { producer: near_producer, consumer: near_consumer })),
            Box::new(|| Ok(RtrbEnd { producer: far_producer, consumer: far_consumer })),
        ))
    }
}

impl<const N: usize, const EACH: bool> End<N> for RtrbEnd<N, EACH> {
    fn send(&mut self, burst: &[Message<N>]) -> Result<()> {
        if EACH {
            return burst
                .iter()
                .try_for_each(|message| spin_until(|| Ok(self.producer.push(*message).is_ok())));
        }
        let mut rest = burst;
        spin_until(|| {
            rest = self.producer.push_partial_slice(rest).1;
            Ok(rest.is_empty())
        })
    }

    fn receive(&mut self, take: impl FnMut(&Message<N>)) -> Result<()> {
        let chunk = self.consumer.read_chunk(self.consumer.slots())?;
        let (first, second) = chunk.as_slices();
        first.iter().chain(second).for_each(take);
        chunk.commit_all();
        Ok(())
    }
}

/// A burst is one `push_slice`, or, with `EACH`, every message a `try_push`.
#[derive(Debug)]
pub struct Ringbuf<const EACH: bool>;

pub struct RingbufEnd<const N: usize, const EACH: bool> {
    producer: HeapProd<Message<N>>,
    consumer: HeapCons<Message<N>>,
}

impl<const N: usize, const EACH: bool> Transport<N> for Ringbuf<EACH> {
    type End = RingbufEnd<N, EACH>;
    const PLACE: Place = Place::Threads;

    fn connect(capacity: usize) -> Result<Pair<Self::End>> {
        let (near_producer, far_consumer) = HeapRb::new(capacity).split();
        let (far_producer, near_consumer) = HeapRb::new(capacity).split();
        Ok((
            Box::new(|| Ok(RingbufEnd { producer: near_producer, consumer: near_consumer })),
            Box::new(|| Ok(RingbufEnd { producer: far_producer, consumer: far_consumer })),
        ))
    }
}

impl<const N: usize, const EACH: bool> End<N> for RingbufEnd<N, EACH> {
    fn send(&mut self, burst: &[Message<N>]) -> Result<()> {
        if EACH {
            return burst.iter().try_for_each(|message| {
                spin_until(|| Ok(self.producer.try_push(*message).is_ok()))
            });
        }
        let mut rest = burst;
        spin_until(|| {
            rest = &rest[self.producer.push_slice(rest)..];
            Ok(rest.is_empty())
        })
    }

    fn receive(&mut self, take: impl FnMut(&Message<N>)) -> Result<()> {
        let (first, second) = self.consumer.as_slices();
        let count = first.len() + second.len();
        first.iter().chain(second).for_each(take);
        self.consumer.skip(count);
        Ok(())
    }
}
