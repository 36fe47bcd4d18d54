//! Throughput over the pipeline's depth, as the Redis pipelining page draws it.

use super::curves::{self, Axes, Curve};
use super::rough;
use super::scale::{Scale, Tick, round_ticks};
use super::sheet::Words;
use crate::measure;
use crate::measure::bench::row::{Cell, Outcome};
use crate::measure::bench::table;
use crate::report::Heading;
use crate::text::thousands;
use crate::transport::Transport;
use serde::{Deserialize, Serialize};

/// One command of as many clients.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Throughput {
    #[serde(flatten)]
    heading: Heading,
    rounds: u64,
    /// The first of them; none where nothing was measured.
    cell: Option<Cell>,
    rates: Vec<Rate>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Rate {
    transport: Transport,
    pipeline: u64,
    commands_per_s: f64,
}

impl Throughput {
    pub(crate) fn of(outcomes: &[Outcome], heading: &Heading, rounds: u64) -> Self {
        let rate = |outcome: &Outcome| Rate {
            transport: outcome.row.transport,
            pipeline: outcome.row.cell.pipeline,
            commands_per_s: outcome.row.commands_per_s,
        };
        let cell = outcomes.first().map(|outcome| outcome.row.cell);
        let rates = outcomes.iter().map(rate).collect();
        Self { heading: heading.clone(), rounds, cell, rates }
    }

    pub(crate) fn svg(&self) -> String {
        let curves = self.curves();
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let bounds = |value: fn(&(f64, f64)) -> f64| {
            let values = || points().map(value);
            (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max))
        };
        let (x, (low, high)) = (bounds(|point| point.0), bounds(|point| point.1));
        let y = Scale::logarithmic(round_below(low), round_above(high));
        let axes = Axes {
            x: Scale::logarithmic(x.0, x.1),
            y,
            x_ticks: self.depths().into_iter().map(depth_tick).collect(),
            y_ticks: round_ticks(y, rate),
            x_label: "commands sent before their replies are read: the pipeline's depth".to_owned(),
            y_label: "commands per second".to_owned(),
        };
        let words = Words {
            title: self.title(),
            subtitle: self.cell.map_or_else(String::new, |cell| table::title(&cell)),
            caption: [
                format!(
                    "Medians of {}, transports in turns. Both axes logarithmic; higher is better.",
                    measure::rounds(self.rounds)
                ),
                self.heading.to_string(),
            ],
        };
        curves::render(&axes, &words, &curves)
    }

    /// What the picture shows, from its own numbers.
    fn title(&self) -> String {
        let depths = self.depths();
        let at = |depth: &u64| Some((rough(self.times_best_socket(*depth)?), thousands(*depth)));
        let ends = [depths.first(), depths.last().filter(|_| depths.len() > 1)];
        let mut found = ends.into_iter().flatten().filter_map(at);
        let (Some(Cell { command, .. }), Some((times, depth))) = (self.cell, found.next()) else {
            return "Redis throughput over the depth of the pipeline".to_owned();
        };
        let first = format!(
            "{command} in shared memory: {times} times the better socket's throughput at depth {depth}"
        );
        found
            .fold(first, |title, (times, depth)| format!("{title}, {times} times at depth {depth}"))
    }

    fn times_best_socket(&self, depth: u64) -> Option<f64> {
        let best = |is_it: fn(&Transport) -> bool| {
            let of_these = |rate: &&Rate| rate.pipeline == depth && is_it(&rate.transport);
            self.rates.iter().filter(of_these).map(|rate| rate.commands_per_s).reduce(f64::max)
        };
        let shm = best(|transport| *transport == Transport::Shm)?;
        Some(shm / best(|transport| *transport != Transport::Shm)?)
    }

    fn curves(&self) -> Vec<Curve> {
        let curve = |transport| {
            let of_this = self.rates.iter().filter(|rate| rate.transport == transport);
            let points = of_this.map(|rate| (rate.pipeline as f64, rate.commands_per_s));
            Curve { transport, points: points.collect(), with_markers: true }
        };
        Transport::ALL.into_iter().map(curve).filter(|curve| !curve.points.is_empty()).collect()
    }

    /// Those that were measured.
    fn depths(&self) -> Vec<u64> {
        let mut depths: Vec<u64> = self.rates.iter().map(|rate| rate.pipeline).collect();
        depths.sort_unstable();
        depths.dedup();
        depths
    }
}

fn depth_tick(depth: u64) -> Tick {
    Tick { value: depth as f64, label: thousands(depth) }
}

/// 1, 2 or 5 times a power of ten.
fn round_below(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1.0).log10().floor());
    [5.0, 2.0].into_iter().find(|m| m * power <= value).unwrap_or(1.0) * power
}

fn round_above(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 5.0].into_iter().find(|m| m * power >= value).unwrap_or(10.0) * power
}

fn rate(value: f64) -> String {
    match value {
        millions if millions >= 1e6 => format!("{} M", millions / 1e6),
        thousands if thousands >= 1e3 => format!("{} k", thousands / 1e3),
        units => format!("{units}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::png::tests::assert_readable;
    use super::*;
    use crate::measure::bench::row::tests::outcome;
    use crate::report::tests::heading;

    fn throughput(rows: &[(Transport, u64, f64)]) -> Throughput {
        let outcomes: Vec<_> =
            rows.iter().map(|&(transport, depth, rate)| outcome(transport, depth, rate)).collect();
        Throughput::of(&outcomes, &heading(), 5)
    }

    #[test]
    fn the_picture_names_machine_units_and_transports() {
        let rows = [(Transport::Unix, 1, 60_000.0), (Transport::Shm, 10_000, 2e6)];
        let svg = throughput(&rows).svg();
        for text in
            ["Redis 7.0.15, CPU &lt;1&gt;, 2 cores, Linux 6.1", "shared memory", "10,000", "2 M"]
        {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
        assert!(!svg.contains(">TCP<") && !svg.contains("NaN"), "{svg}");
        assert_readable(&svg);
    }

    #[test]
    fn the_title_compares_at_both_ends() {
        let one = [(Transport::Tcp, 1, 10_000.0), (Transport::Unix, 1, 16_000.0)];
        let rows = [(Transport::Shm, 1, 1_260_000.0), (Transport::Unix, 1_000, 5e6)];
        let all = [&one[..], &rows, &[(Transport::Shm, 1_000, 5.1e6)]].concat();
        assert!(throughput(&all).title().ends_with("at depth 1, 1.0 times at depth 1,000"));
        assert!(
            throughput(&all[..3])
                .title()
                .ends_with("79 times the better socket's throughput at depth 1")
        );
        assert!(throughput(&one).title().starts_with("Redis throughput"));
        assert_readable(&throughput(&all).svg());
    }

    #[test]
    fn the_axis_ends_at_round_numbers() {
        assert!((round_below(61_000.0) - 50_000.0).abs() < 1e-6);
        assert!((round_above(61_000.0) - 100_000.0).abs() < 1e-6);
        assert!((round_below(100.0) - 100.0).abs() < 1e-6);
        assert_eq!([rate(20_000.0), rate(5e6), rate(500.0)], ["20 k", "5 M", "500"]);
    }
}
