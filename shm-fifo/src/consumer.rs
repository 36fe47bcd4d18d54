//! The reading end of a FIFO.

mod grant;

use crate::error::{Corrupt, SharedWord};
use crate::layout::{FifoHeader, INLINE_BYTES, INLINE_WORDS, inline_key};
use crate::memory::{RingBytes, total_bytes};
use crate::park::{self, DataWatch, PublishFence};
use crate::position::{advance, distance};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::fence;
use core::ops::DerefMut;

pub use grant::ReadGrant;

/// From here on a read fetches the ring's lines ahead of its copy. (loom's rings are tiny.)
const LONG_BYTES: usize = if cfg!(loom) { 2 } else { 8 * 1024 };

/// The reading end of a FIFO. One thread at a time uses it.
///
/// [`Consumer::read`] copies bytes out; [`Consumer::grant`] leaves them where they are until
/// they are consumed.
#[derive(Debug)]
pub struct Consumer<'m> {
    header: &'m FifoHeader,
    bytes: RingBytes<'m>,
    /// Own position. Never read back from the header.
    head: u64,
    /// The producer's position when it was last looked at; possibly stale.
    cached_tail: u64,
    /// Own position when the producer's parked word was last looked at.
    head_at_space_check: u64,
}

impl<'m> Consumer<'m> {
    pub(crate) fn new(header: &'m FifoHeader, bytes: RingBytes<'m>, position: u64) -> Self {
        Self { header, bytes, head: position, cached_tail: position, head_at_space_check: position }
    }

