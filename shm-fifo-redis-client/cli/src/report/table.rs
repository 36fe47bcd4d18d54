//! The table: one line for each command and transport.

use super::{BOLD, Row, colour, us};
use crate::text::{align, digits, large};
use crate::transport::Transport;

const HEADER: [&str; 8] =
    ["", "", "p50 µs", "p99 µs", "p99.9 µs", "max µs", "commands/s", "p50 / shm"];

/// The rows under `title`, numbers aligned to the right.
pub(super) fn render(title: &str, rows: &[Row]) -> String {
    let blocks = rows.chunk_by(|one, other| one.command == other.command);
    let of_block = |block: &[Row]| {
        let line = |(index, row)| cells(row, rows, index == 0);
        block.iter().enumerate().map(line).collect::<Vec<_>>()
    };
    let lines: Vec<[String; 8]> =
        [HEADER.map(str::to_owned)].into_iter().chain(blocks.flat_map(of_block)).collect();
    let lines = align(&lines, 2);
    let mut text = format!("{BOLD}{title}{BOLD:#}\n{}\n", lines[0]);
    for (row, line) in rows.iter().zip(&lines[1..]) {
        let is_shm = row.transport == Transport::Shm;
        let style = if is_shm { colour(row.transport) } else { anstyle::Style::new() };
        text += &format!("{style}{line}{style:#}\n");
    }
    text
}

fn cells(row: &Row, rows: &[Row], first: bool) -> [String; 8] {
    let ratio = row.times_shm(rows).map_or_else(String::new, |ratio| digits(ratio) + " ×");
    [
        if first { row.command.to_string() } else { String::new() },
        row.transport.to_string(),
        us(row.p50_ns),
        us(row.p99_ns),
        us(row.p999_ns),
        us(row.max_ns),
        large(row.commands_per_s),
        ratio,
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    #[test]
    fn every_row_is_there_and_aligned() {
        let text = anstream::adapter::strip_str(&render("A minimal client", &rows())).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2 + 9);
        let end = lines[1].chars().count();
        assert!(lines[2..].iter().all(|line| line.chars().count() == end), "{text}");
        assert!(lines[2].starts_with("PING  tcp "), "{text}");
        assert!(lines[2].ends_with("20.0 ×"), "{text}");
        assert!(lines[2].contains("20.0 ") && lines[2].contains("50,000"), "{text}");
    }
}
