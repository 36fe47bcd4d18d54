//! The only access to payload bytes that the peer may write at any time.
//!
//! Invariants kept here, which no safe caller can break:
//! * no reference (`&[u8]`, `&mut [u8]`) to shared payload ever exists, only
//!   raw pointers; a copy of a byte is taken once and the copy is used;
//! * every address is `base + (position & mask)` with a private mask, and a
//!   span never crosses the end of the ring.
//!
//! A hostile peer makes copies arbitrary, never undefined: on x86-64 the copies
//! are assembly that the compiler cannot see through, and whose effect is that
//! of a loop of relaxed `AtomicU8` accesses; elsewhere, and for tools that cannot
//! see through assembly either, they are that loop. (The reasoning is that of
//! "How to use storytelling to fit inline assembly into Rust", Ralf Jung, 2026.)
#![allow(unsafe_code)]

// Sanitizers ask for the portable copies with `--cfg portable_copies`. Kernels and
// firmware leave the vector registers alone: there is no sse2 there.
#[cfg_attr(loom, path = "memory/loom.rs")]
#[cfg_attr(
    all(
        not(loom),
        any(not(all(target_arch = "x86_64", target_feature = "sse2")), miri, portable_copies)
    ),
    path = "memory/portable.rs"
)]
#[cfg_attr(
    all(
        not(loom),
        all(target_arch = "x86_64", target_feature = "sse2"),
        not(any(miri, portable_copies))
    ),
    path = "memory/x86_64.rs"
)]
mod copies;

use crate::position::{Position, advance, span};
use copies::{copy_in, copy_out, prefetch_to_read};
use core::marker::PhantomData;
use core::ops::Deref;

pub(crate) use copies::{Byte, prefetch_to_write};

/// What memory travels in between CPUs.
const LINE_BYTES: usize = 64;

/// The bytes of a ring: `capacity` of them, a power of two.
#[derive(Debug)]
pub(crate) struct RingBytes<'m> {
    base: *const Byte,
    mask: usize,
    memory: PhantomData<&'m [Byte]>,
}

// SAFETY: the bytes are reached by copies that tolerate concurrent access from
// any thread or process, and nothing here depends on the thread that calls.
unsafe impl Send for RingBytes<'_> {}

impl RingBytes<'_> {
    /// # Safety
    /// * `base` is valid for reads and writes of `capacity` bytes during `'m`;
    /// * during `'m` nobody in this process reaches them but through this type
    ///   and other atomic or opaque accesses;
    /// * `capacity` is a power of two.
    pub(crate) const unsafe fn new(base: *mut u8, capacity: usize) -> Self {
        Self { base: base.cast(), mask: capacity - 1, memory: PhantomData }
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.mask + 1
    }

    /// Copies `source` into the ring, starting at `position`.
    ///
    /// # Panics
    /// If `source` is longer than the ring.
    #[inline(always)]
    pub(crate) fn copy_in(&self, position: u64, source: &[u8]) {
        let (index, first) = self.first_span(position, source.len());
        if first == source.len() {
            // SAFETY: `index + first <= capacity` by `first_span`, inside the ring;
            // the source is a slice, and the caller's, so apart from the ring.
            unsafe { copy_in(self.base.add(index), source) };
        } else {
            self.copy_in_around_the_end(position, source);
        }
    }

    /// As [`RingBytes::copy_in`], of a source that passes the ring's end.
    #[inline(never)]
    fn copy_in_around_the_end(&self, position: u64, source: &[u8]) {
        let (index, first) = self.first_span(position, source.len());
        let (to_end, from_start) = source.split_at(first);
        // SAFETY: as in `copy_in`.
        unsafe { copy_in(self.base.add(index), to_end) };
        // SAFETY: `first_span` leaves at most `index` bytes, from the start.
        unsafe { copy_in(self.base, from_start) };
    }

    /// Copies bytes of the ring, starting at `position`, until `target` is full.
    ///
    /// # Panics
    /// If `target` is longer than the ring.
    #[inline]
    pub(crate) fn copy_out(&self, position: u64, target: &mut [u8]) {
        let (index, first) = self.first_span(position, target.len());
        if first == target.len() {
            // SAFETY: as in `copy_in`, with the directions exchanged.
            unsafe { copy_out(target, self.base.add(index)) };
        } else {
            let (to_end, from_start) = target.split_at_mut(first);
            // SAFETY: as above.
            unsafe { copy_out(to_end, self.base.add(index)) };
            // SAFETY: as in `copy_in`.
            unsafe { copy_out(from_start, self.base) };
        }
    }

    /// As [`RingBytes::copy_out`], with the lines of the next piece on their way from
    /// the producer's CPU while one is copied. The CPU itself fetches ahead within a
    /// page only.
    ///
    /// # Panics
    /// If `target` is longer than the ring.
    pub(crate) fn copy_out_fetching_ahead(&self, position: u64, target: &mut [u8]) {
        const PIECE_BYTES: usize = if cfg!(loom) { 1 } else { 2048 };
        let length = target.len();
        assert!(length <= self.capacity(), "what is read is never longer than its ring");
        let mut start = 0;
        for piece in target.chunks_mut(PIECE_BYTES) {
            let next = start + PIECE_BYTES;
            // Not further than what is read: the producer writes there.
            for offset in (next..length.min(next + PIECE_BYTES)).step_by(LINE_BYTES) {
                let index = advance(position, offset).masked(self.mask);
                prefetch_to_read(self.base.wrapping_add(index));
            }
            self.copy_out(advance(position, start), piece);
            start = next;
        }
    }

    /// Index of `position`, and how many of `length` bytes fit before the end.
    #[inline]
    fn first_span(&self, position: u64, length: usize) -> (usize, usize) {
        assert!(length <= self.capacity(), "a span is never longer than its ring");
        span(position, length, self.mask)
    }
}

