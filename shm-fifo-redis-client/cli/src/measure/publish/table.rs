//! Tables for readers, made once and written as Markdown or as HTML.

use super::cpu::PerCommand;
use crate::measure::bench::conditions::row::Row as ConditionRow;
use crate::measure::bench::example::Example;
use crate::measure::bench::row::{Cell, Outcome, Row as SweepRow};
use crate::measure::bench::table::times_best_socket;
use crate::measure::plot::sheet::label;
use crate::report::{Report, Row, us};
use crate::text::{digits, large, significant, thousands};
use crate::transport::Transport;

/// Cells as text; the first `left` columns are words, the others numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) left: usize,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = |column| if column < self.left { "---" } else { "---:" };
        let rules: Vec<&str> = (0..self.head.len()).map(rule).collect();
        let mut text = line(&self.head) + &format!("|{}|\n", rules.join("|"));
        self.rows.iter().for_each(|row| text += &line(row));
        text
    }
}

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Latency by transport.
pub(crate) fn round_trips(report: &Report) -> Table {
    let rows = &report.results;
    let mut table = Table {
        left: 2,
        head: head(&[
            "Command",
            "",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "max µs",
            "commands/s",
            "p50 / shm",
        ]),
        rows: Vec::new(),
    };
    for block in rows.chunk_by(|one, other| one.command == other.command) {
        for (index, row) in block.iter().enumerate() {
            table.rows.push(round_trip(row, rows, index == 0));
        }
    }
    table
}

fn round_trip(row: &Row, rows: &[Row], first: bool) -> Vec<String> {
    vec![
        if first { row.command.to_string() } else { String::new() },
        label(row.transport).to_owned(),
        us(row.p50_ns),
        us(row.p99_ns),
        us(row.p999_ns),
        us(row.max_ns),
        large(row.commands_per_s),
        row.times_shm(rows).map_or_else(String::new, digits),
    ]
}

/// A line for each depth: the better socket, shared memory and their ratio, for each
/// command. All `outcomes` have as many clients.
pub(crate) fn sweep(outcomes: &[Outcome]) -> Table {
    let rows: Vec<&SweepRow> = outcomes.iter().map(|outcome| &outcome.row).collect();
    let by = |cell: Cell| Cell { pipeline: 0, ..cell };
    let blocks: Vec<&[&SweepRow]> =
        rows.chunk_by(|one, other| by(one.cell) == by(other.cell)).collect();
    let mut names = head(&["Depth"]);
    for block in &blocks {
        let command = block[0].cell.command;
        names.extend([format!("{command} socket"), "shm".to_owned(), "×".to_owned()]);
    }
    let mut depths: Vec<u64> = rows.iter().map(|row| row.cell.pipeline).collect();
    depths.sort_unstable();
    depths.dedup();
    let line = |depth: u64| {
        let of_depth = |block: &&[&SweepRow]| {
            let rows = block.iter().filter(|row| row.cell.pipeline == depth);
            beside(&rows.copied().collect::<Vec<_>>())
        };
        let mut cells = vec![thousands(depth)];
        cells.extend(blocks.iter().flat_map(of_depth));
        cells
    };
    Table { left: 0, head: names, rows: depths.into_iter().map(line).collect() }
}

/// A line for each command, size and depth, with all numbers of clients beside each
/// other.
pub(crate) fn values(outcomes: &[Outcome]) -> Table {
    let rows: Vec<&SweepRow> = outcomes.iter().map(|outcome| &outcome.row).collect();
    let mut clients: Vec<u64> = rows.iter().map(|row| row.cell.clients).collect();
    clients.sort_unstable();
    clients.dedup();
    let mut names = head(&["Command", "Value B", "Depth"]);
    for &count in &clients {
        let plural = if count == 1 { "" } else { "s" };
        names.extend([format!("{count} client{plural}, socket"), "shm".into(), "×".into()]);
    }
    let mut lines: Vec<Cell> = Vec::new();
    for row in &rows {
        let cell = Cell { clients: 0, ..row.cell };
        if !lines.contains(&cell) {
            lines.push(cell);
        }
    }
    let line = |cell: Cell| {
        let mut cells =
            vec![cell.command.to_string(), thousands(cell.value_bytes), thousands(cell.pipeline)];
        for &clients in &clients {
            let these = rows.iter().filter(|row| row.cell == Cell { clients, ..cell });
            cells.extend(beside(&these.copied().collect::<Vec<_>>()));
        }
        cells
    };
    Table { left: 1, head: names, rows: lines.into_iter().map(line).collect() }
}

