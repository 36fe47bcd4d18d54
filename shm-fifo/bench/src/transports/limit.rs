//! What the machine itself allows.

use crate::shared::{Messages, Shared, SharedBytes};
use crate::transport::{End, Message, Pair, Place, Transport};
use anyhow::{Context, Result};
use std::sync::atomic::{AtomicU64, Ordering};

/// A cache line, and the one that x86-64 likes to fetch with it.
#[derive(Debug, Default)]
#[repr(C, align(128))]
struct Line(AtomicU64);

/// One cache line for each direction, which carries a message's number only.
#[derive(Debug)]
pub struct LinePingPong;

#[derive(Debug)]
pub struct LineEnd {
    outgoing: Shared<Line>,
    incoming: Shared<Line>,
    seen: u64,
}

impl<const N: usize> Transport<N> for LinePingPong {
    type End = LineEnd;
    const PLACE: Place = Place::Processes;

    fn connect(_: usize) -> Result<Pair<LineEnd>> {
        let there = Shared::new(Line::default())?;
        let back = Shared::new(Line::default())?;
        let open = |outgoing, incoming| Box::new(|| Ok(LineEnd { outgoing, incoming, seen: 0 }));
        Ok((open(there.clone(), back.clone()), open(back, there)))
    }
}

impl<const N: usize> End<N> for LineEnd {
    fn send(&mut self, burst: &[Message<N>]) -> Result<()> {
        for message in burst {
            let number = message.first_chunk().context("a message without a number")?;
            self.outgoing.0.store(u64::from_le_bytes(*number), Ordering::Release);
        }
        Ok(())
    }

    fn receive(&mut self, mut take: impl FnMut(&Message<N>)) -> Result<()> {
        let number = self.incoming.0.load(Ordering::Acquire);
        if number != self.seen {
            self.seen = number;
            let mut message = [0; N];
            message[..8].copy_from_slice(&number.to_le_bytes());
            take(&message);
        }
        Ok(())
    }
}

/// One core copies bursts into a ring, another one out of it, with memcpy and nothing
/// but a position for each of them.
#[derive(Debug)]
pub struct TwoCoreCopy;

#[derive(Debug)]
pub struct CopyEnd<const N: usize> {
    outgoing: CopyRing,
    incoming: CopyRing,
    copied: Messages<N>,
}

impl<const N: usize> Transport<N> for TwoCoreCopy {
    type End = CopyEnd<N>;
    const PLACE: Place = Place::Processes;

    fn connect(capacity: usize) -> Result<Pair<Self::End>> {
        let there = CopyRing::new(capacity * N)?;
        let back = CopyRing::new(capacity * N)?;
        let open = |outgoing, incoming| {
            Box::new(|| Ok(CopyEnd { outgoing, incoming, copied: Messages::burst()? }))
        };
        Ok((open(there.clone(), back.clone()), open(back, there)))
    }
}

impl<const N: usize> End<N> for CopyEnd<N> {
    fn send(&mut self, burst: &[Message<N>]) -> Result<()> {
        self.outgoing.push(burst.as_flattened());
        Ok(())
    }

    fn receive(&mut self, take: impl FnMut(&Message<N>)) -> Result<()> {
        self.incoming.pop(self.copied.as_flattened_mut());
        self.copied.iter().for_each(take);
        Ok(())
    }
}

/// One end of a ring through which pieces go that divide its capacity.
#[derive(Debug, Clone)]
pub struct CopyRing {
    bytes: SharedBytes,
    capacity: u64,
    tail: Shared<Line>,
    head: Shared<Line>,
    /// This end's position, and the other's when it was last looked at.
    own: u64,
    seen: u64,
}

impl CopyRing {
    pub fn new(capacity: usize) -> Result<Self> {
        Ok(Self {
            bytes: SharedBytes::new(capacity)?,
            capacity: capacity as u64,
            tail: Shared::new(Line::default())?,
            head: Shared::new(Line::default())?,
            own: 0,
            seen: 0,
        })
    }

    pub fn push(&mut self, piece: &[u8]) {
        while self.own + piece.len() as u64 - self.seen > self.capacity {
            self.seen = self.head.0.load(Ordering::Acquire);
        }
        // SAFETY: the other end has left these bytes.
        unsafe { self.address().copy_from_nonoverlapping(piece.as_ptr(), piece.len()) };
        self.own += piece.len() as u64;
        self.tail.0.store(self.own, Ordering::Release);
    }

    pub fn pop(&mut self, piece: &mut [u8]) {
        while self.seen - self.own < piece.len() as u64 {
            self.seen = self.tail.0.load(Ordering::Acquire);
        }
        // SAFETY: the other end has left these bytes.
        unsafe { self.address().copy_to_nonoverlapping(piece.as_mut_ptr(), piece.len()) };
        self.own += piece.len() as u64;
        self.head.0.store(self.own, Ordering::Release);
    }

    fn address(&self) -> *mut u8 {
        let index = (self.own % self.capacity) as usize;
        // SAFETY: below the capacity.
        unsafe { self.bytes.as_ptr().add(index) }
    }
}
