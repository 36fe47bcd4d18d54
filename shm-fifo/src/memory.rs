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
//! of a loop of relaxed `AtomicU8` accesses; elsewhere, and under Miri and loom,
//! they are that loop. (The reasoning is that of "How to use storytelling to fit
//! inline assembly into Rust", Ralf Jung, 2026.)
#![allow(unsafe_code)]

use core::marker::PhantomData;

/// The bytes of a ring: `capacity` of them, a power of two.
#[derive(Debug)]
pub(crate) struct RingBytes<'m> {
    base: *mut u8,
    mask: usize,
    memory: PhantomData<&'m [core::sync::atomic::AtomicU8]>,
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
        Self { base, mask: capacity - 1, memory: PhantomData }
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.mask + 1
    }

    /// Copies `source` into the ring, starting at `position`.
    ///
    /// # Panics
    /// If `source` is longer than the ring.
    pub(crate) fn copy_in(&self, position: u64, source: &[u8]) {
        let (index, first) = self.first_span(position, source.len());
        let (to_end, from_start) = source.split_at(first);
        // SAFETY: `index + first <= capacity` by `first_span`, inside the ring;
        // the source is a slice, and the caller's, so apart from the ring.
        unsafe { copy(self.base.add(index), to_end.as_ptr(), to_end.len()) };
        if !from_start.is_empty() {
            // SAFETY: `first_span` leaves at most `index` bytes, from the start.
            unsafe { copy(self.base, from_start.as_ptr(), from_start.len()) };
        }
    }

    /// Copies bytes of the ring, starting at `position`, until `target` is full.
    ///
    /// # Panics
    /// If `target` is longer than the ring.
    pub(crate) fn copy_out(&self, position: u64, target: &mut [u8]) {
        let (index, first) = self.first_span(position, target.len());
        let (to_end, from_start) = target.split_at_mut(first);
        // SAFETY: as in `copy_in`, with the directions exchanged.
        unsafe { copy(to_end.as_mut_ptr(), self.base.add(index), to_end.len()) };
        if !from_start.is_empty() {
            // SAFETY: as in `copy_in`.
            unsafe { copy(from_start.as_mut_ptr(), self.base, from_start.len()) };
        }
    }

    /// Index of `position`, and how many of `length` bytes fit before the end.
    fn first_span(&self, position: u64, length: usize) -> (usize, usize) {
        assert!(length <= self.capacity(), "a span is never longer than its ring");
        #[allow(clippy::cast_possible_truncation, reason = "the mask keeps the low bits anyway")]
        let index = position as usize & self.mask;
        (index, length.min(self.capacity() - index))
    }
}