    /// Bytes the FIFO can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// How many bytes were ever read, modulo 2^64.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.head
    }

    /// Bytes that can be read now. May grow at any time, never shrinks but by
    /// reading.
    ///
    /// # Errors
    /// [`Corrupt`] if the producer's position is impossible.
    #[inline]
    pub fn available_bytes(&mut self) -> Result<usize, Corrupt> {
        // ORDERING E1 (data ready), Acquire: pairs with the Release store in
        // `Producer::publish`. Weaker: we could copy bytes before they are written.
        let tail = self.header.producer.tail.load(Acquire);
        match distance(tail, self.head, self.capacity()) {
            // A tail behind one seen before would take bytes back: impossible too.
            Some(available) if available >= self.available_by_cache() => {
                self.cached_tail = tail;
                Ok(available)
            }
            _ => Err(Corrupt { word: SharedWord::Tail, value: tail, own: self.head }),
        }
    }

    /// Reads what there is, at most `target.len()` bytes, and gives their space
    /// back. Returns how many bytes that were, 0 if the FIFO is empty.
    ///
    /// Afterwards [`Consumer::needs_notify`] says whether the producer sleeps.
    ///
    /// # Errors
    /// [`Corrupt`] if the producer's position is impossible.
    #[inline(always)]
    pub fn read(&mut self, target: &mut [u8]) -> Result<usize, Corrupt> {
        let mut available = self.available_by_cache();
        if available < target.len() {
            available = self.available_bytes()?;
            if available <= target.len() && self.take_inline(&mut target[..available]) {
                self.release(available);
                return Ok(available);
            }
        }
        let length = available.min(target.len());
        if length >= LONG_BYTES {
            return Ok(self.read_long(&mut target[..length]));
        }
        self.bytes.copy_out(self.head, &mut target[..length]);
        self.release(length);
        Ok(length)
    }

    /// As [`Consumer::read`], of bytes that are there. A function of its own: what its
    /// call saves would be stores of every short read.
    #[inline(never)]
    fn read_long(&mut self, target: &mut [u8]) -> usize {
        self.bytes.copy_out_fetching_ahead(self.head, target);
        self.release(target.len());
        target.len()
    }

    /// As [`Consumer::read`], into `targets` one after the other, with one look at
    /// the producer's position and one release of the space.
    ///
    /// # Errors
    /// [`Corrupt`] if the producer's position is impossible.
    pub fn read_vectored<T>(&mut self, targets: &mut [T]) -> Result<usize, Corrupt>
    where
        T: DerefMut<Target = [u8]>,
    {
        let mut available = self.available_by_cache();
        if available < total_bytes(targets) {
            available = self.available_bytes()?;
        }
        let mut read = 0;
        for target in targets {
            let length = target.len().min(available - read);
            self.bytes.copy_out_fetching_ahead(advance(self.head, read), &mut target[..length]);
            read += length;
        }
        self.release(read);
        Ok(read)
    }

    /// As [`Consumer::read`], leaving the bytes where they are.
    ///
    /// # Errors
    /// [`Corrupt`] if the producer's position is impossible.
    pub fn peek(&mut self, target: &mut [u8]) -> Result<usize, Corrupt> {
        let mut available = self.available_by_cache();
        if available < target.len() {
            available = self.available_bytes()?;
            if available <= target.len() && self.take_inline(&mut target[..available]) {
                return Ok(available);
            }
        }
        let length = available.min(target.len());
        self.bytes.copy_out(self.head, &mut target[..length]);
        Ok(length)
    }

    /// Whether so many bytes can be read now.
    pub(crate) fn has(&mut self, bytes: usize) -> Result<bool, Corrupt> {
        Ok(self.available_by_cache() >= bytes || self.available_bytes()? >= bytes)
    }

    /// Reads all of `target` from behind the next `skipped` bytes. All of these are there.
    pub(crate) fn read_behind(&mut self, skipped: usize, target: &mut [u8]) {
        self.bytes.copy_out_fetching_ahead(advance(self.head, skipped), target);
        self.release(skipped + target.len());
    }

    /// After reading: whether the producer sleeps for space and its doorbell
    /// must be rung.
    ///
    /// It looks once for each half ring that was read. That is enough: a
    /// producer sleeps only with more than half of the ring unread (with three quarters,
    /// unless it [wants more space](crate::Producer::watch_for)), so at least one look
    /// comes after it fell asleep and before the ring is empty.
    /// A consumer that stops reading earlier calls [`Consumer::needs_notify_now`].
    #[must_use = "a producer that is not rung sleeps on"]
    pub fn needs_notify(&mut self) -> bool {
        let since_check = self.head.wrapping_sub(self.head_at_space_check);
        since_check >= self.capacity() as u64 / 2 && self.needs_notify_now()
    }

    /// As [`Consumer::needs_notify`], looking in any case: for a consumer that is
    /// about to sleep or to do something else for a while.
    #[must_use = "a producer that is not rung sleeps on"]
    pub fn needs_notify_now(&mut self) -> bool {
        self.head_at_space_check = self.head;
        park::take(&self.header.producer_wait.parked, &PublishFence::execute())
    }

    /// Ends the stream: the producer learns that nobody reads any more.
    pub fn close(&self) {
        // ORDERING E4 (close), Release: pairs with the Acquire load in
        // `SpaceWatch::consumer_closed`.
        self.header.consumer.closed.store(1, Release);
    }

    /// The view that pollers use.
    #[must_use]
    pub fn watch(&self) -> DataWatch<'m> {
        DataWatch::new(self.header, 1)
    }

    /// As [`Consumer::watch`], for who has no use for fewer than `bytes` bytes (at most
    /// the capacity, at least one).
    ///
    /// The producer rings for whatever it publishes; who finds too little sleeps again.
    /// It must not want more than the producer can publish before it wants something read
    /// itself: half of the ring is safe.
    #[must_use]
    pub fn watch_for(&self, bytes: usize) -> DataWatch<'m> {
        DataWatch::new(self.header, bytes.clamp(1, self.capacity()))
    }

    #[inline]
    fn available_by_cache(&self) -> usize {
        distance(self.cached_tail, self.head, self.capacity()).unwrap_or(0)
    }

    /// Takes the inline message, if it is the one of exactly `target.len()` bytes that
    /// starts at the head: not the first of several, behind which a producer stored none.
    ///
    /// The tail was loaded (Acquire) before: the words are at least as new.
    #[inline]
    fn take_inline(&self, target: &mut [u8]) -> bool {
        let line = &self.header.producer;
        if target.is_empty() || target.len() > INLINE_BYTES {
            return false;
        }
        let mut words = [[0; 8]; INLINE_WORDS];
        for (word, shared) in words.iter_mut().zip(&line.inline_words) {
            // ORDERING E5, Relaxed: validated by `inline_key` below.
            *word = shared.load(Relaxed).to_ne_bytes();
        }
        // ORDERING E5 (inline message), Acquire: pairs with the Release fence in
        // `Producer::store_inline`. If a word above came from a later message,
        // the load below sees that message's key. Weaker: a torn message.
        fence(Acquire);
        let is_at_head = line.inline_key.load(Relaxed) == inline_key(self.head, target.len());
        if is_at_head {
            // Word by word: a wider load would wait for the stores of two words.
            let whole = target.len() / 8;
            let mut chunks = target.chunks_exact_mut(8);
            for (chunk, word) in chunks.by_ref().zip(&words) {
                chunk.copy_from_slice(word);
            }
            let rest = chunks.into_remainder();
            if !rest.is_empty() {
                rest.copy_from_slice(&words[whole][..rest.len()]);
            }
        }
        is_at_head
    }

    /// Gives the space of the next `length` bytes back to the producer.
    #[inline]
    pub(crate) fn release(&mut self, length: usize) {
        if length == 0 {
            return;
        }
        self.head = advance(self.head, length);
        // ORDERING E2 (space free), Release: the bytes were copied before.
        // Pairs with the Acquire load in `Producer::free_bytes`. Weaker: the
        // producer could overwrite bytes that are still being copied.
        self.header.consumer.head.store(self.head, Release);
    }
}