/// Bytes of all `pieces` together.
pub(crate) fn total_bytes<P: Deref<Target = [u8]>>(pieces: &[P]) -> usize {
    // The same slice may be named so often that no counter holds the sum.
    pieces.iter().fold(0, |total, piece| total.saturating_add(piece.len()))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_index_and_length_is_copied_exactly_and_nothing_beside_it() {
        const CAPACITY: usize = 128;
        let lengths = if cfg!(miri) { 0..=20 } else { 0..=CAPACITY };
        for length in lengths {
            for start in (0..CAPACITY as u64).step_by(if cfg!(miri) { 31 } else { 1 }) {
                let mut memory = [0xEE_u8; CAPACITY];
                // SAFETY: the array outlives the ring and is reached through it only.
                let ring = unsafe { RingBytes::new(memory.as_mut_ptr(), CAPACITY) };
                let source: Vec<u8> = (0..=u8::MAX).take(length).collect();
                ring.copy_in(start, &source);
                let mut target = vec![0x55; length];
                ring.copy_out(start, &mut target);
                assert_eq!(source, target, "start {start}, length {length}");
                let untouched = memory.iter().filter(|&&byte| byte == 0xEE).count();
                assert_eq!(untouched, CAPACITY - length, "start {start}, length {length}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "never longer than its ring")]
    fn more_than_a_ring_of_several_pieces_panics() {
        const CAPACITY: usize = 4096;
        let mut memory = [0_u8; CAPACITY];
        // SAFETY: the array outlives the ring and is reached through it only.
        let ring = unsafe { RingBytes::new(memory.as_mut_ptr(), CAPACITY) };
        ring.copy_out_fetching_ahead(0, &mut [0; CAPACITY + 1]);
    }

    #[test]
    fn a_long_copy_is_exact() {
        const CAPACITY: usize = 4096;
        let mut memory = [0_u8; CAPACITY];
        // SAFETY: the array outlives the ring and is reached through it only.
        let ring = unsafe { RingBytes::new(memory.as_mut_ptr(), CAPACITY) };
        for length in [511, 512, 513, 1000, 2047, 2048, 2049, 4095, 4096] {
            let source: Vec<u8> = (0..=250).cycle().take(length).collect();
            let mut target = vec![0; length];
            ring.copy_in(u64::MAX - 100, &source);
            ring.copy_out(u64::MAX - 100, &mut target);
            assert_eq!(source, target);
            target.fill(0);
            ring.copy_out_fetching_ahead(u64::MAX - 100, &mut target);
            assert_eq!(source, target);
        }
    }
}
