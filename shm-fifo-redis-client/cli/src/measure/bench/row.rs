//! One result of the sweep.

use super::measure::Measured;
use super::median;
use super::script::Load;
use crate::statistics::Series;
use crate::transport::Transport;
use serde::{Deserialize, Serialize};

/// What was measured: everything but the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) command: Load,
    pub(crate) clients: u64,
    pub(crate) pipeline: u64,
    /// 0 for PING; the mean for the mixed load.
    pub(crate) value_bytes: u64,
}

/// The medians over the rounds of one cell and transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) transport: Transport,
    #[serde(flatten)]
    pub(crate) cell: Cell,
    /// Of all rounds together.
    pub(crate) requests: u64,
    pub(crate) commands_per_s: f64,
    /// Of a batch: from its first byte out to its last byte in.
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
}

impl Row {
    /// `None` without rounds.
    pub(crate) fn of(transport: Transport, cell: Cell, rounds: &[Measured]) -> Option<Self> {
        let summaries: Vec<_> = rounds.iter().filter_map(|one| one.series.summary()).collect();
        let rate = median::of(rounds.iter().map(|one| one.commands_per_s))?;
        Some(Self {
            transport,
            cell,
            requests: rounds.iter().map(|one| one.commands).sum(),
            commands_per_s: (rate * 10.0).round() / 10.0,
            p50_ns: median::of(summaries.iter().map(|one| one.p50_ns))?,
            p99_ns: median::of(summaries.iter().map(|one| one.p99_ns))?,
            p999_ns: median::of(summaries.iter().map(|one| one.p999_ns))?,
        })
    }
}

/// A row and the latencies behind it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) row: Row,
    pub(crate) series: Series,
}

/// Everything the sweep found.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) rounds: u64,
    pub(crate) example: Vec<super::example::Example>,
}

impl Results {
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.outcomes.iter().map(|outcome| &outcome.row)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn cell(pipeline: u64) -> Cell {
        Cell { command: Load::Ping, clients: 1, pipeline, value_bytes: 0 }
    }

    pub(crate) fn outcome(transport: Transport, pipeline: u64, commands_per_s: f64) -> Outcome {
        let mut series = Series::new();
        series.record(&[1_000, 1_500, 2_000]);
        let (p50_ns, p99_ns, p999_ns) = (1_500, 2_000, 2_000);
        let cell = cell(pipeline);
        let row = Row { transport, cell, requests: 3, commands_per_s, p50_ns, p99_ns, p999_ns };
        Outcome { row, series }
    }

    fn round(samples_ns: &[u64], commands_per_s: f64) -> Measured {
        let mut series = Series::new();
        series.record(samples_ns);
        Measured { commands: samples_ns.len() as u64, commands_per_s, series }
    }

    #[test]
    fn the_json_has_exactly_the_documented_keys() {
        let row = outcome(Transport::Shm, 16, 1.5).row;
        let expected = json!({
            "transport": "shm", "command": "PING", "clients": 1, "pipeline": 16,
            "value_bytes": 0, "requests": 3, "commands_per_s": 1.5,
            "p50_ns": 1_500, "p99_ns": 2_000, "p999_ns": 2_000
        });
        assert_eq!(serde_json::to_value(row).expect("serialisable"), expected);
    }

    #[test]
    fn each_figure_is_the_median_of_its_own() {
        let rounds = [round(&[10], 3.0), round(&[20], 1.0), round(&[500], 2.0)];
        let row = Row::of(Transport::Tcp, cell(1), &rounds).expect("three rounds");
        assert_eq!((row.p50_ns, row.requests), (20, 3));
        assert!((row.commands_per_s - 2.0).abs() < 1e-9);
        assert_eq!(Row::of(Transport::Tcp, cell(1), &[]), None);
    }
}
