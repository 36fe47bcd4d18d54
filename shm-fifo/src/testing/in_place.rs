//! Grants, as the two ends of a test use them: in parts, from the last to the first; or by
//! slices, as between ends that trust each other, which those of a test do.
#![allow(unsafe_code)]

use super::Pieces;
use crate::fifo::{ReadGrant, WriteGrant};
use crate::{Consumer, Corrupt, Producer};
#[cfg(not(loom))]
use core::mem::MaybeUninit;

/// Writes `message` into a grant, its last half first, and commits so much of it.
/// Returns whether it was granted.
pub(super) fn grant(
    producer: &mut Producer<'_>,
    message: &[u8],
    committed: Option<usize>,
) -> Result<bool, Corrupt> {
    let Some(mut grant) = producer.grant(message.len())? else { return Ok(false) };
    assert_eq!(grant.length(), message.len());
    let (front, back) = message.split_at(message.len() / 2);
    grant.write_at(front.len(), back);
    grant.write_at(0, front);
    if let Some(committed) = committed {
        grant.commit(committed);
    }
    Ok(true)
}

/// Writes the beginning of `message`, as much as is granted, its last half first, and commits
/// so much of it. Returns how much was granted.
pub(super) fn grant_up_to(
    producer: &mut Producer<'_>,
    message: &[u8],
    committed: usize,
    by_slices: bool,
) -> Result<usize, Corrupt> {
    let mut grant = producer.grant_up_to(message.len())?;
    let granted = grant.length();
    let message = &message[..granted];
    if by_slices {
        fill(&mut grant, message);
    } else {
        let (front, back) = message.split_at(granted / 2);
        grant.write_at(front.len(), back);
        grant.write_at(0, front);
    }
    grant.commit(committed.min(granted));
    Ok(granted)
}

/// Replaces `buffer` by granted bytes, at most so many, looked at from the last half on, and
/// consumes the first of them. Returns how many were granted.
pub(super) fn read_in_place(
    consumer: &mut Consumer<'_>,
    buffer: &mut Vec<u8>,
    pieces: Pieces,
    by_slices: bool,
) -> Result<usize, Corrupt> {
    let grant = consumer.grant()?;
    let granted = grant.length();
    buffer.clear();
    buffer.resize(pieces.total.min(granted), 0xEE);
    if by_slices {
        copy(&grant, buffer);
    } else {
        let (front, back) = buffer.split_at_mut(pieces.total.min(granted) / 2);
        grant.read_at(front.len(), back);
        grant.read_at(0, front);
    }
    grant.consume(pieces.first.min(granted));
    Ok(granted)
}

/// Replaces `buffer` by what can be read, at most `length` bytes, which pass `beside`, in two
/// parts. Returns how many that were.
pub(super) fn forward(
    consumer: &mut Consumer<'_>,
    (producer_beside, consumer_beside): &mut (Producer<'_>, Consumer<'_>),
    buffer: &mut Vec<u8>,
    length: usize,
) -> Result<usize, Corrupt> {
    let arrived = consumer.grant()?;
    let length = length.min(arrived.length());
    let mut space = producer_beside.grant_up_to(length)?;
    assert_eq!(space.length(), length, "nothing was left there");
    let half = length / 2;
    space.copy_from(half, &arrived, half..length);
    space.copy_from(0, &arrived, 0..half);
    space.commit(length);
    arrived.consume(length);
    buffer.clear();
    buffer.resize(length, 0xEE);
    assert_eq!(consumer_beside.read(buffer), Ok(length));
    Ok(length)
}

/// loom watches single bytes: there are no slices of them.
#[cfg(loom)]
fn fill(grant: &mut WriteGrant<'_, '_>, message: &[u8]) {
    grant.write_at(0, message);
}

/// As above.
#[cfg(loom)]
fn copy(grant: &ReadGrant<'_, '_>, target: &mut [u8]) {
    grant.read_at(0, target);
}

/// Writes `message`, which is as long as the grant.
#[cfg(not(loom))]
fn fill(grant: &mut WriteGrant<'_, '_>, message: &[u8]) {
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
fn copy(grant: &ReadGrant<'_, '_>, target: &mut [u8]) {
    // SAFETY: as above.
    let (first, second) = unsafe { grant.as_slices() };
    assert_eq!(first.len() + second.len(), grant.length());
    for (byte, shared) in target.iter_mut().zip(first.iter().chain(second)) {
        *byte = *shared;
    }
}
