//! What the demo found, for people and for programs.

mod chart;
mod table;

use crate::exchange::Command;
use crate::machine::Machine;
#[cfg(feature = "measure")]
use crate::measure::plot::{self, bars};
use crate::statistics::Summary;
use crate::text::{digits, fold, thousands, width};
use crate::transport::Transport;
use anstyle::{AnsiColor, Style};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const BOLD: Style = Style::new().bold();

/// The whole result; serialised it is demo.json.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) heading: Heading,
    /// The same minimal loop over every transport.
    pub(crate) results: Vec<Row>,
    /// redis-rs: its own connections over the sockets, this crate's over shm.
    pub(crate) redis_rs: Vec<Row>,
}

/// What the figures were measured on, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Heading {
    pub(crate) machine: Machine,
    pub(crate) server: ServerInfo,
    /// In UTC, as 2026-11-21.
    pub(crate) date: String,
}

impl Heading {
    /// Today and here.
    pub(crate) fn of(server: ServerInfo) -> Self {
        let date = time::OffsetDateTime::now_utc().date().to_string();
        Self { machine: Machine::this(), server, date }
    }
}

impl fmt::Display for Heading {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {}, {}", self.server, self.machine, self.date)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerInfo {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl ServerInfo {
    /// From the reply to `INFO server`.
    pub(crate) fn from_info(info: &str) -> Self {
        let field = |name: &str| {
            let mut fields = info.lines().filter_map(|line| line.split_once(':'));
            fields.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
        };
        // Valkey tells its own version beside the one of Redis it is compatible with.
        let name = field("server_name").unwrap_or("redis");
        let version = field(&format!("{name}_version")).or_else(|| field("redis_version"));
        Self { name: name.to_owned(), version: version.unwrap_or("unknown").to_owned() }
    }
}

impl fmt::Display for ServerInfo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.name.as_str() {
            "redis" => "Redis",
            "valkey" => "Valkey",
            other => other,
        };
        write!(formatter, "{name} {}", self.version)
    }
}

/// One transport and one command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) transport: Transport,
    pub(crate) command: Command,
    pub(crate) clients: u32,
    pub(crate) pipeline: u32,
    pub(crate) requests: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    pub(crate) max_ns: u64,
    pub(crate) commands_per_s: f64,
}

impl Row {
    pub(crate) fn new(transport: Transport, command: Command, summary: &Summary) -> Self {
        Self {
            transport,
            command,
            clients: 1,
            pipeline: 1,
            requests: summary.count,
            p50_ns: summary.p50_ns,
            p99_ns: summary.p99_ns,
            p999_ns: summary.p999_ns,
            max_ns: summary.max_ns,
            commands_per_s: (summary.per_s * 10.0).round() / 10.0,
        }
    }

    /// How often this row's median holds that of shared memory for the same command.
    pub(crate) fn times_shm(&self, rows: &[Self]) -> Option<f64> {
        let is_shm = |row: &&Self| row.transport == Transport::Shm && row.command == self.command;
        let shm = rows.iter().find(is_shm)?;
        (shm.p50_ns > 0).then(|| self.p50_ns as f64 / shm.p50_ns as f64)
    }
}

/// Writing our own output failed.
#[derive(Debug)]
pub(crate) struct OutputError(pub(crate) io::Error);

impl fmt::Display for OutputError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot write the result: {}", self.0)
    }
}

impl std::error::Error for OutputError {}

/// Writes `text` to stdout, without its colours where that is no terminal.
pub(crate) fn print_text(text: &str) -> Result<(), OutputError> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(OutputError)
}

/// Prints the tables, the chart and which files were `written`.
pub(crate) fn print(report: &Report, written: &[PathBuf]) -> Result<(), OutputError> {
    let requests = report.results.first().map_or(0, |row| row.requests);
    let heading = format!(
        "{}, one client, one request at a time, {} requests each, in turns\n{}",
        report.heading.server,
        thousands(requests),
        report.heading.machine
    );
    let mut text = format!("\n{}\n\n", fold(&heading, width(), 0));
    text += &table::render("A minimal client", &report.results);
    text.push('\n');
    text += &table::render("redis-rs", &report.redis_rs);
    text.push('\n');
    text += &chart::render(&report.results);
    text.push('\n');
    for path in written {
        text += &format!("wrote {}\n", path.display());
    }
    print_text(&text)
}

