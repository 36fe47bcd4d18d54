//! From values to places on an axis.

/// A value on an axis and how it is written there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    pub(crate) label: String,
}

/// From values to a part of an axis, 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    place: fn(f64) -> f64,
}

impl Scale {
    /// From nothing to `high`, equal differences being equal distances.
    pub(crate) fn linear(high: f64) -> Self {
        Self { low: 0.0, high, place: |value| value }
    }

    /// Equal factors are equal distances.
    pub(crate) fn logarithmic(low: f64, high: f64) -> Self {
        // One value alone is in the middle.
        let (low, high) = if high > low { (low, high) } else { (low / 2.0, low * 2.0) };
        Self { low, high, place: f64::log10 }
    }

    /// 90 %, 99 %, 99.9 % are equal distances; up to `high` below 1.
    pub(crate) fn nines(high: f64) -> Self {
        Self { low: 0.0, high, place: |share| -(1.0 - share).log10() }
    }

    pub(crate) fn part(&self, value: f64) -> f64 {
        let [low, high, at] = [self.low, self.high, value].map(self.place);
        ((at - low) / (high - low)).clamp(0.0, 1.0)
    }

    pub(crate) fn shows(&self, value: f64) -> bool {
        // The ends themselves, whatever rounding did to them.
        value >= self.low * 0.999 && value <= self.high * 1.001
    }
}

/// 1, 2 and 5 in each power of ten within `scale`, or the powers alone where
/// those were too many.
pub(crate) fn round_ticks(scale: Scale, label: fn(f64) -> String) -> Vec<Tick> {
    let ticks = |mantissas: &[f64]| {
        let values =
            (-3..13).flat_map(|power| mantissas.iter().map(move |m| m * 10f64.powi(power)));
        let shown = values.filter(|value| scale.shows(*value));
        shown.map(|value| Tick { value, label: label(value) }).collect::<Vec<_>>()
    };
    let fine = ticks(&[1.0, 2.0, 5.0]);
    if fine.len() <= 10 { fine } else { ticks(&[1.0]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_differences_are_equal_distances() {
        let scale = Scale::linear(44.0);
        assert!((scale.part(11.0) - 0.25).abs() < 1e-9);
        assert!(scale.shows(44.0) && !scale.shows(45.0));
    }

    #[test]
    fn equal_factors_are_equal_distances() {
        let scale = Scale::logarithmic(1.0, 10_000.0);
        assert!((scale.part(1.0), scale.part(10_000.0)) == (0.0, 1.0));
        assert!((scale.part(100.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn nines_are_equal_distances() {
        let scale = Scale::nines(0.9999);
        assert!((scale.part(0.99) - 0.5).abs() < 1e-9);
        assert!((scale.part(0.0), scale.part(1.0)) == (0.0, 1.0));
    }

    #[test]
    fn one_value_alone_is_in_the_middle() {
        assert!((Scale::logarithmic(50.0, 50.0).part(50.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn ticks_are_round_and_not_too_many() {
        let labels = |low, high| {
            let ticks = round_ticks(Scale::logarithmic(low, high), |value| format!("{value}"));
            ticks.into_iter().map(|tick| tick.label).collect::<Vec<_>>()
        };
        assert_eq!(labels(10.0, 100.0), ["10", "20", "50", "100"]);
        assert_eq!(labels(1.0, 10_000.0), ["1", "10", "100", "1000", "10000"]);
    }
}
