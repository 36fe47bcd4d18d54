//! Copies byte by byte, with relaxed atomics: what every copy of the ring means.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// A byte of the ring.
pub(crate) type Byte = AtomicU8;

/// Copies `source` to `ring` and the bytes behind it.
///
/// # Safety
/// `ring` is valid for writes of `source.len()` bytes.
pub(super) unsafe fn copy_in(ring: *const Byte, source: &[u8]) {
    for (offset, byte) in source.iter().enumerate() {
        // SAFETY: below the length, in the caller's range.
        let shared = unsafe { &*ring.add(offset) };
        // ORDERING E1, Relaxed: the Release store of the tail publishes it.
        shared.store(*byte, Relaxed);
    }
}

/// Copies `ring` and the bytes behind it to `target`.
///
/// # Safety
/// `ring` is valid for reads of `target.len()` bytes.
pub(super) unsafe fn copy_out(target: &mut [u8], ring: *const Byte) {
    for (offset, byte) in target.iter_mut().enumerate() {
        // SAFETY: below the length, in the caller's range.
        let shared = unsafe { &*ring.add(offset) };
        // ORDERING E1, Relaxed: the Acquire load of the tail came before.
        *byte = shared.load(Relaxed);
    }
}

/// Copies `length` bytes from one ring to another.
///
/// # Safety
/// `source` is valid for reads and `target` for writes of `length` bytes.
pub(super) unsafe fn copy_between(target: *const Byte, source: *const Byte, length: usize) {
    for offset in 0..length {
        // SAFETY: below the length, in the caller's ranges.
        let (target, source) = unsafe { (&*target.add(offset), &*source.add(offset)) };
        // ORDERING E1, Relaxed: as in `copy_out` and `copy_in`.
        target.store(source.load(Relaxed), Relaxed);
    }
}

/// A hint that changes nothing: see `x86_64.rs`.
pub(crate) const fn prefetch_to_write<T>(_word: &T) {}

/// As above.
pub(super) const fn prefetch_to_read(_byte: *const Byte) {}
