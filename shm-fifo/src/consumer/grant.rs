//! What can be read, where it lies: looked at, copied or sent from there, and then given back.

use super::Consumer;
use crate::error::Corrupt;
#[cfg(not(loom))]
use crate::memory::range_length;
use crate::memory::{RingBytes, assert_granted};
use crate::position::advance;
#[cfg(not(loom))]
use core::ops::Range;

impl<'m> Consumer<'m> {
    /// Grants all that can be read now, where it lies: perhaps nothing.
    ///
    /// Bytes of a grant are copied out by [`ReadGrant::read_at`], any of them and as often as
    /// wanted, into a ring by [`WriteGrant::copy_from`](crate::fifo::WriteGrant::copy_from)
    #[cfg_attr(feature = "std", doc = "or by the kernel into a file by [`ReadGrant::write_to`].")]
    #[cfg_attr(not(feature = "std"), doc = "or, with the feature `std`, into a file.")]
    /// Their space is given back by [`ReadGrant::consume`]. A grant that is dropped consumes
    /// nothing.
    ///
    /// The peer may change granted bytes at any moment: what was looked at is what was copied
    /// out, and the next look may see something else. So what has to be checked is checked in
    /// the copy, and the copy is used.
    ///
    /// A message of a few bytes is read sooner by [`Consumer::read`], which finds it beside the
    /// producer's position.
    ///
    /// # Errors
    /// [`Corrupt`] if the producer's position is impossible.
    ///
    /// # Examples
    ///
    /// The length of a message is looked at before there is memory for it:
    ///
    /// ```
    /// # use shm_fifo::{Fifo, fifo::FifoHeader};
    /// # let header = FifoHeader::new();
    /// # let mut ring = [0_u8; 64];
    /// # let ring = ring.as_mut_ptr();
    /// # // SAFETY: both ends use the ring's 64 bytes through FIFOs only, while they live.
    /// # let mut producer = unsafe { Fifo::from_raw_parts(&header, ring, 64) }?.into_producer(0);
    /// # // SAFETY: as above.
    /// # let mut consumer = unsafe { Fifo::from_raw_parts(&header, ring, 64) }?.into_consumer(0);
    /// producer.write(b"\x05hello\x05wor")?;
    ///
    /// let grant = consumer.grant()?;
    /// let mut length = [0];
    /// grant.read_at(0, &mut length);
    /// let whole = 1 + usize::from(length[0]);
    /// if grant.length() >= whole {
    ///     let mut message = vec![0; whole - 1];
    ///     grant.read_at(1, &mut message);
    ///     grant.consume(whole);
    ///     assert_eq!(message, b"hello");
    /// }
    /// assert_eq!(consumer.grant()?.length(), 4, "of the next one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn grant(&mut self) -> Result<ReadGrant<'_, 'm>, Corrupt> {
        let length = self.available_bytes()?;
        Ok(ReadGrant { consumer: self, length })
    }
}

/// An exclusive loan of bytes to read; see [`Consumer::grant`].
#[derive(Debug)]
#[must_use = "what is not consumed is granted again"]
pub struct ReadGrant<'c, 'm> {
    consumer: &'c mut Consumer<'m>,
    length: usize,
}

impl ReadGrant<'_, '_> {
    /// Bytes granted.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Copies granted bytes, from `offset` on, until `target` is full.
    ///
    /// # Panics
    /// If there are fewer between `offset` and the end of the grant.
    pub fn read_at(&self, offset: usize, target: &mut [u8]) {
        let position = self.position_of(offset, target.len());
        self.consumer.bytes.copy_out_fetching_ahead(position, target);
    }

    /// Gives the space of the first `length` bytes back to the producer; the others are
    /// granted again.
    ///
    /// Afterwards [`Consumer::needs_notify`] says whether the producer sleeps.
    ///
    /// # Panics
    /// If `length` is more than was granted.
    pub fn consume(self, length: usize) {
        assert!(length <= self.length, "{length} bytes of a grant of {}", self.length);
        self.consumer.release(length);
    }

    /// The granted bytes, where they lie: those up to the ring's end, and those from its start.
    ///
    /// # Safety
    /// While the slices live nobody writes these bytes, or gives their memory back. The crate's
    /// own producers and `shm_fifo.h` do not. Whoever discards a region does (`Endpoint::discard`,
    /// and a virtual descriptor that is closed), and a peer that is broken or hostile can. So this
    /// is for peers that are trusted as a thread of this process is: their memory errors become
    /// this process's.
    ///
    /// What was read from the slices is no more to be believed than any message.
    #[cfg(not(loom))]
    #[must_use]
    #[allow(unsafe_code)]
    pub unsafe fn as_slices(&self) -> (&[u8], &[u8]) {
        let [first, second] = self.parts(0..self.length);
        // SAFETY:
        // * the part lies in the ring, which is readable for longer than the grant lives;
        // * it was written before the tail that was loaded (Acquire): it is initialized;
        // * nobody writes it: the peer by the caller's contract, this process because the
        //   grant, which is borrowed, has the consumer, so its space is not given back.
        let first = unsafe { &*first };
        // SAFETY: as above.
        (first, unsafe { &*second })
    }

    /// Where these of the granted bytes lie.
    #[cfg(not(loom))]
    pub(crate) fn parts(&self, range: Range<usize>) -> [*const [u8]; 2] {
        let length = range_length(&range);
        let position = self.position_of(range.start, length);
        self.consumer.bytes.parts(position, length).map(<*mut [u8]>::cast_const)
    }

    /// The ring, and where these of the granted bytes are in it.
    pub(crate) fn place(&self, offset: usize, length: usize) -> (&RingBytes<'_>, u64) {
        (&self.consumer.bytes, self.position_of(offset, length))
    }

    fn position_of(&self, offset: usize, length: usize) -> u64 {
        assert_granted(self.length, offset, length);
        advance(self.consumer.head, offset)
    }
}
