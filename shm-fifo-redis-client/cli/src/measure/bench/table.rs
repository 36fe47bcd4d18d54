//! The sweep for people: a table for each command and number of clients, a line for each
//! depth and transport.

use super::row::{Cell, Outcome, Results, Row};
use crate::text::{align, digits, large, thousands};
use crate::transport::Transport;
use anstyle::{AnsiColor, Style};

const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const HEADER: [&str; 7] = ["depth", "", "commands/s", "p50", "p99", "p99.9", "shm/best"];

pub(crate) fn render(results: &Results) -> String {
    let same_table = |one: &Outcome, other: &Outcome| table_of(&one.row) == table_of(&other.row);
    results.outcomes.chunk_by(same_table).map(one_table).collect()
}

/// What the rows of one table have in common.
fn table_of(row: &Row) -> Cell {
    Cell { pipeline: 0, ..row.cell }
}

fn one_table(outcomes: &[Outcome]) -> String {
    let rows: Vec<&Row> = outcomes.iter().map(|outcome| &outcome.row).collect();
    let Some(first) = rows.first() else { return String::new() };
    let mut lines = vec![HEADER.map(str::to_owned)];
    let mut styles = Vec::new();
    for rows in rows.chunk_by(|one, other| one.cell == other.cell) {
        let ratio = times_best_socket(rows);
        lines.extend(rows.iter().map(|row| cells(row, rows, ratio)));
        styles.extend(rows.iter().map(|row| style(row, ratio)));
    }
    let lines = align(&lines, 2);
    let mut text = format!("{BOLD}{}{BOLD:#}\n{}\n", title(&first.cell), lines[0]);
    for (line, style) in lines[1..].iter().zip(styles) {
        text += &format!("{style}{line}{style:#}\n");
    }
    text + "p50, p99, p99.9: µs per batch\n\n"
}

/// The first of `rows` names their depth, that of shared memory says how they compare.
fn cells(row: &Row, rows: &[&Row], ratio: Option<f64>) -> [String; 7] {
    let is_first = rows.first().is_some_and(|first| first.transport == row.transport);
    let depth = if is_first { thousands(row.cell.pipeline) } else { String::new() };
    let ratio = ratio.filter(|_| row.transport == Transport::Shm);
    let us = |ns: u64| digits(ns as f64 / 1000.0);
    [
        depth,
        row.transport.to_string(),
        large(row.commands_per_s),
        us(row.p50_ns),
        us(row.p99_ns),
        us(row.p999_ns),
        ratio.map_or_else(String::new, |ratio| digits(ratio) + " ×"),
    ]
}

fn style(row: &Row, ratio: Option<f64>) -> Style {
    let ratio = ratio.filter(|_| row.transport == Transport::Shm);
    ratio.map_or_else(Style::new, |ratio| if ratio < 1.0 { BAD } else { GOOD })
}

/// A cell without its depth, in words.
pub(crate) fn title(cell: &Cell) -> String {
    let value = match cell.value_bytes {
        0 => String::new(),
        bytes if cell.command.has_values_of_one_size() => format!(", values of {bytes} B"),
        bytes => format!(", values of 3 B to 64 KiB, {bytes} B on average"),
    };
    let plural = if cell.clients == 1 { "" } else { "s" };
    format!("{}{value}, {} client{plural}", cell.command, thousands(cell.clients))
}

/// How many times the better socket's throughput shared memory has.
pub(crate) fn times_best_socket(rows: &[&Row]) -> Option<f64> {
    let shm = rows.iter().find(|row| row.transport == Transport::Shm)?;
    let sockets = rows.iter().filter(|row| row.transport != Transport::Shm);
    let best = sockets.map(|row| row.commands_per_s).reduce(f64::max)?;
    (best > 0.0).then(|| shm.commands_per_s / best)
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::outcome;
    use super::*;

    #[test]
    fn each_depth_is_a_block_with_the_ratio_to_the_best_socket() {
        let outcomes = vec![
            outcome(Transport::Tcp, 1, 40_000.0),
            outcome(Transport::Unix, 1, 60_000.0),
            outcome(Transport::Shm, 1, 600_000.0),
            outcome(Transport::Tcp, 2, 80_000.0),
            outcome(Transport::Unix, 2, 120_000.0),
            outcome(Transport::Shm, 2, 60_000.0),
        ];
        let results = Results { outcomes, rounds: 1, example: Vec::new() };
        let text = anstream::adapter::strip_str(&render(&results)).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "PING, 1 client");
        assert!(lines[1].starts_with("depth        commands/s "), "{text}");
        assert!(lines[2].starts_with("1      tcp       40,000  1.50  2.00 "), "{text}");
        assert!(lines[4].starts_with("       shm      600,000 "), "{text}");
        assert!(lines[4].ends_with("10.0 ×") && lines[7].ends_with("0.50 ×"), "{text}");
        assert_eq!(lines.len(), 2 + 6 + 2);
    }

    #[test]
    fn without_shared_memory_there_is_no_ratio() {
        let outcome = outcome(Transport::Unix, 1, 60_000.0);
        assert_eq!(times_best_socket(&[&outcome.row]), None);
    }
}
