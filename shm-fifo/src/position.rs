//! Free-running positions: how many bytes have ever passed a point.
//!
//! A position is a `u64` that is never masked in shared memory; only its
//! difference to another position has a meaning. 2^64 bytes wrap without harm.

/// Bytes between `head` and `tail`, if that is a distance two honest ends can
/// have.
///
/// `None` says that one of them lies: the tail is behind the head, or more
/// than `capacity` ahead of it.
pub(crate) const fn distance(tail: u64, head: u64, capacity: usize) -> Option<usize> {
    let bytes = tail.wrapping_sub(head);
    if bytes <= capacity as u64 {
        #[allow(clippy::cast_possible_truncation, reason = "at most capacity, a usize")]
        let bytes = bytes as usize;
        Some(bytes)
    } else {
        None
    }
}

/// The position `bytes` further on.
pub(crate) const fn advance(position: u64, bytes: usize) -> u64 {
    position.wrapping_add(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_exact_across_the_wrap_of_the_counter() {
        assert_eq!(distance(3, u64::MAX - 4, 16), Some(8));
        assert_eq!(distance(u64::MAX, u64::MAX, 16), Some(0));
    }

    #[test]
    fn a_tail_behind_its_head_or_too_far_ahead_is_no_distance() {
        assert_eq!(distance(9, 10, 16), None);
        assert_eq!(distance(27, 10, 16), None);
        assert_eq!(distance(26, 10, 16), Some(16));
    }
}
