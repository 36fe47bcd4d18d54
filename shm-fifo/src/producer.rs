//! The writing end of a FIFO.

use crate::error::{Corrupt, SharedWord};
use crate::layout::{FifoHeader, MAILBOX_BYTES};
use crate::memory::RingBytes;
use crate::park::{self, SpaceWatch};
use crate::position::{advance, distance};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::fence;

/// Bytes after which a long write publishes what it has, so that the consumer
/// copies one part while the next is written.
pub(crate) const PUBLISH_EVERY_BYTES: usize = 16 * 1024;

/// The writing end of a FIFO. One thread at a time uses it.
///
/// [`Producer::write`] does all at once. [`Producer::stage`] and
/// [`Producer::publish`] are its halves, for messages made of several pieces.
#[derive(Debug)]
pub struct Producer<'m> {
    header: &'m FifoHeader,
    bytes: RingBytes<'m>,
    /// Own position, staged bytes included. Never read back from the header.
    tail: u64,
    /// Own position as the consumer knows it.
    published: u64,
    /// The consumer's position when it was last looked at; possibly stale.
    cached_head: u64,
}

impl<'m> Producer<'m> {
    pub(crate) fn new(header: &'m FifoHeader, bytes: RingBytes<'m>, position: u64) -> Self {
        Self { header, bytes, tail: position, published: position, cached_head: position }
    }

    /// Bytes the FIFO can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// How many bytes were ever written, modulo 2^64.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.tail
    }

    /// Bytes that can be written now. May grow at any time, never shrinks but
    /// by writing.
    ///
    /// # Errors
    /// [`Corrupt`] if the consumer's position is impossible.
    pub fn free_bytes(&mut self) -> Result<usize, Corrupt> {
        // ORDERING E2 (space free), Acquire: pairs with the Release store in
        // `Consumer::release`. Weaker: we could overwrite bytes while the
        // consumer still copies them.
        let head = self.header.consumer.head.load(Acquire);
        match distance(self.tail, head, self.capacity()) {
            // A head behind one seen before would take space back: impossible too.
            Some(used) if used <= self.used_by_cache() => {
                self.cached_head = head;
                Ok(self.capacity() - used)
            }
            _ => Err(Corrupt { word: SharedWord::Head, value: head, own: self.tail }),
        }
    }

    /// Writes as much of `source` as there is space for and publishes it.
    /// Returns how many bytes that were, 0 if the FIFO is full.
    ///
    /// Afterwards [`Producer::must_ring`] says whether the consumer sleeps.
    ///
    /// # Errors
    /// [`Corrupt`] if the consumer's position is impossible.
    pub fn write(&mut self, source: &[u8]) -> Result<usize, Corrupt> {
        let nothing_staged = self.tail == self.published;
        let written = self.stage(source)?;
        if nothing_staged && written <= MAILBOX_BYTES {
            // As `publish`, without reading the message back out of the ring.
            self.publish_short(&source[..written]);
        } else {
            self.publish();
        }
        Ok(written)
    }

    /// Writes all of `source` and publishes it, or writes nothing.
    /// Returns whether it was written.
    ///
    /// # Errors
    /// [`Corrupt`] if the consumer's position is impossible.
    pub fn write_whole(&mut self, source: &[u8]) -> Result<bool, Corrupt> {
        let fits = self.free_for(source.len())? >= source.len();
        if fits {
            self.write(source)?;
        }
        Ok(fits)
    }

    /// Writes as much of `source` as there is space for, without telling the
    /// consumer (a long source is published in parts). Returns how many bytes.
    ///
    /// # Errors
    /// [`Corrupt`] if the consumer's position is impossible.
    pub fn stage(&mut self, source: &[u8]) -> Result<usize, Corrupt> {
        let length = source.len().min(self.free_for(source.len())?);
        let mut rest = &source[..length];
        while rest.len() > PUBLISH_EVERY_BYTES {
            let (part, behind) = rest.split_at(PUBLISH_EVERY_BYTES);
            self.append(part);
            self.publish();
            rest = behind;
        }
        self.append(rest);
        Ok(length)
    }

    /// Shows the consumer everything staged so far.
    pub fn publish(&mut self) {
        match distance(self.tail, self.published, MAILBOX_BYTES) {
            Some(length) => {
                let mut message = [0; MAILBOX_BYTES];
                self.bytes.copy_out(self.published, &mut message[..length]);
                self.publish_short(&message[..length]);
            }
            None => self.publish_tail(),
        }
    }

    /// After publishing: whether the consumer sleeps and its doorbell must be
    /// rung. The answer is given once for each sleep.
    #[must_use = "a consumer that is not rung sleeps on"]
    pub fn must_ring(&self) -> bool {
        park::take(&self.header.consumer_wait.parked)
    }

    /// Ends the stream after what was published. The consumer reads that first.
    pub fn close(&self) {
        // ORDERING E4 (close), Release: pairs with the Acquire load in
        // `DataWatch::producer_closed`. Weaker: the consumer could see the end
        // before the last bytes and lose them.
        self.header.producer.closed.store(1, Release);
    }

    /// The view that pollers use.
    #[must_use]
    pub fn watch(&self) -> SpaceWatch<'m> {
        SpaceWatch::new(self.header, self.bytes.capacity())
    }

    /// Free bytes, from the cache if that already has `wanted`.
    fn free_for(&mut self, wanted: usize) -> Result<usize, Corrupt> {
        let cached = self.capacity() - self.used_by_cache();
        if cached >= wanted { Ok(cached) } else { self.free_bytes() }
    }

    fn used_by_cache(&self) -> usize {
        distance(self.tail, self.cached_head, self.capacity()).unwrap_or(self.capacity())
    }

    fn append(&mut self, source: &[u8]) {
        self.bytes.copy_in(self.tail, source);
        self.tail = advance(self.tail, source.len());
    }

    /// Publishes `message`, which is [published, tail) and fits the mailbox.
    fn publish_short(&mut self, message: &[u8]) {
        if !message.is_empty() {
            self.fill_mailbox(message);
            self.publish_tail();
        }
    }

    fn publish_tail(&mut self) {
        // ORDERING E1 (data ready), Release: publishes the bytes in
        // [published, tail) and the mailbox. Pairs with the Acquire load in
        // `Consumer::available_bytes`. Weaker: the consumer could copy bytes
        // before they are written.
        self.header.producer.tail.store(self.tail, Release);
        self.published = self.tail;
    }

    /// Repeats `message`, which starts at `published`, in the tail's cache line.
    fn fill_mailbox(&self, message: &[u8]) {
        let line = &self.header.producer;
        // ORDERING E5 (mailbox), Relaxed with the fence below: `mail_start`
        // changes before any word does. Pairs with the fence in
        // `Consumer::take_mail`. Weaker: the consumer could take words of two
        // messages for one.
        line.mail_start.store(self.published, Relaxed);
        fence(Release);
        let (whole, rest) = message.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // Words behind the message keep what they had: nobody looks at them.
        for (shared, word) in line.mail.iter().zip(whole.iter().chain([&last])) {
            // ORDERING E1, Relaxed: the Release store of the tail publishes it.
            shared.store(u64::from_ne_bytes(*word), Relaxed);
        }
    }
}
