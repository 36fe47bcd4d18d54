//! The writing end of a FIFO.

mod grant;

use crate::error::{Corrupt, SharedWord};
use crate::layout::{FifoHeader, INLINE_BYTES, inline_key};
use crate::memory::{RingBytes, prefetch_to_write, total_bytes};
use crate::park::{self, PublishFence, SpaceWatch};
#[cfg(all(feature = "virtual-fd", not(loom)))]
use crate::position::Position as _;
use crate::position::{advance, distance};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::fence;
use core::ops::Deref;

pub use grant::WriteGrant;

/// Bytes after which a long write publishes what it has, so that the consumer
/// copies one part while the next is written.
pub(crate) const PUBLISH_EVERY_BYTES: usize = 16 * 1024;

/// Up to this a message is written without a call: the consumer keeps taking the
/// tail's line, and until it is back every store waits in the store buffer, those that
/// a call makes among them.
const SHORT_BYTES: usize = 64;

/// The writing end of a FIFO. One thread at a time uses it.
///
/// [`Producer::write`] does all at once. [`Producer::stage`] and
/// [`Producer::publish`] are its halves, for messages whose pieces come one by
/// one; [`Producer::write_vectored`] takes pieces that are there together, and
/// [`Producer::grant`] reserves space for some that are not written in order.
#[derive(Debug)]
pub struct Producer<'m> {
    header: &'m FifoHeader,
    bytes: RingBytes<'m>,
    /// Own position as the consumer knows it. Never read back from the header.
    published: u64,
    /// Bytes in the ring behind it.
    staged: usize,
    /// The consumer's position when it was last looked at; possibly stale.
    cached_head: u64,
}

impl<'m> Producer<'m> {
    pub(crate) fn new(header: &'m FifoHeader, bytes: RingBytes<'m>, position: u64) -> Self {
        Self { header, bytes, published: position, staged: 0, cached_head: position }
    }

    /// Bytes the FIFO can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// How many bytes were ever written, modulo 2^64.
    #[must_use]
    #[inline]
    pub fn position(&self) -> u64 {
        advance(self.published, self.staged)
    }

    /// Bytes that the consumer may still read: none if it has ended, or claims to be where it
    /// cannot be.
    #[cfg(all(feature = "virtual-fd", not(loom)))]
    pub(crate) fn unread_bytes(&self) -> usize {
        // ORDERING E2, Acquire: as in `free_bytes`.
        let head = self.header.consumer.head.load(Acquire);
        // ORDERING E4, Acquire: pairs with `Consumer::close`.
        if self.header.consumer.closed.load(Acquire) != 0 {
            return 0;
        }
        distance(self.published, head, self.capacity()).unwrap_or(0)
    }

    /// Where in the ring the next byte would be.
    #[cfg(all(feature = "virtual-fd", not(loom)))]
    pub(crate) fn index(&self) -> usize {
        self.published.masked(self.capacity() - 1)
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
        match distance(self.position(), head, self.capacity()) {
            // A head behind one seen before would take space back: impossible too.
            Some(used) if used <= self.used_by_cache() => {
                self.cached_head = head;
                Ok(self.capacity() - used)
            }
            _ => Err(Corrupt { word: SharedWord::Head, value: head, own: self.position() }),
        }
    }

    /// Writes as much of `source` as there is space for and publishes it.
    /// Returns how many bytes that were, 0 if the FIFO is full.
    ///
    /// Afterwards [`Producer::needs_notify`] says whether the consumer sleeps.
    ///
    /// # Errors
    /// [`Corrupt`] if the consumer's position is impossible.
    #[inline(always)]
    pub fn write(&mut self, source: &[u8]) -> Result<usize, Corrupt> {
        let is_short = source.len() <= SHORT_BYTES && self.staged == 0;
        if is_short && self.free_by_cache() >= source.len() {
            self.write_short(source);
            Ok(source.len())
        } else {
            self.write_any(source)
        }
    }

