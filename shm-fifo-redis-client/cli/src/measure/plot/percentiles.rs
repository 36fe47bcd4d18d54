//! How large a share of the round trips was done within which time.

use super::curves::{self, Axes, Curve};
use super::rough;
use super::scale::{Scale, Tick, round_ticks};
use super::sheet::Words;
use crate::measure;
use crate::measure::bench::row::{Cell, Outcome};
use crate::measure::bench::table;
use crate::report::Heading;
use crate::statistics::Series;
use crate::transport::Transport;
use serde::{Deserialize, Serialize};

/// Whatever the number of samples, the axis ends there.
const HIGHEST_SHARE: f64 = 0.9999;
/// So many points from one nine to the next: nobody sees more.
const POINTS_A_NINE: u32 = 50;

/// One command of as many clients, at the least depth that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    #[serde(flatten)]
    heading: Heading,
    rounds: u64,
    /// None where nothing was measured.
    cell: Option<Cell>,
    curves: Vec<Shares>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Shares {
    transport: Transport,
    /// Shares of the round trips, each with the time within which they were done.
    done_within_ns: Vec<(f64, u64)>,
}

impl Percentiles {
    pub(crate) fn of(outcomes: &[Outcome], heading: &Heading, rounds: u64) -> Self {
        let least = outcomes.iter().map(|outcome| outcome.row.cell.pipeline).min();
        let shown = || outcomes.iter().filter(|one| Some(one.row.cell.pipeline) == least);
        let curves = shown().map(|outcome| Shares {
            transport: outcome.row.transport,
            done_within_ns: done_within_ns(&outcome.series),
        });
        let cell = shown().next().map(|outcome| outcome.row.cell);
        Self { heading: heading.clone(), rounds, cell, curves: curves.collect() }
    }

    pub(crate) fn svg(&self) -> String {
        let curves: Vec<Curve> = self.curves.iter().map(curve).collect();
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let times = || points().map(|point| point.0);
        let x = Scale::logarithmic(
            times().fold(f64::INFINITY, f64::min).min(1e12),
            times().fold(0.001, f64::max),
        );
        let highest = points().map(|point| point.1).fold(0.5, f64::max);
        let axes = Axes {
            x,
            y: Scale::nines(highest),
            x_ticks: round_ticks(x, time),
            y_ticks: shares(highest),
            x_label: "time from the first byte sent to the last one received".to_owned(),
            y_label: "share that takes no longer".to_owned(),
        };
        let words = Words {
            title: self.title(),
            subtitle: self.cell.map_or_else(String::new, |cell| table::title(&cell)),
            caption: [
                format!(
                    "{} together, transports in turns. The time is logarithmic, and so is what is \
                     left to 100 %; further left is better.",
                    measure::rounds(self.rounds)
                ),
                self.heading.to_string(),
            ],
        };
        curves::render(&axes, &words, &curves)
    }

    /// What the picture shows, from its own numbers.
    fn title(&self) -> String {
        let Some(cell) = self.cell else {
            return "Redis latency: shares of the round trips done within a time".to_owned();
        };
        let what = match cell.pipeline {
            1 => format!("{} round trips", cell.command),
            depth => format!("batches of {depth} {}", cell.command),
        };
        // The last one that all have.
        let all_reach =
            |share: f64| self.curves.iter().all(|curve| curve.within_us(share).is_some());
        let share = [0.99, 0.9].into_iter().find(|&share| all_reach(share)).unwrap_or(0.0);
        let within = |curve: &Shares| {
            let us = rough(curve.within_us(share)?);
            Some(format!("{us} µs {}", place(curve.transport)))
        };
        let mut times: Vec<String> = self.curves.iter().filter_map(within).collect();
        times.reverse();
        format!("{} % of the {what} take no longer than {}", share * 100.0, times.join(", "))
    }
}

impl Shares {
    /// None where there were too few to tell.
    fn within_us(&self, share: f64) -> Option<f64> {
        let reached = |&&(done, _): &&(f64, u64)| done >= share - 1e-9;
        let (_, ns) = self.done_within_ns.iter().find(reached)?;
        Some(*ns as f64 / 1000.0)
    }
}

fn place(transport: Transport) -> &'static str {
    match transport {
        Transport::Shm => "in shared memory",
        Transport::Unix => "over a unix socket",
        Transport::Tcp => "over TCP",
    }
}

/// The last share that one of so many samples lies above.
fn highest_share(samples: u64) -> f64 {
    (1.0 - 1.0 / samples.max(2) as f64).min(HIGHEST_SHARE)
}

fn done_within_ns(series: &Series) -> Vec<(f64, u64)> {
    let highest = highest_share(series.count());
    let point = |number| 1.0 - 10f64.powf(-f64::from(number) / f64::from(POINTS_A_NINE));
    let points = (0..).map(point).take_while(|&share| share < highest - 1e-9).chain([highest]);
    points.map(|share| ((share * 1e6).round() / 1e6, series.within_ns(share))).collect()
}

fn curve(shares: &Shares) -> Curve {
    let point = |&(share, ns): &(f64, u64)| (ns as f64 / 1000.0, share);
    let points = shares.done_within_ns.iter().map(point).collect();
    Curve { transport: shares.transport, points, with_markers: false }
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
    use super::super::png::tests::assert_readable;
    use super::*;
    use crate::measure::bench::row::tests::{cell, outcome};
    use crate::report::tests::heading;

    fn series(samples: u64) -> Series {
        let mut series = Series::new();
        series.record(&(1..=samples).map(|sample| sample * 1_000).collect::<Vec<_>>());
        series
    }

    fn percentiles(samples: u64, pipeline: u64) -> Percentiles {
        let of =
            |transport| Outcome { series: series(samples), ..outcome(transport, pipeline, 1.0) };
        let outcomes = [of(Transport::Tcp), of(Transport::Shm)];
        Percentiles::of(&outcomes, &heading(), 5)
    }

    #[test]
    fn shares_and_times_rise_to_the_end_of_the_axis() {
        let points = done_within_ns(&series(100_000));
        assert_eq!(points.first(), Some(&(0.0, 1_000)));
        assert_eq!(points.last().map(|point| point.0), Some(HIGHEST_SHARE));
        assert_eq!(points.len(), 201);
        assert!(points.is_sorted(), "{points:?}");
        let within = Shares { transport: Transport::Tcp, done_within_ns: points }.within_us(0.99);
        let within = within.expect("enough");
        assert!((within - 99_000.0).abs() < 100.0, "{within}");
    }

    #[test]
    fn the_title_says_how_soon_nearly_all_are_done() {
        let title = percentiles(1_000, 1).title();
        let expected = "99 % of the PING round trips take no longer than 990 µs in shared memory, \
                        990 µs over TCP";
        assert_eq!(title, expected);
        assert!(percentiles(50, 16).title().starts_with("90 % of the batches of 16 PING take"));
        assert!(Percentiles::of(&[], &heading(), 1).title().starts_with("Redis latency"));
        assert_eq!(percentiles(10, 16).cell, Some(cell(16)));
        for samples in [1, 50, 1_000] {
            assert_readable(&percentiles(samples, 16).svg());
        }
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