/// Writes demo.json into `directory`, and a picture of it where this program can draw.
pub(crate) fn write_files(report: &Report, directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let json = serde_json::to_string_pretty(report)? + "\n";
    let path = directory.join("demo.json");
    fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    let written = vec![path];
    #[cfg(feature = "measure")]
    let written = [written, plot::write(directory, "latency", &bars::render(report))?].concat();
    Ok(written)
}

pub(crate) fn colour(transport: Transport) -> Style {
    match transport {
        Transport::Tcp => AnsiColor::Yellow.on_default(),
        Transport::Unix => AnsiColor::Blue.on_default(),
        Transport::Shm => AnsiColor::Green.on_default(),
    }
}

/// Nanoseconds as microseconds, with three digits that count.
pub(crate) fn us(ns: u64) -> String {
    digits(ns as f64 / 1000.0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(super) fn row(transport: Transport, command: Command, p50_ns: u64) -> Row {
        Row {
            transport,
            command,
            clients: 1,
            pipeline: 1,
            requests: 60_000,
            p50_ns,
            p99_ns: p50_ns * 2,
            p999_ns: p50_ns * 3,
            max_ns: p50_ns * 100,
            commands_per_s: 1e9 / p50_ns as f64,
        }
    }

    pub(super) fn rows() -> Vec<Row> {
        let medians = [(Command::Ping, 1_000), (Command::Set, 1_200), (Command::Get, 1_100)];
        let factors = [(Transport::Tcp, 20_u64), (Transport::Unix, 12), (Transport::Shm, 1)];
        let of_command = |(command, shm_ns)| {
            factors.map(|(transport, factor)| row(transport, command, shm_ns * factor))
        };
        medians.into_iter().flat_map(of_command).collect()
    }

    pub(crate) fn heading() -> Heading {
        let machine =
            Machine { cpu: "CPU <1>".to_owned(), cores: 2, kernel: "Linux 6.1".to_owned() };
        let server = ServerInfo { name: "redis".to_owned(), version: "7.0.15".to_owned() };
        Heading { machine, server, date: "2026-11-21".to_owned() }
    }

    pub(crate) fn report() -> Report {
        Report { heading: heading(), results: rows(), redis_rs: rows() }
    }

    #[test]
    fn the_json_has_exactly_the_documented_keys() {
        let mut report = report();
        report.results.truncate(1);
        report.redis_rs.clear();
        let expected = json!({
            "machine": { "cpu": "CPU <1>", "cores": 2, "kernel": "Linux 6.1" },
            "server": { "name": "redis", "version": "7.0.15" },
            "date": "2026-11-21",
            "results": [{
                "transport": "tcp", "command": "PING", "clients": 1, "pipeline": 1,
                "requests": 60_000, "p50_ns": 20_000, "p99_ns": 40_000, "p999_ns": 60_000,
                "max_ns": 2_000_000, "commands_per_s": 50_000.0
            }],
            "redis_rs": []
        });
        assert_eq!(serde_json::to_value(&report).expect("serialisable"), expected);
    }

    #[test]
    fn ratios_are_within_one_command() {
        let rows = rows();
        let ratios: Vec<_> = rows.iter().filter_map(|row| row.times_shm(&rows)).collect();
        assert_eq!(ratios, [20.0, 12.0, 1.0, 20.0, 12.0, 1.0, 20.0, 12.0, 1.0]);
    }

    #[test]
    fn servers_are_told_apart() {
        let redis = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n";
        let valkey = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n";
        assert_eq!(ServerInfo::from_info(redis).to_string(), "Redis 7.0.15");
        assert_eq!(ServerInfo::from_info(valkey).to_string(), "Valkey 8.0.1");
    }
}
