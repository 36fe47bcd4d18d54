//! The shared header of one FIFO, byte for byte as in `docs/layout.md`.
//!
//! Each of the four groups of words has one writer and a pair of cache lines
//! of its own (x86-64 prefetches lines in pairs), so that a side which writes
//! often never disturbs a word that the other side only watches. They are 128 bytes
//! on every machine, however long its cache lines are: this is an interface.

use crate::sync::{AtomicU32, AtomicU64, Reserved, reserved};

/// Bytes of one [`FifoHeader`].
pub const FIFO_HEADER_BYTES: usize = 512;

/// The longest message that travels inside the producer's line.
pub const INLINE_BYTES: usize = INLINE_WORDS * 8;

/// loom tries all orders of all accesses: there two words stand for many.
pub(crate) const INLINE_WORDS: usize = if cfg!(loom) { 2 } else { 6 };

/// Which message is inline: where it starts and how long it is, in one word. None has no
/// length, so a zeroed header has none.
#[inline]
#[allow(clippy::cast_lossless, reason = "`From` is not const")]
pub(crate) const fn inline_key(position: u64, length: usize) -> u64 {
    // Of the position the lowest 58 bits: who reads compares with what is next.
    position << LENGTH_BITS | length as u64
}

const LENGTH_BITS: u32 = 6;
static_assertions::const_assert!(INLINE_BYTES < 1 << LENGTH_BITS);

/// What the producer writes with every message.
///
/// The first 64 bytes are one cache line: tail and inline message reach the consumer
/// in a single transfer.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct TailLine {
    /// Which message is inline: its [`inline_key`].
    pub(crate) inline_key: AtomicU64,
    /// A copy of the last message, if it had at most [`INLINE_BYTES`].
    pub(crate) inline_words: [AtomicU64; INLINE_WORDS],
    /// The producer's position.
    pub(crate) tail: AtomicU64,
    /// Not 0 once the producer has ended.
    pub(crate) closed: AtomicU32,
    /// Not 0 once the producer leaves the rings for the socket.
    pub(crate) leaves: AtomicU32,
    reserved: Reserved<14>,
}

/// What the consumer writes with every read.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct HeadLine {
    /// The consumer's position.
    pub(crate) head: AtomicU64,
    /// Not 0 once the consumer has ended.
    pub(crate) closed: AtomicU32,
    reserved: Reserved<29>,
}

/// What one side writes when it starts to wait, and its peer watches.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct WaitLine {
    /// Not 0 while this side sleeps or is about to; taken back by either side.
    pub(crate) parked: AtomicU32,
    /// The CPU this side ran on when it last waited, plus one; 0 is unknown.
    pub(crate) cpu: AtomicU32,
    reserved: Reserved<30>,
}

/// The words that the two ends of a FIFO share.
///
/// All of them are atomics: a peer may write any of them at any time. A zeroed
/// header is an empty FIFO whose ends are awake.
#[derive(Debug)]
#[repr(C)]
pub struct FifoHeader {
    pub(crate) producer: TailLine,
    pub(crate) consumer: HeadLine,
    pub(crate) consumer_wait: WaitLine,
    pub(crate) producer_wait: WaitLine,
}

impl FifoHeader {
    /// The header of an empty FIFO.
    #[must_use]
    pub fn new() -> Self {
        Self::starting_at(0)
    }

    /// The header of an empty FIFO through which `position` bytes have passed.
    #[must_use]
    pub fn starting_at(position: u64) -> Self {
        Self {
            producer: TailLine {
                inline_key: AtomicU64::new(inline_key(position, 0)),
                inline_words: Default::default(),
                tail: AtomicU64::new(position),
                closed: AtomicU32::new(0),
                leaves: AtomicU32::new(0),
                reserved: reserved(),
            },
            consumer: HeadLine {
                head: AtomicU64::new(position),
                closed: AtomicU32::new(0),
                reserved: reserved(),
            },
            consumer_wait: WaitLine::new(),
            producer_wait: WaitLine::new(),
        }
    }
}

impl Default for FifoHeader {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitLine {
    fn new() -> Self {
        Self { parked: AtomicU32::new(0), cpu: AtomicU32::new(0), reserved: reserved() }
    }
}

#[cfg(not(loom))]
mod assertions {
    use super::{FIFO_HEADER_BYTES, FifoHeader, HeadLine, TailLine, WaitLine};
    use core::mem::offset_of;
    use static_assertions::{assert_eq_size, const_assert_eq};

    assert_eq_size!(TailLine, HeadLine, WaitLine, [u8; 128]);
    const_assert_eq!(size_of::<FifoHeader>(), FIFO_HEADER_BYTES);
    const_assert_eq!(align_of::<FifoHeader>(), 128);

    const_assert_eq!(offset_of!(FifoHeader, producer), 0);
    const_assert_eq!(offset_of!(FifoHeader, consumer), 128);
    const_assert_eq!(offset_of!(FifoHeader, consumer_wait), 256);
    const_assert_eq!(offset_of!(FifoHeader, producer_wait), 384);

    const_assert_eq!(offset_of!(TailLine, inline_key), 0);
    const_assert_eq!(offset_of!(TailLine, inline_words), 8);
    const_assert_eq!(offset_of!(TailLine, tail), 56);
    const_assert_eq!(offset_of!(TailLine, closed), 64);
    const_assert_eq!(offset_of!(TailLine, leaves), 68);
    const_assert_eq!(offset_of!(HeadLine, head), 0);
    const_assert_eq!(offset_of!(HeadLine, closed), 8);
    const_assert_eq!(offset_of!(WaitLine, parked), 0);
    const_assert_eq!(offset_of!(WaitLine, cpu), 4);
}
