//! The bytes that tests send: each follows from its position.

/// The `length` bytes that tests send at `position`: such that a byte from a
/// wrong place is most likely a wrong byte.
#[must_use]
pub fn pattern(position: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    fill_with_pattern(&mut bytes, position, length);
    bytes
}

pub(super) fn fill_with_pattern(bytes: &mut Vec<u8>, position: u64, length: usize) {
    bytes.clear();
    pattern_spans(position, length).for_each(|span| bytes.extend_from_slice(span));
}

/// Whether `bytes` are those that tests send at `position`.
#[must_use]
pub fn is_pattern(position: u64, mut bytes: &[u8]) -> bool {
    pattern_spans(position, bytes.len()).all(|span| {
        let (front, rest) = bytes.split_at(span.len());
        bytes = rest;
        front == span
    })
}

/// The pattern repeats after so many bytes: a prime number, so that places which
/// a mistake confuses, a power of two apart, do not hold the same bytes.
const PATTERN_BYTES: usize = 4093;

static PATTERN: [u8; PATTERN_BYTES] = {
    let mut bytes = [0; PATTERN_BYTES];
    let mut index = 0;
    while index < PATTERN_BYTES {
        // Multiplication by the golden ratio spreads neighbours over the top byte.
        let spread = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        bytes[index] = spread.to_be_bytes()[0];
        index += 1;
    }
    bytes
};

/// The pattern's bytes from `position` on, in pieces.
fn pattern_spans(mut position: u64, mut length: usize) -> impl Iterator<Item = &'static [u8]> {
    std::iter::from_fn(move || {
        let index = usize::try_from(position % PATTERN_BYTES as u64).ok()?;
        // Where the counter wraps the pattern jumps.
        let to_wrap = usize::try_from(u64::MAX - position).ok()?.saturating_add(1);
        let bytes = length.min(PATTERN_BYTES - index).min(to_wrap);
        position = position.wrapping_add(bytes as u64);
        length -= bytes;
        (bytes > 0).then_some(&PATTERN[index..index + bytes])
    })
}
