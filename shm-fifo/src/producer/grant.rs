//! Space reserved for a message that is not written front to back.

use super::Producer;
use crate::error::Corrupt;
use crate::position::advance;

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
        let fits = offset <= self.length && source.len() <= self.length - offset;
        assert!(fits, "{} bytes at {offset} leave a grant of {}", source.len(), self.length);
        let start = self.producer.position();
        self.producer.bytes.copy_in(advance(start, offset), source);
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
