//! This crate: the FIFO alone, and the channel, which also sleeps.

use super::sockets::Reassembly;
use crate::shared::SharedBytes;
use crate::transport::{End, Message, Pair, Place, Transport, spin_until};
use anyhow::Result;
use shm_fifo::{
    Channel, Consumer, Fifo, Producer, Region,
    fifo::{FIFO_HEADER_BYTES, FifoHeader},
};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// The FIFO. A burst is one write, or, with `EACH`, every message.
#[derive(Debug)]
pub struct ShmFifo<const EACH: bool>;

/// Two FIFOs in memory that a forked process shares.
#[derive(Debug)]
pub struct FifoEnd<const N: usize, const EACH: bool> {
    producer: Producer<'static>,
    consumer: Consumer<'static>,
    arriving: Reassembly<N>,
    _memory: [SharedBytes; 2],
}

impl<const N: usize, const EACH: bool> Transport<N> for ShmFifo<EACH> {
    type End = FifoEnd<N, EACH>;
    const PLACE: Place = Place::Processes;

    fn connect(capacity: usize) -> Result<Pair<Self::End>> {
        let ring_bytes = (capacity * N).next_power_of_two();
        let there = SharedBytes::new(FIFO_HEADER_BYTES + ring_bytes)?;
        let back = SharedBytes::new(FIFO_HEADER_BYTES + ring_bytes)?;
        let open = |outgoing: SharedBytes, incoming: SharedBytes| {
            Box::new(move || {
                Ok(FifoEnd {
                    producer: fifo(&outgoing, ring_bytes)?.into_producer(0),
                    consumer: fifo(&incoming, ring_bytes)?.into_consumer(0),
                    arriving: Reassembly::new()?,
                    _memory: [outgoing, incoming],
                })
            })
        };
        Ok((open(there.clone(), back.clone()), open(back, there)))
    }
}

/// The FIFO in `memory`, which must outlive it.
fn fifo(memory: &SharedBytes, ring_bytes: usize) -> Result<Fifo<'static>> {
    let start = memory.as_ptr();
    // SAFETY: a header fits; all of it is atomics, for which zeroes are an empty FIFO.
    let header = unsafe { &*start.cast::<FifoHeader>() };
    // SAFETY: `ring_bytes` follow, and are reached by FIFOs only.
    Ok(unsafe { Fifo::from_raw_parts(header, start.add(FIFO_HEADER_BYTES), ring_bytes) }?)
}

impl<const N: usize, const EACH: bool> FifoEnd<N, EACH> {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        spin_until(|| {
            rest = &rest[self.producer.write(rest)?..];
            Ok(rest.is_empty())
        })
    }
}

impl<const N: usize, const EACH: bool> End<N> for FifoEnd<N, EACH> {
    fn send(&mut self, burst: &[Message<N>]) -> Result<()> {
        if EACH {
            burst.iter().try_for_each(|message| self.write_all(message))
        } else {
            self.write_all(burst.as_flattened())
        }
    }

    fn receive(&mut self, take: impl FnMut(&Message<N>)) -> Result<()> {
        let read = self.consumer.read(self.arriving.space())?;
        self.arriving.arrived(read, take);
        Ok(())
    }
}

/// The FIFO between processes that trust each other: messages are looked at where they lie.
#[derive(Debug)]
pub struct ShmFifoInPlace;

#[derive(Debug)]
pub struct InPlaceEnd<const N: usize>(FifoEnd<N, false>);

impl<const N: usize> Transport<N> for ShmFifoInPlace {
    type End = InPlaceEnd<N>;
    const PLACE: Place = Place::Processes;

    fn connect(capacity: usize) -> Result<Pair<Self::End>> {
        let (near, far) = ShmFifo::<false>::connect(capacity)?;
        Ok((Box::new(|| near().map(InPlaceEnd)), Box::new(|| far().map(InPlaceEnd))))
    }
}

impl<const N: usize> End<N> for InPlaceEnd<N> {
    fn send(&mut self, burst: &[Message<N>]) -> Result<()> {
        self.0.send(burst)
    }

    fn receive(&mut self, mut take: impl FnMut(&Message<N>)) -> Result<()> {
        let grant = self.0.consumer.grant()?;
        // SAFETY: the other end is of this program, and leaves unread bytes alone.
        let (first, mut second) = unsafe { grant.as_slices() };
        let (whole, cut) = first.as_chunks();
        whole.iter().for_each(&mut take);
        let mut length = size_of_val(whole);
        let missing = second.split_at_checked(N - cut.len()).filter(|_| !cut.is_empty());
        if let Some((end, behind)) = missing {
            let mut message = [0; N];
            message[..cut.len()].copy_from_slice(cut);
            message[cut.len()..].copy_from_slice(end);
            take(&message);
            length += N;
            second = behind;
        }
        let (whole, _) = second.as_chunks();
        whole.iter().for_each(&mut take);
        length += size_of_val(whole);
        grant.consume(length);
        Ok(())
    }
}

/// Two processes with a [`Channel`] between them: every message may wake a sleeper.
#[derive(Debug)]
pub struct ShmChannel;

#[derive(Debug)]
pub struct ChannelEnd<const N: usize> {
    channel: Channel,
    arriving: Reassembly<N>,
}

impl<const N: usize> Transport<N> for ShmChannel {
    type End = ChannelEnd<N>;
    const PLACE: Place = Place::Processes;

    fn connect(capacity: usize) -> Result<Pair<Self::End>> {
        let created = Region::create((capacity * N).next_power_of_two())?;
        let file = created.fd()?;
        let (here, there) = UnixStream::pair()?;
        let end =
            |channel| -> Result<_> { Ok(ChannelEnd { channel, arriving: Reassembly::new()? }) };
        Ok((
            Box::new(move || end(Channel::new(created.into_endpoint(), here.into()))),
            Box::new(move || {
                let attached = Region::attach(file)?;
                end(Channel::new(attached.into_endpoint(), there.into()))
            }),
        ))
    }
}

impl<const N: usize> End<N> for ChannelEnd<N> {
    fn send(&mut self, burst: &[Message<N>]) -> Result<()> {
        Ok(self.channel.write_all(burst.as_flattened())?)
    }

    fn receive(&mut self, take: impl FnMut(&Message<N>)) -> Result<()> {
        let read = self.channel.read(self.arriving.space())?;
        self.arriving.arrived(read, take);
        Ok(())
    }
}