    /// As [`Producer::write`] of a short `source` that fits, with nothing staged before.
    #[inline(always)]
    fn write_short(&mut self, source: &[u8]) {
        let is_inline = (1..=INLINE_BYTES).contains(&source.len());
        if is_inline {
            // The consumer has the line: let it come while the bytes are copied. (A
            // longer copy would only have it taken away again.)
            prefetch_to_write(&self.header.producer.inline_key);
        }
        self.bytes.copy_in(self.published, source);
        if is_inline {
            self.store_inline(source);
        }
        self.publish_up_to(advance(self.published, source.len()));
    }

    #[inline(never)]
    fn write_any(&mut self, source: &[u8]) -> Result<usize, Corrupt> {
        let written = self.stage(source)?;
        self.publish();
        Ok(written)
    }

    /// Writes all of `source` and publishes it, or writes nothing.
    /// Returns whether it was written.
    ///
    /// # Errors
    /// [`Corrupt`] if the consumer's position is impossible.
    ///
    /// # Examples
    ///
    /// Who waits for space waits for all that is needed ([`Producer::watch_for`]). Woken
    /// for less, it would find too little, and not sleep.
    ///
    /// ```
    /// use shm_fifo::{Producer, fifo::Corrupt};
    ///
    /// /// Writes `message`, of at most half of the ring. `sleep` ends by the doorbell.
    /// fn send(producer: &mut Producer<'_>, message: &[u8], sleep: fn()) -> Result<bool, Corrupt> {
    ///     while !producer.write_whole(message)? {
    ///         let space = producer.watch_for(message.len());
    ///         if space.consumer_closed() {
    ///             return Ok(false);
    ///         }
    ///         if space.park(producer.position()) {
    ///             sleep();
    ///             space.unpark();
    ///         }
    ///     }
    ///     Ok(true)
    /// }
    /// # let header = shm_fifo::fifo::FifoHeader::new();
    /// # let mut ring = [0_u8; 64];
    /// # // SAFETY: the FIFO alone uses the ring's 64 bytes, while they live.
    /// # let fifo = unsafe { shm_fifo::Fifo::from_raw_parts(&header, ring.as_mut_ptr(), 64) }?;
    /// # assert!(send(&mut fifo.into_producer(0), b"hello", || {})?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_whole(&mut self, source: &[u8]) -> Result<bool, Corrupt> {
        let fits = self.free_for(source.len())? >= source.len();
        if fits {
            self.write(source)?;
        }
        Ok(fits)
    }

    /// As [`Producer::write`], of all `sources` one behind the other, published
    /// as one message.
    ///
    /// # Errors
    /// [`Corrupt`] if the consumer's position is impossible.
    ///
    /// # Examples
    ///
    /// ```
    /// # use shm_fifo::{Fifo, fifo::FifoHeader};
    /// let header = FifoHeader::new();
    /// let mut ring = [0_u8; 64];
    /// // SAFETY: the FIFO alone uses the ring's 64 bytes, while they live.
    /// let fifo = unsafe { Fifo::from_raw_parts(&header, ring.as_mut_ptr(), 64) }?;
    /// let mut producer = fifo.into_producer(0);
    ///
    /// let (header, body) = (&b"length: 40\r\n"[..], &[7; 40][..]);
    /// assert!(producer.write_vectored_whole(&[header, body])?);
    /// assert!(!producer.write_vectored_whole(&[header, body])?, "all or nothing");
    /// assert_eq!(producer.write_vectored(&[header, body])?, 12, "what fits");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_vectored<S>(&mut self, sources: &[S]) -> Result<usize, Corrupt>
    where
        S: Deref<Target = [u8]>,
    {
        let total = total_bytes(sources);
        if total <= INLINE_BYTES {
            let (message, length) = gather(sources);
            return self.write(&message[..length]);
        }
        let free = self.free_for(total)?;
        let mut left = free;
        for source in sources {
            let length = source.len().min(left);
            self.append_in_parts(&source[..length]);
            left -= length;
        }
        self.publish();
        Ok(free - left)
    }

    /// As [`Producer::write_whole`], of all `sources` one behind the other.
    ///
    /// # Errors
    /// [`Corrupt`] if the consumer's position is impossible.
    pub fn write_vectored_whole<S>(&mut self, sources: &[S]) -> Result<bool, Corrupt>
    where
        S: Deref<Target = [u8]>,
    {
        let total = total_bytes(sources);
        let fits = self.free_for(total)? >= total;
        if fits {
            self.write_vectored(sources)?;
        }
        Ok(fits)
    }

    /// Writes as much of `source` as there is space for, without telling the
    /// consumer (a long source is published in parts). Returns how many bytes.
    ///
    /// # Errors
    /// [`Corrupt`] if the consumer's position is impossible.
    #[inline]
    pub fn stage(&mut self, source: &[u8]) -> Result<usize, Corrupt> {
        let length = source.len().min(self.free_for(source.len())?);
        self.append_in_parts(&source[..length]);
        Ok(length)
    }

    /// Shows the consumer everything staged so far.
    #[inline]
    pub fn publish(&mut self) {
        if self.staged == 0 {
            return;
        }
        if self.staged <= INLINE_BYTES {
            self.store_staged_inline();
        }
        self.publish_up_to(self.position());
        self.staged = 0;
    }

    /// After publishing: whether the consumer sleeps and its doorbell must be
    /// rung. The answer is given once for each sleep.
    #[must_use = "a consumer that is not rung sleeps on"]
    pub fn needs_notify(&self) -> bool {
        park::take(&self.header.consumer_wait.parked, &PublishFence::execute())
    }

    /// Ends the stream after what was published. The consumer reads that first.
    pub fn close(&self) {
        // ORDERING E4 (close), Release: pairs with the Acquire load in
        // `DataWatch::producer_closed`. Weaker: the consumer could see the end
        // before the last bytes and lose them.
        self.header.producer.closed.store(1, Release);
    }

    /// Says that this end leaves the rings for the socket, or stays after all, to whoever
    /// hears of its socket and may leave unread there what the ring explains.
    #[cfg(all(feature = "std", not(loom)))]
    pub(crate) fn announce_leave(&self, leaves: bool) {
        // ORDERING, Relaxed: the byte follows by the kernel, whose lock of the socket orders
        // this before whoever is told of it looks.
        self.header.producer.leaves.store(leaves.into(), Relaxed);
    }

    /// Copies bytes that were published and are still in the ring, from `position` on.
    ///
    /// # Panics
    /// If `target` is longer than the ring.
    #[cfg(all(feature = "std", not(loom)))]
    pub(crate) fn copy_published(&self, position: u64, target: &mut [u8]) {
        self.bytes.copy_out(position, target);
    }

    /// The view that pollers use.
    #[must_use]
    pub fn watch(&self) -> SpaceWatch<'m> {
        SpaceWatch::new(self.header, self.capacity(), self.capacity() / 4 * 3)
    }

    /// As [`Producer::watch`], for who has no use for less than `bytes` bytes of space (at
    /// most the capacity), or needs no more.
    ///
    /// Up to half of the ring, a consumer rings in time by [`needs_notify`], whatever else it
    /// does. For more it has to look by [`needs_notify_now`] when it has read everything, as
    /// a `Channel` does before it sleeps.
    ///
    /// [`needs_notify`]: crate::Consumer::needs_notify
    /// [`needs_notify_now`]: crate::Consumer::needs_notify_now
    #[must_use]
    pub fn watch_for(&self, bytes: usize) -> SpaceWatch<'m> {
        let capacity = self.capacity();
        SpaceWatch::new(self.header, capacity, capacity - bytes.min(capacity))
    }

    /// Free bytes, from the cache if that already has `wanted`.
    #[inline]
    fn free_for(&mut self, wanted: usize) -> Result<usize, Corrupt> {
        let cached = self.free_by_cache();
        if cached >= wanted { Ok(cached) } else { self.free_bytes() }
    }

    #[inline]
    fn free_by_cache(&self) -> usize {
        self.capacity() - self.used_by_cache()
    }

    #[inline]
    fn used_by_cache(&self) -> usize {
        distance(self.position(), self.cached_head, self.capacity()).unwrap_or(self.capacity())
    }

    /// Appends `source`, which fits, and publishes all parts of it but the last.
    #[inline]
    fn append_in_parts(&mut self, source: &[u8]) {
        let mut rest = source;
        while rest.len() > PUBLISH_EVERY_BYTES {
            rest = self.publish_part(rest);
        }
        self.append(rest);
    }

    /// Appends and publishes the first part of `source` and returns the others.
    fn publish_part<'s>(&mut self, source: &'s [u8]) -> &'s [u8] {
        let (part, rest) = source.split_at(PUBLISH_EVERY_BYTES);
        self.append(part);
        self.publish();
        rest
    }

    #[inline]
    fn append(&mut self, source: &[u8]) {
        self.bytes.copy_in(self.position(), source);
        self.staged += source.len();
    }

    /// Stores the staged bytes, which fit, as the inline message.
    fn store_staged_inline(&self) {
        let mut message = [0; INLINE_BYTES];
        let message = &mut message[..self.staged];
        self.bytes.copy_out(self.published, message);
        self.store_inline(message);
    }

    #[inline(always)]
    fn publish_up_to(&mut self, tail: u64) {
        // ORDERING E1 (data ready), Release: publishes the bytes in
        // [published, tail) and the inline message. Pairs with the Acquire load in
        // `Consumer::available_bytes`. Weaker: the consumer could copy bytes
        // before they are written.
        self.header.producer.tail.store(tail, Release);
        self.published = tail;
    }

    /// Repeats `message`, which starts at `published`, in the tail's cache line.
    #[inline(always)]
    fn store_inline(&self, message: &[u8]) {
        let line = &self.header.producer;
        // ORDERING E5 (inline message), Relaxed with the fence below: `inline_key`
        // changes before any word does. Pairs with the fence in
        // `Consumer::take_inline`. Weaker: the consumer could take words of two
        // messages for one.
        line.inline_key.store(inline_key(self.published, message.len()), Relaxed);
        fence(Release);
        let mut rest = message;
        // Words behind the message keep what they had: nobody looks at them.
        for shared in &line.inline_words {
            let Some((word, behind)) = rest.split_first_chunk() else { break };
            // ORDERING E1, Relaxed: the Release store of the tail publishes it.
            shared.store(u64::from_ne_bytes(*word), Relaxed);
            rest = behind;
        }
        if !rest.is_empty() {
            // ORDERING E1, Relaxed: as above.
            line.inline_words[message.len() / 8].store(last_word(rest), Relaxed);
        }
    }
}

