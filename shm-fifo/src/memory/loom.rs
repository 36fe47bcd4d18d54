//! Copies of cells that loom watches.
//!
//! The bytes are not atomics here but cells that must never be accessed by two
//! threads at once: between two honest ends no byte is, and loom reports every
//! execution in which one would be. That is more than comparing the bytes shows.

use loom::cell::UnsafeCell;

/// A byte of the ring.
#[derive(Debug)]
pub(crate) struct Byte(UnsafeCell<u8>);

// SAFETY: loom stops an execution in which two threads access the cell at once.
unsafe impl Sync for Byte {}

impl Byte {
    pub(crate) fn new(value: u8) -> Self {
        Self(UnsafeCell::new(value))
    }
}

/// Copies `source` to `ring` and the cells behind it.
///
/// # Safety
/// There are `source.len()` cells at `ring`.
pub(super) unsafe fn copy_in(ring: *const Byte, source: &[u8]) {
    for (offset, byte) in source.iter().enumerate() {
        // SAFETY: below the length, in the caller's range.
        let cell = unsafe { &(*ring.add(offset)).0 };
        // SAFETY: loom has checked that nobody else accesses the cell.
        cell.with_mut(|shared| unsafe { *shared = *byte });
    }
}

/// Copies `ring` and the cells behind it to `target`.
///
/// # Safety
/// There are `target.len()` cells at `ring`.
pub(super) unsafe fn copy_out(target: &mut [u8], ring: *const Byte) {
    for (offset, byte) in target.iter_mut().enumerate() {
        // SAFETY: below the length, in the caller's range.
        let cell = unsafe { &(*ring.add(offset)).0 };
        // SAFETY: loom has checked that nobody writes to the cell.
        *byte = cell.with(|shared| unsafe { *shared });
    }
}

/// Copies `length` cells from one ring to another.
///
/// # Safety
/// There are `length` cells at `source` and at `target`.
pub(super) unsafe fn copy_between(target: *const Byte, source: *const Byte, length: usize) {
    for offset in 0..length {
        let mut byte = [0];
        // SAFETY: below the length, in the caller's range.
        unsafe { copy_out(&mut byte, source.add(offset)) };
        // SAFETY: as above.
        unsafe { copy_in(target.add(offset), &byte) };
    }
}

/// A hint that changes nothing: see `x86_64.rs`.
pub(crate) const fn prefetch_to_write<T>(_word: &T) {}

/// As above.
pub(super) const fn prefetch_to_read(_byte: *const Byte) {}