/// The better socket and shared memory in thousand commands per second, and the
/// ratio.
fn beside(rows: &[&SweepRow]) -> [String; 3] {
    let in_thousands =
        |rate: Option<f64>| rate.map_or_else(String::new, |rate| large(rate / 1000.0));
    let (shm, sockets): (Vec<&SweepRow>, Vec<&SweepRow>) =
        rows.iter().partition(|row| row.transport == Transport::Shm);
    let best = sockets.iter().map(|row| row.commands_per_s).reduce(f64::max);
    let ratio = times_best_socket(rows).map_or_else(String::new, digits);
    [in_thousands(best), in_thousands(shm.first().map(|row| row.commands_per_s)), ratio]
}

/// The pipelining page's example.
pub(crate) fn example(examples: &[Example]) -> Table {
    let row = |one: &Example| {
        let seconds = |seconds: f64| significant(seconds, 3).to_string();
        vec![label(one.transport).to_owned(), seconds(one.without_s), seconds(one.with_s)]
    };
    Table {
        left: 1,
        head: head(&["10,000 PINGs", "Without pipelining s", "With pipelining s"]),
        rows: examples.iter().map(row).collect(),
    }
}

pub(crate) fn conditions(rows: &[ConditionRow]) -> Table {
    let mut table = Table {
        left: 2,
        head: head(&[
            "Condition",
            "",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "commands/s",
            "server CPU ns",
            "client CPU ns",
        ]),
        rows: Vec::new(),
    };
    for block in rows.chunk_by(|one, other| one.condition == other.condition) {
        for (index, row) in block.iter().enumerate() {
            table.rows.push(vec![
                if index == 0 { row.condition.clone() } else { String::new() },
                row.transport.to_string(),
                us(row.p50_ns),
                us(row.p99_ns),
                us(row.p999_ns),
                large(row.commands_per_s),
                large(row.server_cpu_ns_per_command as f64),
                large(row.client_cpu_ns_per_command as f64),
            ]);
        }
    }
    table
}

pub(crate) fn cpu(found: &[PerCommand]) -> Table {
    let row = |one: &PerCommand| {
        let both = one.server_ns + one.client_ns;
        let [server, client, both] =
            [one.server_ns, one.client_ns, both].map(|ns| large(ns as f64));
        vec![label(one.transport).to_owned(), server, client, both]
    };
    Table {
        left: 1,
        head: head(&["CPU time of a PING", "server ns", "client ns", "together ns"]),
        rows: found.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::bench::conditions::row::tests::round;
    use crate::measure::bench::row::tests::outcome;
    use crate::report::tests::report;

    #[test]
    fn markdown_has_words_at_the_left_and_numbers_at_the_right() {
        let text = round_trips(&report()).markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "|---|---|---:|---:|---:|---:|---:|---:|");
        assert_eq!(lines[2], "| PING | TCP | 20.0 | 40.0 | 60.0 | 2000 | 50,000 | 20.0 |");
        assert!(lines[3].starts_with("|  | unix socket | 12.0 |"), "{text}");
        assert_eq!(lines.len(), 2 + 9);
    }

    #[test]
    fn a_sweep_has_the_better_socket_and_the_ratio() {
        let outcomes = [
            outcome(Transport::Tcp, 1, 40_000.0),
            outcome(Transport::Unix, 1, 60_000.0),
            outcome(Transport::Shm, 1, 1_500_000.0),
            outcome(Transport::Unix, 16, 120_000.0),
        ];
        let expected = "| Depth | PING socket | shm | × |\n|---:|---:|---:|---:|\n\
                        | 1 | 60 | 1,500 | 25.0 |\n| 16 | 120 |  |  |\n";
        assert_eq!(sweep(&outcomes).markdown(), expected);
        let values = values(&outcomes);
        assert_eq!(values.head[3], "1 client, socket");
        assert_eq!(values.rows[0], ["PING", "0", "1", "60", "1,500", "25.0"]);
    }

    #[test]
    fn each_condition_is_named_once() {
        let of = |transport| ConditionRow::of("one-core", transport, &[round(9_000, 100)]);
        let rows: Vec<_> = [Transport::Unix, Transport::Shm].into_iter().filter_map(of).collect();
        let table = conditions(&rows);
        let names: Vec<&str> = table.rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(names, ["one-core", ""]);
    }
}
