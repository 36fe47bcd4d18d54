//! Copies in assembly, which the compiler cannot see through.
//!
//! The effect of each block is that of a loop of relaxed accesses to single
//! bytes, as in `portable.rs`; only the speed differs.

use super::LINE_BYTES;
use core::arch::asm;
use core::sync::atomic::AtomicU8;

/// A byte of the ring.
pub(crate) type Byte = AtomicU8;

/// Copies `source` to `ring` and the bytes behind it.
///
/// # Safety
/// `ring` is valid for writes of `source.len()` bytes, which are apart from
/// `source`.
#[inline]
pub(super) unsafe fn copy_in(ring: *const Byte, source: &[u8]) {
    // SAFETY: the caller's contract; `source` is valid for reads.
    unsafe {
        copy::<REP_MOVSB_IN_FROM_BYTES>(ring.cast_mut().cast(), source.as_ptr(), source.len())
    };
}

/// Copies `length` bytes from one ring to another. If they overlap, the bytes are arbitrary.
///
/// # Safety
/// `source` is valid for reads and `target` for writes of `length` bytes.
#[inline]
pub(super) unsafe fn copy_between(target: *const Byte, source: *const Byte, length: usize) {
    // SAFETY: the caller's contract.
    unsafe { copy::<REP_MOVSB_IN_FROM_BYTES>(target.cast_mut().cast(), source.cast(), length) };
}

/// Later than when reading: the lines have to come from the consumer's CPU, and for
/// those of 1 KiB single stores ask sooner.
const REP_MOVSB_IN_FROM_BYTES: usize = 2048;

/// Copies `ring` and the bytes behind it to `target`.
///
/// # Safety
/// `ring` is valid for reads of `target.len()` bytes, which are apart from
/// `target`.
#[inline]
pub(super) unsafe fn copy_out(target: &mut [u8], ring: *const Byte) {
    const REP_MOVSB_FROM_BYTES: usize = 512;
    // SAFETY: the caller's contract; `target` is valid for writes.
    unsafe { copy::<REP_MOVSB_FROM_BYTES>(target.as_mut_ptr(), ring.cast(), target.len()) };
}

/// Brings the cache line of `word` here, to be written soon.
#[inline]
pub(crate) fn prefetch_to_write<T>(word: &T) {
    // SAFETY: a prefetch changes nothing and never faults; x86-64 CPUs that do not
    // know the instruction skip it.
    unsafe {
        asm!("prefetchw [{word}]", word = in(reg) word,
            options(nostack, preserves_flags, readonly));
    }
}

/// Brings the cache line at `byte` here, to be read soon. Into the second level: the
/// first has too few lines on their way at a time.
#[inline]
pub(super) fn prefetch_to_read(byte: *const Byte) {
    // SAFETY: a prefetch changes nothing and never faults.
    unsafe {
        asm!("prefetcht1 [{byte}]", byte = in(reg) byte,
            options(nostack, preserves_flags, readonly));
    }
}

/// Copies `length` bytes; either side may be shared with another process.
///
/// From `REP_MOVSB_FROM_BYTES` on by the microcoded copy, whose start-up loses below it.
///
/// # Safety
/// `target` is valid for writes and `source` for reads of `length` bytes. (If they overlap,
/// it is not said which of the bytes are copied twice.)
#[inline]
unsafe fn copy<const REP_MOVSB_FROM_BYTES: usize>(
    target: *mut u8,
    source: *const u8,
    length: usize,
) {
    // SAFETY: the caller's contract, for the same range.
    unsafe {
        match length {
            0 => {}
            1..4 => copy_tiny(target, source, length),
            4..8 => copy_overlapping::<4>(target, source, length),
            8..16 => copy_overlapping::<8>(target, source, length),
            _ if length < REP_MOVSB_FROM_BYTES => copy_by_16(target, source, length),
            _ if is_close_behind(target, source) => copy_by_16(target, source, length),
            _ => copy_rep_movsb(target, source, length),
        }
    }
}

/// Whether `target` lies less than a cache line behind `source`, as far as the
/// addresses within a page tell: AMD's microcoded copy then takes each load for one
/// of a byte just stored, and is 17 times as slow.
#[inline]
fn is_close_behind(target: *const u8, source: *const u8) -> bool {
    const PAGE_BYTES: usize = 4096;
    (1..LINE_BYTES).contains(&(target.addr().wrapping_sub(source.addr()) % PAGE_BYTES))
}

/// # Safety
/// As for [`copy`], with `1 <= length < 4`.
#[inline]
unsafe fn copy_tiny(target: *mut u8, source: *const u8, length: usize) {
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
/// As for [`copy`], with `WORD <= length <= 2 * WORD`.
#[inline]
unsafe fn copy_overlapping<const WORD: usize>(target: *mut u8, source: *const u8, length: usize) {
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
/// As for [`copy`], with `16 <= length`.
#[inline]
unsafe fn copy_by_16(target: *mut u8, source: *const u8, length: usize) {
    let mut offset = 0;
    while offset + 64 <= length {
        // SAFETY: `offset + 64 <= length`.
        let (target, source) = unsafe { (target.add(offset), source.add(offset)) };
        // SAFETY: 64 bytes within the caller's ranges; this module needs SSE2.
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
/// As for [`copy`], with a length of 16.
#[inline]
unsafe fn copy_16(target: *mut u8, source: *const u8) {
    // SAFETY: the caller's contract; this module needs SSE2.
    unsafe {
        asm!("movups {x}, [{source}]", "movups [{target}], {x}",
            x = out(xmm_reg) _, source = in(reg) source, target = in(reg) target,
            options(nostack, preserves_flags));
    }
}

/// # Safety
/// As for [`copy`].
#[inline]
unsafe fn copy_rep_movsb(target: *mut u8, source: *const u8, length: usize) {
    // SAFETY: the caller's contract; the ABI keeps the direction flag clear.
    unsafe {
        asm!("rep movsb", inout("rcx") length => _, inout("rdi") target => _,
            inout("rsi") source => _, options(nostack, preserves_flags));
    }
}