/// The word of the last bytes of a message, fewer than eight, zeros behind them.
///
/// Made in registers. Bytes put together in memory and loaded as a word would have
/// to reach the cache first, behind every earlier store, and the first of those
/// waits for the inline message's line to come from the consumer's CPU.
#[inline]
fn last_word(bytes: &[u8]) -> u64 {
    let word = match bytes {
        [a, b, c, d, ..] => {
            let first = u32::from_le_bytes([*a, *b, *c, *d]);
            let last = bytes.last_chunk().map_or(0, |last| u32::from_le_bytes(*last));
            u64::from(first) | u64::from(last) << (8 * (bytes.len() - 4))
        }
        [a, .., c] => {
            let middle = u64::from(bytes[1]) << 8;
            u64::from(*a) | middle | u64::from(*c) << (8 * (bytes.len() - 1))
        }
        [a] => u64::from(*a),
        [] => 0,
    };
    u64::from_ne_bytes(word.to_le_bytes())
}

/// The bytes of `sources`, which fit inline, and how many they are.
fn gather<S: Deref<Target = [u8]>>(sources: &[S]) -> ([u8; INLINE_BYTES], usize) {
    let mut message = [0; INLINE_BYTES];
    let mut length = 0;
    for source in sources {
        message[length..][..source.len()].copy_from_slice(source);
        length += source.len();
    }
    (message, length)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::last_word;

    #[test]
    fn the_last_word_is_the_last_bytes_and_zeros() {
        let bytes = [0x81, 0x92, 0xA3, 0xB4, 0xC5, 0xD6, 0xE7];
        for length in 0..=bytes.len() {
            let mut expected = [0; 8];
            expected[..length].copy_from_slice(&bytes[..length]);
            assert_eq!(last_word(&bytes[..length]).to_ne_bytes(), expected);
        }
    }
}
