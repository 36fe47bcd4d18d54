//! From single round trips to the figures that are reported.

use hdrhistogram::Histogram;

/// Values are kept exact to three digits up to this; what takes longer counts as
/// this long in the quantiles. The maximum is kept apart and exact.
const HIGHEST_NS: u64 = 60_000_000_000;

/// Round trips of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    histogram: Histogram<u64>,
    min_ns: u64,
    max_ns: u64,
    total_ns: u64,
}

impl Series {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, HIGHEST_NS, 3)
            .expect("these constants are within the histogram's limits");
        Self { histogram, min_ns: u64::MAX, max_ns: 0, total_ns: 0 }
    }

    pub(crate) fn record(&mut self, samples_ns: &[u64]) {
        for &sample_ns in samples_ns {
            self.record_many(sample_ns, 1);
        }
    }

    /// Records `count` round trips of `sample_ns` each.
    pub(crate) fn record_many(&mut self, sample_ns: u64, count: u64) {
        self.histogram.saturating_record_n(sample_ns, count);
        self.min_ns = self.min_ns.min(sample_ns);
        self.max_ns = self.max_ns.max(sample_ns);
        self.total_ns = self.total_ns.saturating_add(sample_ns.saturating_mul(count));
    }

    /// Adds the round trips of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        self.histogram += &other.histogram;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
    }

    /// What was measured and how often: one pair for each place of the histogram.
    pub(crate) fn places(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let places = self.histogram.iter_recorded();
        places.map(|place| (place.value_iterated_to(), place.count_at_value()))
    }

    /// For the formats of others.
    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The time within which this share of the round trips was done.
    pub(crate) fn within_ns(&self, share: f64) -> u64 {
        // A bucket's upper end may lie above everything that was measured.
        self.histogram.value_at_quantile(share).max(self.min_ns.min(self.max_ns)).min(self.max_ns)
    }

    /// The figures; `None` before the first sample.
    pub(crate) fn summary(&self) -> Option<Summary> {
        if self.count() == 0 {
            return None;
        }
        let total_ns = self.total_ns.max(1) as f64;
        Some(Summary {
            count: self.count(),
            min_ns: self.min_ns,
            mean_ns: total_ns / self.count() as f64,
            p50_ns: self.within_ns(0.50),
            p99_ns: self.within_ns(0.99),
            p999_ns: self.within_ns(0.999),
            max_ns: self.max_ns,
            per_s: self.count() as f64 * 1e9 / total_ns,
        })
    }
}

/// The figures of one [`Series`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) min_ns: u64,
    pub(crate) mean_ns: f64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    pub(crate) max_ns: u64,
    /// One request at a time: the inverse of the mean.
    pub(crate) per_s: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(samples_ns: impl IntoIterator<Item = u64>) -> Series {
        let mut series = Series::new();
        series.record(&samples_ns.into_iter().collect::<Vec<_>>());
        series
    }

    fn within_a_thousandth(value: u64, expected: u64) -> bool {
        value.abs_diff(expected) <= expected / 1000 + 1
    }

    #[test]
    fn nothing_recorded_has_no_summary() {
        assert_eq!(series([]).summary(), None);
    }

    #[test]
    fn one_sample_is_every_figure() {
        let summary = series([1234]).summary().expect("one sample");
        assert_eq!(summary.count, 1);
        for figure in [summary.min_ns, summary.p50_ns, summary.p999_ns, summary.max_ns] {
            assert_eq!(figure, 1234);
        }
        assert!((summary.mean_ns - 1234.0).abs() < 1e-9);
    }

    #[test]
    fn quantiles_of_a_known_sequence() {
        let summary = series((1..=100_000).map(|n| n * 10)).summary().expect("samples");
        assert!(within_a_thousandth(summary.p50_ns, 500_000), "{summary:?}");
        assert!(within_a_thousandth(summary.p99_ns, 990_000), "{summary:?}");
        assert!(within_a_thousandth(summary.p999_ns, 999_000), "{summary:?}");
        assert_eq!((summary.min_ns, summary.max_ns), (10, 1_000_000));
    }

    #[test]
    fn the_rate_counts_the_time_of_all_samples() {
        let summary = series([1_000_000; 500]).summary().expect("samples");
        assert!((summary.per_s - 1000.0).abs() < 1e-6);
    }

    #[test]
    fn a_pause_beyond_the_histogram_keeps_its_length_as_maximum() {
        let summary = series([1_000, 3 * HIGHEST_NS]).summary().expect("samples");
        assert_eq!(summary.max_ns, 3 * HIGHEST_NS);
        assert!(summary.p999_ns >= HIGHEST_NS);
    }

    #[test]
    fn batches_add_up() {
        let mut both = series(1..=500);
        both.record(&(501..=1000).collect::<Vec<_>>());
        assert_eq!(both.summary(), series(1..=1000).summary());
    }
}
