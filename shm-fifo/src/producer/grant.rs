//! Space reserved for a message that is not written front to back, or not by a copy.

use super::Producer;
use crate::consumer::ReadGrant;
use crate::error::Corrupt;
use crate::memory::{assert_granted, range_length};
use crate::position::advance;
#[cfg(not(loom))]
use core::mem::MaybeUninit;
use core::ops::Range;

impl<'m> Producer<'m> {
    /// Reserves `length` bytes of space, or nothing if there is less: `None`.
    ///
    /// What is granted is written by [`WriteGrant::write_at`], in any order, and
    /// shown to the consumer by [`WriteGrant::commit`], all at once however long
    /// it is. A grant that is dropped publishes nothing.
    ///
    /// A grant hands out no slice: a peer could write to the same memory. Bytes
    /// are copied in, by code that tolerates that.
    ///
    /// Who is refused waits for as much space ([`Producer::watch_for`]).
    ///
    /// # Errors
    /// [`Corrupt`] if the consumer's position is impossible.
    ///
    /// # Examples
    ///
    /// A frame whose length is known only after its text:
    ///
    /// ```
    /// use shm_fifo::{Fifo, fifo::FifoHeader};
    ///
    /// let header = FifoHeader::new();
    /// let mut ring = [0_u8; 64];
    /// let ring = ring.as_mut_ptr();
    /// // SAFETY: both ends use the ring's 64 bytes through FIFOs only, while they live.
    /// let mut producer = unsafe { Fifo::from_raw_parts(&header, ring, 64) }?.into_producer(0);
    /// // SAFETY: as above.
    /// let mut consumer = unsafe { Fifo::from_raw_parts(&header, ring, 64) }?.into_consumer(0);
    ///
    /// let mut frame = producer.grant(32)?.ok_or("no space")?;
    /// let mut length = 4;
    /// for word in ["shared", " ", "memory"] {
    ///     frame.write_at(length, word.as_bytes());
    ///     length += word.len();
    /// }
    /// frame.write_at(0, &u32::try_from(length - 4)?.to_le_bytes());
    /// frame.commit(length);
    ///
    /// let mut received = [0; 32];
    /// assert_eq!(consumer.read(&mut received)?, 17);
    /// assert_eq!(&received[..17], b"\x0d\0\0\0shared memory");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn grant(&mut self, length: usize) -> Result<Option<WriteGrant<'_, 'm>>, Corrupt> {
        let fits = self.free_for(length)? >= length;
        Ok(fits.then_some(WriteGrant { producer: self, length }))
    }

    /// As [`Producer::grant`], of what there is of `length` bytes of space: perhaps none.
    ///
    /// # Errors
    /// [`Corrupt`] if the consumer's position is impossible.
    pub fn grant_up_to(&mut self, length: usize) -> Result<WriteGrant<'_, 'm>, Corrupt> {
        let length = self.free_for(length)?.min(length);
        Ok(WriteGrant { producer: self, length })
    }
}

/// An exclusive loan of free bytes; see [`Producer::grant`].
#[derive(Debug)]
#[must_use = "what is not committed is not published"]
pub struct WriteGrant<'p, 'm> {
    producer: &'p mut Producer<'m>,
    length: usize,
}

impl WriteGrant<'_, '_> {
    /// Bytes granted.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Copies `source` to the granted bytes from `offset` on. What was written
    /// there before is replaced.
    ///
    /// # Panics
    /// If `source` does not fit between `offset` and the end of the grant.
    pub fn write_at(&mut self, offset: usize, source: &[u8]) {
        assert_granted(self.length, offset, source.len());
        let start = self.producer.position();
        self.producer.bytes.copy_in(advance(start, offset), source);
    }

    /// Copies these bytes of `source`, which are to be read from another FIFO, to the granted
    /// ones from `offset` on: once, from ring to ring.
    ///
    /// # Panics
    /// If they do not fit between `offset` and the end of the grant, or `source` has not so
    /// many.
    ///
    /// # Examples
    ///
    /// What comes from one peer goes to another, as much as there is space for:
    ///
    /// ```
    /// use shm_fifo::{Consumer, Producer, fifo::Corrupt};
    ///
    /// fn forward(from: &mut Consumer<'_>, to: &mut Producer<'_>) -> Result<usize, Corrupt> {
    ///     let arrived = from.grant()?;
    ///     let mut space = to.grant_up_to(arrived.length())?;
    ///     let length = space.length();
    ///     space.copy_from(0, &arrived, 0..length);
    ///     space.commit(length);
    ///     arrived.consume(length);
    ///     Ok(length)
    /// }
    /// ```
    pub fn copy_from(&mut self, offset: usize, source: &ReadGrant<'_, '_>, range: Range<usize>) {
        let length = range_length(&range);
        let (ring, from) = source.place(range.start, length);
        assert_granted(self.length, offset, length);
        let start = self.producer.position();
        self.producer.bytes.copy_from(advance(start, offset), ring, from, length);
    }

    /// The granted bytes, where they lie: those up to the ring's end, and those from its start.
    ///
    /// # Safety
    /// While the slices live nobody reads or writes these bytes, or gives their memory back. The
    /// crate's own consumers and `shm_fifo.h` do not. Whoever discards a region does
    /// (`Endpoint::discard`, and a virtual descriptor that is closed), and a peer that is broken or
    /// hostile can. So this is for peers that are trusted as a thread of this process is.
    #[cfg(not(loom))]
    #[must_use]
    #[allow(unsafe_code)]
    pub unsafe fn as_mut_slices(&mut self) -> (&mut [MaybeUninit<u8>], &mut [MaybeUninit<u8>]) {
        let [first, second] = self.parts(0..self.length);
        // SAFETY:
        // * the part lies in the ring, which is readable and writable for longer than the grant
        //   lives; any bytes are valid for the type;
        // * nobody else accesses it: the peer by the caller's contract, this process because the
        //   grant, which is borrowed, has the producer. The two parts are apart.
        let first = unsafe { &mut *(first as *mut [MaybeUninit<u8>]) };
        // SAFETY: as above.
        (first, unsafe { &mut *(second as *mut [MaybeUninit<u8>]) })
    }

    /// Where these of the granted bytes lie.
    #[cfg(not(loom))]
    pub(crate) fn parts(&mut self, range: Range<usize>) -> [*mut [u8]; 2] {
        let length = range_length(&range);
        assert_granted(self.length, range.start, length);
        let start = advance(self.producer.position(), range.start);
        self.producer.bytes.parts(start, length)
    }

    /// Publishes the first `length` bytes, behind whatever was staged before, and
    /// gives the others back. Bytes never written are what the ring held there.
    ///
    /// Afterwards [`Producer::needs_notify`] says whether the consumer sleeps.
    ///
    /// # Panics
    /// If `length` is more than was granted.
    pub fn commit(self, length: usize) {
        assert!(length <= self.length, "{length} bytes of a grant of {}", self.length);
        self.producer.staged += length;
        self.producer.publish();
    }
}
