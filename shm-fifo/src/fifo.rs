//! One FIFO: a header and the bytes of its ring, not yet given to its two ends.
#![allow(unsafe_code)]

use crate::consumer::Consumer;
use crate::error::CapacityError;
use crate::layout::FifoHeader;
use crate::memory::RingBytes;
use crate::producer::Producer;

/// Smaller rings are of no use. The tests, which try all states that a ring can be
/// in, need some that have few.
const MIN_CAPACITY: usize = if cfg!(any(loom, test)) { 1 } else { 64 };

/// A FIFO in memory that the caller provides.
///
/// Each process that takes part makes its own `Fifo` over its own mapping and
/// turns it into the one end it plays, with [`Fifo::into_producer`] or
/// [`Fifo::into_consumer`]. Nothing enforces that the peer does not play the
/// same end; bytes are then garbled, but memory safety holds.
#[derive(Debug)]
pub struct Fifo<'m> {
    header: &'m FifoHeader,
    bytes: RingBytes<'m>,
}

impl<'m> Fifo<'m> {
    /// A FIFO over `header` and the `capacity` bytes at `data`.
    ///
    /// # Errors
    /// If `capacity` is not a power of two, or below 64 bytes.
    ///
    /// # Safety
    /// * `data` is valid for reads and writes of `capacity` bytes during `'m`;
    /// * during `'m` this process reaches those bytes through FIFOs only.
    ///
    /// The peer may do to the header and the bytes what it likes.
    pub unsafe fn from_raw_parts(
        header: &'m FifoHeader,
        data: *mut u8,
        capacity: usize,
    ) -> Result<Self, CapacityError> {
        if capacity < MIN_CAPACITY || !capacity.is_power_of_two() {
            return Err(CapacityError { capacity });
        }
        // SAFETY: the caller's contract is the same, the capacity was checked.
        let bytes = unsafe { RingBytes::new(data, capacity) };
        Ok(Self { header, bytes })
    }

    /// The writing end, at `position`: 0 in a FIFO made by [`FifoHeader::new`].
    #[must_use]
    pub fn into_producer(self, position: u64) -> Producer<'m> {
        Producer::new(self.header, self.bytes, position)
    }

    /// The reading end, at `position`: 0 in a FIFO made by [`FifoHeader::new`].
    #[must_use]
    pub fn into_consumer(self, position: u64) -> Consumer<'m> {
        Consumer::new(self.header, self.bytes, position)
    }
}
