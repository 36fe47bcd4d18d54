//! Medians over rounds: what one disturbed round says does not count.

/// The middle of `values`; of an even number the lower one of the two.
pub(crate) fn of<T: Copy + PartialOrd>(values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_outlier_changes_nothing() {
        assert_eq!(of([10, 11, 9_000, 9, 12]), Some(11));
        assert_eq!(of([2.5, 1.5]), Some(1.5));
        assert_eq!(of([7]), Some(7));
        assert_eq!(of([0_u64; 0]), None);
    }
}
