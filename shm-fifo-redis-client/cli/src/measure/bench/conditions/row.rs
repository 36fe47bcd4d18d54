//! One result: a condition and a transport.

use super::super::median;
use crate::statistics::Summary;
use crate::transport::Transport;
use serde::Serialize;

/// The medians over the rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) condition: String,
    pub(crate) transport: Transport,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    pub(crate) commands_per_s: f64,
    pub(crate) server_cpu_ns_per_command: u64,
    pub(crate) client_cpu_ns_per_command: u64,
    /// The least and the greatest median round trip of a round.
    #[serde(skip)]
    pub(crate) p50_range_ns: (u64, u64),
}

/// What one round found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) summary: Summary,
    pub(crate) commands: u64,
    pub(crate) commands_per_s: f64,
    pub(crate) server_cpu_ns: u64,
    pub(crate) client_cpu_ns: u64,
}

impl Row {
    /// `None` without rounds.
    pub(crate) fn of(condition: &str, transport: Transport, rounds: &[Round]) -> Option<Self> {
        let rate = median::of(rounds.iter().map(|round| round.commands_per_s))?;
        let figure = |of: fn(&Round) -> u64| median::of(rounds.iter().map(of));
        let p50s = || rounds.iter().map(|round| round.summary.p50_ns);
        Some(Self {
            condition: condition.to_owned(),
            transport,
            p50_ns: figure(|round| round.summary.p50_ns)?,
            p99_ns: figure(|round| round.summary.p99_ns)?,
            p999_ns: figure(|round| round.summary.p999_ns)?,
            commands_per_s: (rate * 10.0).round() / 10.0,
            server_cpu_ns_per_command: figure(|round| round.server_cpu_ns / round.commands.max(1))?,
            client_cpu_ns_per_command: figure(|round| round.client_cpu_ns / round.commands.max(1))?,
            p50_range_ns: (p50s().min()?, p50s().max()?),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::statistics::Series;
    use serde_json::json;

    pub(crate) fn round(sample_ns: u64, server_cpu_ns: u64) -> Round {
        let mut series = Series::new();
        series.record(&[sample_ns; 10]);
        let summary = series.summary().expect("samples");
        let commands_per_s = 1e9 / sample_ns as f64;
        Round { summary, commands: 10, commands_per_s, server_cpu_ns, client_cpu_ns: 50 }
    }

    #[test]
    fn the_json_has_exactly_the_documented_keys() {
        let rounds = [round(1_000, 100), round(2_000, 300), round(50_000, 200)];
        let row = Row::of("one-core", Transport::Shm, &rounds).expect("three rounds");
        assert_eq!(row.p50_range_ns, (1_000, 50_000));
        let expected = json!({
            "condition": "one-core", "transport": "shm",
            "p50_ns": 2_000, "p99_ns": 2_000, "p999_ns": 2_000, "commands_per_s": 500_000.0,
            "server_cpu_ns_per_command": 20, "client_cpu_ns_per_command": 5
        });
        assert_eq!(serde_json::to_value(row).expect("serialisable"), expected);
    }
}