/// Copies `length` bytes; either side may be shared with another process.
///
/// # Safety
/// `target` is valid for writes and `source` for reads of `length` bytes, and
/// the two do not overlap.
#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
#[inline]
unsafe fn copy(target: *mut u8, source: *const u8, length: usize) {
    /// Above this the microcoded copy wins, below it its start-up loses.
    const REP_MOVSB_FROM_BYTES: usize = 512;
    // SAFETY: the caller's contract, for the same range.
    unsafe {
        match length {
            0 => {}
            1..4 => copy_tiny(target, source, length),
            4..8 => copy_overlapping::<4>(target, source, length),
            8..16 => copy_overlapping::<8>(target, source, length),
            16..REP_MOVSB_FROM_BYTES => copy_by_16(target, source, length),
            _ => copy_rep_movsb(target, source, length),
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
mod x86_64 {
    use core::arch::asm;

    /// # Safety
    /// As for [`super::copy`], with `1 <= length < 4`.
    #[inline]
    pub(super) unsafe fn copy_tiny(target: *mut u8, source: *const u8, length: usize) {
        for offset in [0, length / 2, length - 1] {
            // SAFETY: each offset is below `length`.
            let (target, source) = unsafe { (target.add(offset), source.add(offset)) };
            // SAFETY: one byte within the caller's ranges.
            unsafe {
                asm!("mov {byte}, [{source}]", "mov [{target}], {byte}",
                    byte = out(reg_byte) _, source = in(reg) source, target = in(reg) target,
                    options(nostack, preserves_flags));
            }
        }
    }

    /// Copies the first and the last `WORD` bytes, which overlap or touch.
    ///
    /// # Safety
    /// As for [`super::copy`], with `WORD <= length <= 2 * WORD`.
    #[inline]
    pub(super) unsafe fn copy_overlapping<const WORD: usize>(
        target: *mut u8,
        source: *const u8,
        length: usize,
    ) {
        for offset in [0, length - WORD] {
            // SAFETY: `offset + WORD <= length`.
            let (target, source) = unsafe { (target.add(offset), source.add(offset)) };
            // SAFETY: `WORD` bytes within the caller's ranges.
            unsafe {
                if WORD == 8 {
                    asm!("mov {word}, [{source}]", "mov [{target}], {word}",
                        word = out(reg) _, source = in(reg) source, target = in(reg) target,
                        options(nostack, preserves_flags));
                } else {
                    asm!("mov {word:e}, [{source}]", "mov [{target}], {word:e}",
                        word = out(reg) _, source = in(reg) source, target = in(reg) target,
                        options(nostack, preserves_flags));
                }
            }
        }
    }

    /// # Safety
    /// As for [`super::copy`], with `16 <= length`.
    #[inline]
    pub(super) unsafe fn copy_by_16(target: *mut u8, source: *const u8, length: usize) {
        let mut offset = 0;
        while offset + 64 <= length {
            // SAFETY: `offset + 64 <= length`.
            let (target, source) = unsafe { (target.add(offset), source.add(offset)) };
            // SAFETY: 64 bytes within the caller's ranges; SSE2 is in every x86-64.
            unsafe {
                asm!("movups {a}, [{source}]", "movups {b}, [{source} + 16]",
                    "movups {c}, [{source} + 32]", "movups {d}, [{source} + 48]",
                    "movups [{target}], {a}", "movups [{target} + 16], {b}",
                    "movups [{target} + 32], {c}", "movups [{target} + 48], {d}",
                    a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _,
                    d = out(xmm_reg) _, source = in(reg) source, target = in(reg) target,
                    options(nostack, preserves_flags));
            }
            offset += 64;
        }
        while offset + 16 <= length {
            // SAFETY: `offset + 16 <= length`.
            unsafe { copy_16(target.add(offset), source.add(offset)) };
            offset += 16;
        }
        if offset < length {
            // SAFETY: the last 16 bytes, of at least 16; they may repeat some.
            unsafe { copy_16(target.add(length - 16), source.add(length - 16)) };
        }
    }

    /// # Safety
    /// As for [`super::copy`], with a length of 16.
    #[inline]
    unsafe fn copy_16(target: *mut u8, source: *const u8) {
        // SAFETY: the caller's contract; SSE2 is in every x86-64.
        unsafe {
            asm!("movups {x}, [{source}]", "movups [{target}], {x}",
                x = out(xmm_reg) _, source = in(reg) source, target = in(reg) target,
                options(nostack, preserves_flags));
        }
    }

    /// # Safety
    /// As for [`super::copy`].
    #[inline]
    pub(super) unsafe fn copy_rep_movsb(target: *mut u8, source: *const u8, length: usize) {
        // SAFETY: the caller's contract; the ABI keeps the direction flag clear.
        unsafe {
            asm!("rep movsb", inout("rcx") length => _, inout("rdi") target => _,
                inout("rsi") source => _, options(nostack, preserves_flags));
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
use x86_64::{copy_by_16, copy_overlapping, copy_rep_movsb, copy_tiny};

/// Copies `length` bytes; either side may be shared with another process.
///
/// # Safety
/// `target` is valid for writes and `source` for reads of `length` bytes, and
/// the two do not overlap.
#[cfg(not(all(target_arch = "x86_64", not(any(miri, loom)))))]
unsafe fn copy(target: *mut u8, source: *const u8, length: usize) {
    use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
    for offset in 0..length {
        // SAFETY: below `length`, in the caller's ranges; a byte is aligned. The
        // source may be plain memory behind a `*const`: it is only loaded from.
        let byte = unsafe { AtomicU8::from_ptr(source.add(offset).cast_mut()) }.load(Relaxed);
        // SAFETY: as above, for the target.
        unsafe { AtomicU8::from_ptr(target.add(offset)) }.store(byte, Relaxed);
    }
}

#[cfg(test)]
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
    fn a_long_copy_is_exact() {
        const CAPACITY: usize = 4096;
        let mut memory = [0_u8; CAPACITY];
        // SAFETY: the array outlives the ring and is reached through it only.
        let ring = unsafe { RingBytes::new(memory.as_mut_ptr(), CAPACITY) };
        for length in [511, 512, 513, 1000, 4095, 4096] {
            let source: Vec<u8> = (0..=250).cycle().take(length).collect();
            let mut target = vec![0; length];
            ring.copy_in(u64::MAX - 100, &source);
            ring.copy_out(u64::MAX - 100, &mut target);
            assert_eq!(source, target);
        }
    }
}
