//! The bar chart for the terminal.

use super::{BOLD, Row, colour, us};
use crate::transport::Transport;

const WIDTH_EIGHTHS: u64 = 56 * 8;
/// From one eighth of a character to seven.
const PARTS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// The medians as bars on one scale.
pub(super) fn render(rows: &[Row]) -> String {
    let longest_ns = rows.iter().map(|row| row.p50_ns).max().unwrap_or(0);
    let mut text = format!("{BOLD}Median round trip in µs{BOLD:#}\n");
    for row in rows {
        let command = if row.transport == Transport::ALL[0] { row.command.name() } else { "" };
        let style = colour(row.transport);
        let bar = bar(row.p50_ns, longest_ns);
        let p50 = us(row.p50_ns);
        text += &format!("{command:<5} {:<5} {style}{bar}{style:#} {p50}\n", row.transport);
    }
    text
}

fn bar(value: u64, longest: u64) -> String {
    let eighths = (value * WIDTH_EIGHTHS).checked_div(longest).unwrap_or(0).max(1);
    let full = usize::try_from(eighths / 8).unwrap_or(usize::MAX);
    let mut bar = "█".repeat(full);
    let part = usize::try_from(eighths % 8).unwrap_or(0);
    bar.extend(part.checked_sub(1).and_then(|part| PARTS.get(part)));
    bar
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    #[test]
    fn lengths_are_in_proportion() {
        assert_eq!(bar(100, 100), "█".repeat(56));
        assert_eq!(bar(50, 100), "█".repeat(28));
        assert_eq!(bar(1, 100), "▌");
    }

    #[test]
    fn the_shortest_bar_can_be_seen() {
        assert_eq!(bar(0, 100), "▏");
        assert_eq!(bar(0, 0), "▏");
    }

    #[test]
    fn every_row_has_its_bar() {
        let text = anstream::adapter::strip_str(&render(&rows())).to_string();
        assert_eq!(text.lines().count(), 1 + 9);
        assert!(text.lines().any(|line| line.starts_with("PING  tcp   ███")), "{text}");
    }
}
