//! Bytes that are in the ring and go another way.

use crate::Producer;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How much goes at once.
const PIECE_BYTES: usize = 4096;

/// Gives `send` what was published behind the position `sent`, piece by piece and in order;
/// `send` says how many bytes it took, and `sent` is moved by those. To be called while writing.
///
/// # Errors
/// That of `send`, with whose first byte that it did not take the next call goes on;
/// `WriteZero` if it takes nothing.
pub(crate) fn send_published(
    producer: &Producer<'_>,
    sent: &AtomicU64,
    mut send: impl FnMut(&[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut piece = [0; PIECE_BYTES];
    loop {
        let position = sent.load(Relaxed);
        let left = producer.position().wrapping_sub(position);
        let length = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let piece = &mut piece[..length];
        if piece.is_empty() {
            return Ok(());
        }
        producer.copy_published(position, piece);
        let count = send(piece)?.min(length);
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        sent.store(position.wrapping_add(count as u64), Relaxed);
    }
}
