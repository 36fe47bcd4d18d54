//! One FIFO: a header and the bytes of its ring, not yet given to its two ends. With what
//! goes with it: its layout, and what its ends say.
#![allow(unsafe_code)]

pub use crate::consumer::ReadGrant;
pub use crate::error::{CapacityError, Corrupt, SharedWord};
pub use crate::layout::{FIFO_HEADER_BYTES, FifoHeader, INLINE_BYTES};
pub use crate::producer::WriteGrant;

use crate::consumer::Consumer;
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
///
/// # Examples
///
/// The header and the ring may lie anywhere in memory that both processes map, the
/// header at a multiple of 128 bytes. Fresh memory of the kernel is zeroed, which is an
/// empty FIFO already.
///
/// ```
/// use shm_fifo::Fifo;
/// use shm_fifo::fifo::{CapacityError, FifoHeader};
///
/// #[repr(C)]
/// struct Shared {
///     header: FifoHeader,
///     ring: [u8; 4096],
/// }
///
/// /// # Safety
/// /// `shared` is mapped during `'m`, and its ring reached through here only.
/// unsafe fn open<'m>(shared: *mut Shared) -> Result<Fifo<'m>, CapacityError> {
///     // SAFETY: mapped; a header is atomics, for which any bytes are valid.
///     let header = unsafe { &(*shared).header };
///     // SAFETY: the caller's contract.
///     unsafe { Fifo::from_raw_parts(header, (&raw mut (*shared).ring).cast(), 4096) }
/// }
///
/// // Here it is the heap that two ends share.
/// let shared = Box::into_raw(Box::new(Shared { header: FifoHeader::new(), ring: [0; 4096] }));
/// // SAFETY: alive until it is freed below, and nobody else has it.
/// let (producing, consuming) = unsafe { (open(shared)?, open(shared)?) };
/// let (mut producer, mut consumer) = (producing.into_producer(0), consuming.into_consumer(0));
///
/// assert_eq!(producer.write(b"hello")?, 5);
/// if producer.needs_notify() {
///     // The consumer sleeps: wake it, by whatever the two agreed on.
/// }
/// let mut received = [0; 16];
/// assert_eq!(consumer.read(&mut received)?, 5);
/// assert_eq!(&received[..5], b"hello");
/// # drop((producer, consumer));
/// # // SAFETY: both ends are gone.
/// # drop(unsafe { Box::from_raw(shared) });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// * `data` is valid for reads and writes of `capacity` bytes during `'m`, apart
    ///   from the header;
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
