//! The atomics of the protocol: `core`'s, or loom's when it model-checks us.

use core::sync::atomic::AtomicU32 as ReservedWord;

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Shared words that nobody looks at: not loom's business either.
pub(crate) type Reserved<const WORDS: usize> = [ReservedWord; WORDS];

/// Reserved words as they must be written.
pub(crate) fn reserved<const WORDS: usize>() -> Reserved<WORDS> {
    core::array::from_fn(|_| ReservedWord::new(0))
}
