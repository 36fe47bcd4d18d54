//! The conditions for people: a block for each, a line for each transport.

use super::row::Row;
use crate::report::thousands;
use crate::transport::Transport;
use anstyle::{AnsiColor, Style};

const SHM: Style = AnsiColor::Green.on_default();

pub(crate) fn render(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let widest = rows.iter().map(|row| row.condition.len()).max().unwrap_or(0);
    let mut text = format!(
        "{:widest$} {:4} {:>10} {:>20} {:>11} {:>11} {:>12} {:>8} {:>8} {:>9}\n",
        "",
        "",
        "p50 µs",
        "(range)",
        "p99 µs",
        "p99.9 µs",
        "commands/s",
        "server",
        "client",
        "p50 / shm"
    );
    for block in rows.chunk_by(|one, other| one.condition == other.condition) {
        for (index, row) in block.iter().enumerate() {
            let name = if index == 0 { row.condition.as_str() } else { "" };
            let style = if row.transport == Transport::Shm { SHM } else { Style::new() };
            text += &format!("{name:widest$} {style}{}{style:#}\n", line(row, block));
        }
    }
    text + "server, client: CPU time in ns for each command\n"
}

fn line(row: &Row, block: &[Row]) -> String {
    let us = |ns: u64| format!("{:.2}", ns as f64 / 1000.0);
    let (least, greatest) = row.p50_range_ns;
    let ratio = times_shm(row, block).map_or_else(String::new, |ratio| format!("{ratio:.2} ×"));
    format!(
        "{:4} {:>10} {:>20} {:>11} {:>11} {:>12} {:>8} {:>8} {:>9}",
        row.transport,
        us(row.p50_ns),
        format!("({}–{})", us(least), us(greatest)),
        us(row.p99_ns),
        us(row.p999_ns),
        thousands(whole(row.commands_per_s)),
        thousands(row.server_cpu_ns_per_command),
        thousands(row.client_cpu_ns_per_command),
        ratio
    )
}

/// How often this row's median holds that of shared memory.
fn times_shm(row: &Row, block: &[Row]) -> Option<f64> {
    let shm = block.iter().find(|other| other.transport == Transport::Shm)?;
    (shm.p50_ns > 0).then(|| row.p50_ns as f64 / shm.p50_ns as f64)
}

/// One line of name=value pairs for each row.
pub(crate) fn lines(rows: &[Row]) -> String {
    let line = |row: &Row| {
        format!(
            "condition={} transport={} p50_ns={} p99_ns={} p999_ns={} commands_per_s={} \
             server_cpu_ns_per_command={} client_cpu_ns_per_command={}\n",
            row.condition,
            row.transport,
            row.p50_ns,
            row.p99_ns,
            row.p999_ns,
            row.commands_per_s,
            row.server_cpu_ns_per_command,
            row.client_cpu_ns_per_command
        )
    };
    rows.iter().map(line).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::round;
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |transport, ns| Row::of("one-core", transport, &[round(ns, 100)]);
        [(Transport::Unix, 9_000), (Transport::Shm, 4_500)]
            .into_iter()
            .filter_map(|(transport, ns)| row(transport, ns))
            .collect()
    }

    #[test]
    fn each_condition_is_named_once_and_compared() {
        let text = anstream::adapter::strip_str(&render(&rows())).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("one-core unix"), "{text}");
        assert!(lines[1].ends_with("2.00 ×"), "{text}");
        assert!(lines[2].trim_start().starts_with("shm") && lines[2].ends_with("1.00 ×"), "{text}");
    }

    #[test]
    fn no_rows_are_no_table() {
        assert_eq!(render(&[]), "");
    }

    #[test]
    fn quiet_lines_have_all_figures() {
        let text = lines(&rows());
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with("condition=one-core transport=unix p50_ns=9"), "{text}");
    }
}
