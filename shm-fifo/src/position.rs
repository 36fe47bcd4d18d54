//! Free-running positions: how many bytes have ever passed a point.
//!
//! A position is a `u64` that is never masked in shared memory; only its
//! difference to another position has a meaning. 2^64 bytes wrap without harm.
//!
//! The arithmetic is written for counters of any width, so that the tests can
//! try every value of a narrow one.

/// A counter of bytes.
pub(crate) trait Position: Copy {
    /// How far `self` is ahead of `other`, modulo the counter's range.
    fn ahead_of(self, other: Self) -> u64;
    /// The position `bytes` further on.
    fn plus(self, bytes: usize) -> Self;
    /// The lowest bits of the counter, those that `mask` has.
    fn masked(self, mask: usize) -> usize;
}

macro_rules! impl_position {
    ($counter:ty) => {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_lossless,
            trivial_numeric_casts,
            reason = "a step is below the counter's range, a mask keeps low bits anyway"
        )]
        impl Position for $counter {
            #[inline]
            fn ahead_of(self, other: Self) -> u64 {
                self.wrapping_sub(other) as u64
            }

            #[inline]
            fn plus(self, bytes: usize) -> Self {
                self.wrapping_add(bytes as $counter)
            }

            #[inline]
            fn masked(self, mask: usize) -> usize {
                self as usize & mask
            }
        }
    };
}

impl_position!(u64);

/// Bytes between `head` and `tail`, if that is a distance two honest ends can
/// have.
///
/// `None` says that one of them lies: the tail is behind the head, or more
/// than `capacity` ahead of it.
#[inline]
pub(crate) fn distance<P: Position>(tail: P, head: P, capacity: usize) -> Option<usize> {
    let bytes = tail.ahead_of(head);
    if bytes <= capacity as u64 {
        #[allow(clippy::cast_possible_truncation, reason = "at most capacity, a usize")]
        let bytes = bytes as usize;
        Some(bytes)
    } else {
        None
    }
}

/// The position `bytes` further on.
#[inline]
pub(crate) fn advance<P: Position>(position: P, bytes: usize) -> P {
    position.plus(bytes)
}

/// Index of `position` in a ring of `mask + 1` bytes, and how many of `length`
/// bytes from there on lie before the ring's end; the others are at its start.
#[inline]
pub(crate) fn span<P: Position>(position: P, length: usize, mask: usize) -> (usize, usize) {
    let index = position.masked(mask);
    (index, length.min(mask + 1 - index))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    impl_position!(u8);

    /// All capacities of which a `u8` can tell full from empty.
    const CAPACITIES: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

    #[test]
    fn distance_is_exact_across_the_wrap_of_the_counter() {
        assert_eq!(distance(3, u64::MAX - 4, 16), Some(8));
        assert_eq!(distance(u64::MAX, u64::MAX, 16), Some(0));
    }

    #[test]
    fn a_tail_behind_its_head_or_too_far_ahead_is_no_distance() {
        assert_eq!(distance(9_u64, 10, 16), None);
        assert_eq!(distance(27_u64, 10, 16), None);
        assert_eq!(distance(26_u64, 10, 16), Some(16));
    }

    #[test]
    #[cfg_attr(miri, ignore = "plain arithmetic, and too much of it for an interpreter")]
    fn every_head_and_tail_of_a_narrow_counter_have_the_distance_that_counting_finds() {
        for capacity in CAPACITIES {
            for head in 0..=u8::MAX {
                // Counting: one byte after the other is published until the ring is full.
                let mut counted = [None; 256];
                let mut tail = head;
                for bytes in 0..=capacity {
                    counted[usize::from(tail)] = Some(bytes);
                    assert_eq!(advance(head, bytes), tail);
                    tail = tail.wrapping_add(1);
                }
                for tail in 0..=u8::MAX {
                    let expected = counted[usize::from(tail)];
                    assert_eq!(
                        distance(tail, head, capacity),
                        expected,
                        "{capacity} {head} {tail}"
                    );
                }
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "plain arithmetic, and too much of it for an interpreter")]
    fn every_span_of_a_narrow_counter_covers_the_bytes_that_counting_finds() {
        for capacity in CAPACITIES {
            for position in 0..=u8::MAX {
                // Counting: a byte's index is its position modulo the capacity.
                let index_of = |offset: usize| {
                    let steps = u8::try_from(offset).expect("a length is below the range");
                    usize::from(position.wrapping_add(steps)) % capacity
                };
                for length in 0..=capacity {
                    let (index, first) = span(position, length, capacity - 1);
                    assert!(index < capacity && index + first <= capacity && first <= length);
                    assert!(length - first <= index, "the two parts do not overlap");
                    for offset in 0..length {
                        let copied = if offset < first { index + offset } else { offset - first };
                        assert_eq!(copied, index_of(offset), "{capacity} {position} {length}");
                    }
                }
            }
        }
    }
}
