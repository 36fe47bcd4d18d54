//! The sweep for people: a table for each command and number of clients, a line
//! for each depth.

use super::row::{Cell, Outcome, Results, Row};
use crate::report::thousands;
use crate::transport::Transport;
use anstyle::{AnsiColor, Style};

const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

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
    let transports: Vec<Transport> = Transport::ALL
        .into_iter()
        .filter(|transport| rows.iter().any(|row| row.transport == *transport))
        .collect();
    let mut text = format!("{BOLD}{}{BOLD:#}\n", title(&first.cell));
    text += &header(&transports);
    for rows in rows.chunk_by(|one, other| one.cell == other.cell) {
        text += &line(rows);
    }
    text + "\n"
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

fn header(transports: &[Transport]) -> String {
    let mut text = format!("{:>7}", "depth");
    for transport in transports {
        text += &format!("{:>12}", format!("{transport} /s"));
    }
    text += &format!("{:>10}", "shm/best");
    for quantile in ["p50", "p99"] {
        for transport in transports {
            text += &format!("{:>12}", format!("{transport} {quantile}"));
        }
    }
    text + "  µs per batch\n"
}

fn line(rows: &[&Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let mut text = format!("{:>7}", thousands(first.cell.pipeline));
    for row in rows {
        text += &format!("{:>12}", thousands(whole(row.commands_per_s)));
    }
    text += &match times_best_socket(rows) {
        Some(ratio) => {
            let style = if ratio < 1.0 { BAD } else { GOOD };
            format!("{style}{:>10}{style:#}", format!("{ratio:.2} ×"))
        }
        None => " ".repeat(10),
    };
    for quantile in [|row: &Row| row.p50_ns, |row: &Row| row.p99_ns] {
        for row in rows {
            text += &format!("{:>12.2}", quantile(row) as f64 / 1000.0);
        }
    }
    text + "\n"
}

/// How many times the better socket's throughput shared memory has.
pub(crate) fn times_best_socket(rows: &[&Row]) -> Option<f64> {
    let shm = rows.iter().find(|row| row.transport == Transport::Shm)?;
    let sockets = rows.iter().filter(|row| row.transport != Transport::Shm);
    let best = sockets.map(|row| row.commands_per_s).reduce(f64::max)?;
    (best > 0.0).then(|| shm.commands_per_s / best)
}

/// A rate in whole commands per second.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
pub(crate) fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::outcome;
    use super::*;

    #[test]
    fn each_depth_is_a_line_with_the_ratio_to_the_best_socket() {
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
        assert!(lines[2].contains("600,000   10.00 ×"), "{text}");
        assert!(lines[3].contains("0.50 ×"), "{text}");
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn without_shared_memory_there_is_no_ratio() {
        let outcome = outcome(Transport::Unix, 1, 60_000.0);
        assert_eq!(times_best_socket(&[&outcome.row]), None);
    }
}
