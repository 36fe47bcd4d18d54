//! The rows as text: a line for each contender, a column for each length.

use crate::row::Row;
use crate::run::has_moved;
use crate::suite::{RTT_BYTES, STREAM_BYTES};

pub fn print(rows: &[Row], names: &[&'static str], machine: &str) {
    println!("{machine}\n");
    print_one("Round trip, p50 / p99 in ns (p50 by the line)", rows, names, &RTT_BYTES, |row| {
        match row {
            Row::Rtt { p50_ns, p99_ns, by_line, .. } => {
                Some(format!("{p50_ns:.0} / {p99_ns:.0} ({by_line:.2})"))
            }
            Row::Stream { .. } => None,
        }
    });
    print_one("One way, GB/s (million messages/s)", rows, names, &STREAM_BYTES, |row| match row {
        Row::Stream { gb_per_s, messages_per_s, .. } => {
            Some(format!("{gb_per_s:.2} ({:.2})", messages_per_s / 1e6))
        }
        Row::Rtt { .. } => None,
    });
    print_ruler(rows);
}

/// What a cache line took there and back, beside each of the rows.
fn print_ruler(rows: &[Row]) {
    let mut lines: Vec<f64> = rows.iter().map(Row::line_ns).collect();
    lines.sort_by(f64::total_cmp);
    if let [least, .., most] = lines[..] {
        println!("A cache line took {least:.0} to {most:.0} ns there and back.");
    }
    if has_moved(&lines) {
        println!(
            "The CPUs' distance changed meanwhile: compare what is \"by the line\", or run it again."
        );
    }
    println!();
}

fn print_one(
    title: &str,
    rows: &[Row],
    names: &[&'static str],
    lengths: &[usize],
    cell: impl Fn(&Row) -> Option<String>,
) {
    let line_of = |name: &str| -> Vec<String> {
        let cell_of = |&bytes: &usize| {
            let mut cells = rows.iter().filter(|row| row.is_of(name, bytes)).filter_map(&cell);
            cells.next().unwrap_or_default()
        };
        lengths.iter().map(cell_of).collect()
    };
    println!("{title}");
    let heading = lengths.iter().map(|bytes| format!("{bytes} B")).collect();
    print_line("", heading);
    for name in names {
        let line = line_of(name);
        if line.iter().any(|cell| !cell.is_empty()) {
            print_line(name, line);
        }
    }
    println!();
}

fn print_line(name: &str, cells: Vec<String>) {
    let cells: String = cells.iter().map(|cell| format!("{cell:>22}")).collect();
    println!("{name:<22}{cells}");
}
