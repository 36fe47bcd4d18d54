//! Grants by slices, as between ends that trust each other: those of a test do.
#![allow(unsafe_code)]

use crate::fifo::{ReadGrant, WriteGrant};
#[cfg(not(loom))]
use core::mem::MaybeUninit;

/// loom watches single bytes: there are no slices of them.
#[cfg(loom)]
pub(super) fn fill(grant: &mut WriteGrant<'_, '_>, message: &[u8]) {
    grant.write_at(0, message);
}

/// As above.
#[cfg(loom)]
pub(super) fn copy(grant: &ReadGrant<'_, '_>, target: &mut [u8]) {
    grant.read_at(0, target);
}

/// Writes `message`, which is as long as the grant.
#[cfg(not(loom))]
pub(super) fn fill(grant: &mut WriteGrant<'_, '_>, message: &[u8]) {
    // SAFETY: the other end does nothing meanwhile; whoever overwrites the header leaves the
    // bytes alone.
    let (first, second) = unsafe { grant.as_mut_slices() };
    assert_eq!(first.len() + second.len(), message.len());
    for (shared, byte) in first.iter_mut().chain(second).zip(message) {
        *shared = MaybeUninit::new(*byte);
    }
}

/// Copies the first bytes of the grant until `target` is full.
#[cfg(not(loom))]
pub(super) fn copy(grant: &ReadGrant<'_, '_>, target: &mut [u8]) {
    // SAFETY: as above.
    let (first, second) = unsafe { grant.as_slices() };
    assert_eq!(first.len() + second.len(), grant.length());
    for (byte, shared) in target.iter_mut().zip(first.iter().chain(second)) {
        *byte = *shared;
    }
}
