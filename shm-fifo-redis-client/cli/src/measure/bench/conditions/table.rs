//! The conditions for people: a block for each, a line for each transport.

use super::row::Row;
use crate::text::{align, digits, large};
use crate::transport::Transport;
use anstyle::{AnsiColor, Style};

const BOLD: Style = Style::new().bold();
const SHM: Style = AnsiColor::Green.on_default();
const HEADER: [&str; 9] =
    ["", "p50", "(range)", "p99", "p99.9", "commands/s", "server", "client", "/ shm"];

pub(crate) fn render(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let lines = [HEADER.map(str::to_owned)].into_iter();
    let blocks = rows.chunk_by(|one, other| one.condition == other.condition);
    let cells = blocks.flat_map(|block| block.iter().map(|row| cells(row, block)));
    let lines = align(&lines.chain(cells).collect::<Vec<_>>(), 1);
    let mut text = format!("{}\n", lines[0]);
    let mut condition = "";
    for (row, line) in rows.iter().zip(&lines[1..]) {
        if row.condition != condition {
            condition = &row.condition;
            text += &format!("{BOLD}{condition}{BOLD:#}\n");
        }
        let style = if row.transport == Transport::Shm { SHM } else { Style::new() };
        text += &format!("{style}{line}{style:#}\n");
    }
    text + "times in µs; server and client: CPU time for each command\n"
}

fn cells(row: &Row, block: &[Row]) -> [String; 9] {
    let us = |ns: u64| digits(ns as f64 / 1000.0);
    let (least, greatest) = row.p50_range_ns;
    [
        format!("  {}", row.transport),
        us(row.p50_ns),
        format!("({}–{})", us(least), us(greatest)),
        us(row.p99_ns),
        us(row.p999_ns),
        large(row.commands_per_s),
        us(row.server_cpu_ns_per_command),
        us(row.client_cpu_ns_per_command),
        times_shm(row, block).map_or_else(String::new, |ratio| digits(ratio) + " ×"),
    ]
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
        assert_eq!(lines[1], "one-core");
        assert!(lines[2].starts_with("  unix  9.00  (9.00–9.00) "), "{text}");
        assert!(lines[2].ends_with("2.00 ×"), "{text}");
        assert!(lines[3].starts_with("  shm ") && lines[3].ends_with("1.00 ×"), "{text}");
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
