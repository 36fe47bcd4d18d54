//! Throughput over the pipeline's depth, as the Redis pipelining page draws it.

use super::super::row::Outcome;
use super::super::table;
use crate::measure;
use crate::measure::plot::curves::{self, Axes, Curve};
use crate::measure::plot::scale::{Scale, Tick, round_ticks};
use crate::measure::plot::sheet::Words;
use crate::report::{Heading, thousands};
use crate::transport::Transport;

pub(crate) fn render(outcomes: &[Outcome], heading: &Heading, rounds: u64) -> String {
    let curves = curves(outcomes);
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
        x_ticks: depths(outcomes),
        y_ticks: round_ticks(y, rate),
        x_label: "commands sent before their replies are read (depth of the pipeline)",
        y_label: "commands per second",
    };
    let cell = outcomes.first().map(|outcome| outcome.row.cell);
    let words = Words {
        title: "Redis throughput over the depth of the pipeline".to_owned(),
        subtitle: cell.map_or_else(String::new, |cell| table::title(&cell)),
        caption: [
            format!(
                "Medians of {}, transports in turns. Both axes logarithmic; higher is better.",
                measure::rounds(rounds)
            ),
            heading.to_string(),
        ],
    };
    curves::render(&axes, &words, &curves)
}

fn curves(outcomes: &[Outcome]) -> Vec<Curve> {
    let curve = |transport| {
        let rows = outcomes.iter().map(|outcome| &outcome.row);
        let of_this = rows.filter(|row| row.transport == transport);
        let points = of_this.map(|row| (row.cell.pipeline as f64, row.commands_per_s)).collect();
        Curve { transport, points, with_markers: true }
    };
    Transport::ALL.into_iter().map(curve).filter(|curve| !curve.points.is_empty()).collect()
}

/// Those that were measured.
fn depths(outcomes: &[Outcome]) -> Vec<Tick> {
    let mut depths: Vec<u64> = outcomes.iter().map(|outcome| outcome.row.cell.pipeline).collect();
    depths.sort_unstable();
    depths.dedup();
    let tick = |depth| Tick { value: depth as f64, label: thousands(depth) };
    depths.into_iter().map(tick).collect()
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
    use super::super::super::row::tests::outcome;
    use super::*;
    use crate::machine::Machine;
    use crate::report::ServerInfo;

    #[test]
    fn the_picture_names_machine_units_and_transports() {
        let outcomes =
            [outcome(Transport::Unix, 1, 60_000.0), outcome(Transport::Shm, 10_000, 2e6)];
        let heading = Heading {
            machine: Machine { cpu: "CPU".into(), cores: 2, kernel: "Linux 6.1".into() },
            server: ServerInfo { name: "redis".into(), version: "7.0.15".into() },
            date: "2026-11-21".into(),
        };
        let svg = render(&outcomes, &heading, 5);
        for text in
            ["Redis 7.0.15, CPU, 2 cores, Linux 6.1, 2026-11-21", "shared memory", "10,000", "2 M"]
        {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
        assert!(!svg.contains(">TCP<") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn the_axis_ends_at_round_numbers() {
        assert!((round_below(61_000.0) - 50_000.0).abs() < 1e-6);
        assert!((round_above(61_000.0) - 100_000.0).abs() < 1e-6);
        assert!((round_below(100.0) - 100.0).abs() < 1e-6);
        assert_eq!([rate(20_000.0), rate(5e6), rate(500.0)], ["20 k", "5 M", "500"]);
    }
}
