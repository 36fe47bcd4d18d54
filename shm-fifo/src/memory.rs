//! The only access to payload bytes that the peer may write at any time.
//!
//! Invariants kept here, which no safe caller can break:
//! * no reference (`&[u8]`, `&mut [u8]`) to shared payload ever exists, only
//!   raw pointers; a copy of a byte is taken once and the copy is used. (Who trusts
//!   the peer makes slices of the parts of a grant, by code that is `unsafe` itself);
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
use copies::{copy_between, copy_in, copy_out, prefetch_to_read};
use core::marker::PhantomData;
use core::ops::{Deref, Range};
#[cfg(not(loom))]
use core::ptr;

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

    /// Copies `length` bytes of `source`, starting at `from`, to `position` on. Where both are
    /// the same memory and overlap, as ends do that a peer has lied to, the bytes are arbitrary.
    ///
    /// # Panics
    /// If `length` is more than either ring has.
    pub(crate) fn copy_from(
        &self,
        position: u64,
        source: &RingBytes<'_>,
        from: u64,
        length: usize,
    ) {
        let mut done = 0;
        while done < length {
            let (index, fits) = self.first_span(advance(position, done), length - done);
            let (source_index, piece) = source.first_span(advance(from, done), fits);
            // SAFETY: `piece` bytes from either index on lie in its ring, by `first_span`.
            unsafe { copy_between(self.base.add(index), source.base.add(source_index), piece) };
            done += piece;
        }
    }

    /// Where `length` bytes from `position` on lie: up to the ring's end, and from its start.
    ///
    /// # Panics
    /// If `length` is more than the ring has.
    #[cfg(not(loom))]
    pub(crate) fn parts(&self, position: u64, length: usize) -> [*mut [u8]; 2] {
        let (index, first) = self.first_span(position, length);
        let base = self.base.cast_mut().cast::<u8>();
        [
            ptr::slice_from_raw_parts_mut(base.wrapping_add(index), first),
            ptr::slice_from_raw_parts_mut(base, length - first),
        ]
    }

    /// Index of `position`, and how many of `length` bytes fit before the end.
    #[inline]
    fn first_span(&self, position: u64, length: usize) -> (usize, usize) {
        assert!(length <= self.capacity(), "a span is never longer than its ring");
        span(position, length, self.mask)
    }
}

/// Panics unless `length` bytes at `offset` are some of those granted.
pub(crate) fn assert_granted(granted: usize, offset: usize, length: usize) {
    let fits = offset <= granted && length <= granted - offset;
    assert!(fits, "{length} bytes at {offset} leave a grant of {granted}");
}

/// Bytes of a `range` of a grant.
pub(crate) fn range_length(range: &Range<usize>) -> usize {
    let Range { start, end } = *range;
    assert!(start <= end, "a range of bytes that ends before it begins: {start}..{end}");
    end - start
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
    fn every_way_from_ring_to_ring_is_exact_and_nothing_beside_it() {
        const SMALL: usize = 8;
        const LARGE: usize = 16;
        let places = (0..LARGE * SMALL).map(|both| ((both / SMALL) as u64, (both % SMALL) as u64));
        for (from, to) in places.step_by(if cfg!(miri) { 11 } else { 1 }) {
            for length in 0..=SMALL {
                let (mut near, mut far) = ([0xEE_u8; SMALL], [0x55_u8; LARGE]);
                // SAFETY: the array outlives the ring and is reached through it only.
                let near_ring = unsafe { RingBytes::new(near.as_mut_ptr(), SMALL) };
                // SAFETY: as above.
                let far_ring = unsafe { RingBytes::new(far.as_mut_ptr(), LARGE) };
                let message = &[1, 2, 3, 4, 5, 6, 7, 8][..length];
                far_ring.copy_in(from, message);
                near_ring.copy_from(to, &far_ring, from, length);
                let mut target = [0; SMALL];
                near_ring.copy_out(to, &mut target[..length]);
                assert_eq!(&target[..length], message, "{from} to {to}");
                let untouched = near.iter().filter(|&&byte| byte == 0xEE).count();
                assert_eq!(untouched, SMALL - length, "{from} to {to}");
            }
        }
    }

    #[test]
    fn a_ring_that_is_copied_onto_itself_stays_within_its_memory() {
        const CAPACITY: usize = 128;
        for distance in [0, 1, 7, 63, 64, 127] {
            let mut memory = [7_u8; CAPACITY];
            // SAFETY: the array outlives the ring and is reached through it only.
            let ring = unsafe { RingBytes::new(memory.as_mut_ptr(), CAPACITY) };
            ring.copy_from(distance, &ring, 0, CAPACITY);
            assert_eq!(memory, [7; CAPACITY]);
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
