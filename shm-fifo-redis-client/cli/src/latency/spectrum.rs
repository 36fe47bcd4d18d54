//! How the round trips spread over times from 0.5 µs to a second.

use crate::statistics::Series;
use serde::Serialize;

const SECOND_NS: u64 = 1_000_000_000;

/// So many round trips took `from_ns` or longer, but not as long as the next
/// bucket begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Bucket {
    pub(crate) from_ns: u64,
    pub(crate) count: u64,
}

/// Where the buckets begin: 0, then 0.5 µs and each whole digit of each decade, at
/// last 1 s.
pub(crate) fn starts_ns() -> Vec<u64> {
    let mut starts = vec![0, 500, 600, 700, 800, 900];
    let mut decade = 1_000;
    while decade < SECOND_NS {
        starts.extend((1..10).map(|digit| digit * decade));
        decade *= 10;
    }
    starts.push(SECOND_NS);
    starts
}

#[derive(Debug)]
pub(crate) struct Spectrum(Vec<Bucket>);

impl Spectrum {
    pub(crate) fn of(series: &Series) -> Self {
        let starts = starts_ns();
        let mut buckets: Vec<Bucket> =
            starts.iter().map(|&from_ns| Bucket { from_ns, count: 0 }).collect();
        for (ns, count) in series.places() {
            let index = starts.partition_point(|&start| start <= ns) - 1;
            buckets[index].count += count;
        }
        Self(buckets)
    }

    pub(crate) fn buckets(self) -> Vec<Bucket> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(samples_ns: &[u64]) -> Vec<(u64, u64)> {
        let mut series = Series::new();
        series.record(samples_ns);
        let buckets = Spectrum::of(&series).buckets();
        let filled = buckets.iter().filter(|bucket| bucket.count > 0);
        filled.map(|bucket| (bucket.from_ns, bucket.count)).collect()
    }

    #[test]
    fn buckets_rise_from_zero_to_a_second() {
        let starts = starts_ns();
        assert_eq!(starts.len(), 61);
        assert!(starts.is_sorted_by(|one, next| one < next), "{starts:?}");
        assert_eq!((starts[0], starts[1], starts[60]), (0, 500, SECOND_NS));
    }

    #[test]
    fn each_sample_is_in_the_bucket_that_begins_before_it() {
        assert_eq!(filled(&[1, 499, 500, 699, 700]), [(0, 2), (500, 1), (600, 1), (700, 1)]);
        assert_eq!(filled(&[999, 1_000, 1_999, 2_000]), [(900, 1), (1_000, 2), (2_000, 1)]);
        assert_eq!(filled(&[25_000, 400_000_000]), [(20_000, 1), (400_000_000, 1)]);
        assert_eq!(filled(&[SECOND_NS, 9 * SECOND_NS]), [(SECOND_NS, 2)]);
    }
}
