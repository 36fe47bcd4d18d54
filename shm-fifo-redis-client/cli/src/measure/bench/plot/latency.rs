//! How large a share of the round trips was done within which time.

use super::super::row::Outcome;
use super::super::table;
use crate::measure;
use crate::measure::plot::curves::{self, Axes, Curve};
use crate::measure::plot::scale::{Scale, Tick, round_ticks};
use crate::measure::plot::sheet::Words;
use crate::report::Heading;
use crate::statistics::Series;

/// Whatever the number of samples, the axis ends there.
const HIGHEST_SHARE: f64 = 0.9999;

pub(crate) fn render(outcomes: &[Outcome], heading: &Heading, rounds: u64) -> String {
    let least = outcomes.iter().map(|outcome| outcome.row.cell.pipeline).min();
    let shown: Vec<&Outcome> =
        outcomes.iter().filter(|outcome| Some(outcome.row.cell.pipeline) == least).collect();
    let curves: Vec<Curve> = shown.iter().map(|outcome| curve(outcome)).collect();
    let times = || curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));
    let x = Scale::logarithmic(
        times().fold(f64::INFINITY, f64::min).min(1e12),
        times().fold(0.001, f64::max),
    );
    let most = shown.iter().map(|outcome| outcome.series.count()).max().unwrap_or(0);
    let axes = Axes {
        x,
        y: Scale::nines(highest_share(most)),
        x_ticks: round_ticks(x, time),
        y_ticks: shares(highest_share(most)),
        x_label: "time from sending to the last reply",
        y_label: "share done",
    };
    let title = match least {
        Some(1) | None => "Redis latency: share of the round trips done within a time".to_owned(),
        Some(depth) => format!("Redis latency: share of the batches of {depth} done within a time"),
    };
    let words = Words {
        title,
        subtitle: shown.first().map_or_else(String::new, |one| table::title(&one.row.cell)),
        caption: [
            format!(
                "{} together, transports in turns. Both axes logarithmic; further left is better.",
                measure::rounds(rounds)
            ),
            heading.to_string(),
        ],
    };
    curves::render(&axes, &words, &curves)
}

/// The last share that one of so many samples lies above.
fn highest_share(samples: u64) -> f64 {
    (1.0 - 1.0 / samples.max(2) as f64).min(HIGHEST_SHARE)
}

fn curve(outcome: &Outcome) -> Curve {
    Curve {
        transport: outcome.row.transport,
        points: shares_by_time(&outcome.series),
        with_markers: false,
    }
}

/// Pairs of a time in microseconds and the share done within it.
fn shares_by_time(series: &Series) -> Vec<(f64, f64)> {
    let total = series.count().max(1) as f64;
    let mut done = 0;
    let mut points = Vec::new();
    for (ns, count) in series.places() {
        let us = ns as f64 / 1000.0;
        points.push((us, done as f64 / total));
        done += count;
        points.push((us, done as f64 / total));
        if done as f64 / total >= highest_share(series.count()) {
            break;
        }
    }
    points
}

fn shares(highest: f64) -> Vec<Tick> {
    let shares = [
        (0.0, "0 %"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
    ];
    let shown = shares.into_iter().filter(|(value, _)| *value <= highest);
    shown.map(|(value, label)| Tick { value, label: label.to_owned() }).collect()
}

fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", us / 1e6),
        us if us >= 1e3 => format!("{} ms", us / 1e3),
        us if us >= 1.0 => format!("{us} µs"),
        us => format!("{} ns", (us * 1e3).round()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_rise_from_none_to_the_end_of_the_axis() {
        let mut series = Series::new();
        series.record(&[1_000, 1_000, 2_000, 4_000]);
        let points = shares_by_time(&series);
        assert_eq!(points.first().map(|point| point.1), Some(0.0));
        assert_eq!(points.last().map(|point| point.1), Some(highest_share(4)));
        assert!(points.is_sorted_by(|one, other| one.1 <= other.1), "{points:?}");
    }

    #[test]
    fn the_axis_ends_with_the_samples() {
        let labels = |samples| {
            let shares = shares(highest_share(samples));
            shares.last().map(|tick| tick.label.clone()).unwrap_or_default()
        };
        assert_eq!([1, 10, 999, 1_000].map(labels), ["50 %", "90 %", "99 %", "99.9 %"]);
        assert_eq!([10_000, 100_000_000].map(labels), ["99.99 %", "99.99 %"]);
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        assert_eq!([0.5, 20.0, 5_000.0, 2e6].map(time), ["500 ns", "20 µs", "5 ms", "2 s"]);
    }
}
