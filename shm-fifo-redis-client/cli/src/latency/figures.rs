//! The figures as text, for people and for programs.

use super::args::LatencyArgs;
use super::probe::Probe;
use super::row::Row;
use crate::report;
use crate::text::thousands;
use crate::transport::Transport;
use anstyle::Style;
use std::io::{self, IsTerminal};
use std::time::Duration;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
/// Of min, avg, p50, p99, p99.9, max: room for what is usual, and a space before it.
/// With a label of five places and the factor a line has 79.
const WIDTHS: [usize; 6] = [7, 8, 8, 8, 9, 10];

/// What is measured, how, and how it ends.
pub(crate) fn title(args: &LatencyArgs, probes: &[Probe]) -> String {
    let over = match probes {
        [probe] => format!("over {} to {}", probe.transport, probe.target),
        _ => {
            let targets: Vec<String> = probes
                .iter()
                .filter(|probe| probe.transport != Transport::Shm)
                .map(|probe| probe.target.to_string())
                .collect();
            format!("in turns to {}", targets.join(" and "))
        }
    };
    let pace = match args.sample_rate_us() {
        0 => "back to back".to_owned(),
        us => format!("each after {} of sleep (none: --sample-rate 0)", time(us * 1000)),
    };
    format!("{BOLD}PING {over}{BOLD:#}\nround trips in µs, {pace}\n")
}

/// The table of `rows`, each with its transport and how it compares.
pub(crate) fn table(rows: &[Row]) -> String {
    let compares = rows.len() > 1;
    let mut text = heading("", 5) + if compares { "   / shm" } else { "" } + "\n";
    for row in rows {
        let style = report::colour(row.transport);
        let line = line(row.transport.name(), 5, row);
        let factor =
            factor(row, rows).map_or_else(String::new, |factor| format!("{:>6.1} ×", factor));
        text += &format!("{style}{line}{factor}{style:#}\n");
    }
    text
}

/// Above lines whose labels have `width` places.
pub(crate) fn heading(label: &str, width: usize) -> String {
    let mut text = format!("{label:<width$}");
    for (name, width) in ["min", "avg", "p50", "p99", "p99.9", "max"].into_iter().zip(WIDTHS) {
        text += &format!(" {name:>width$}");
    }
    text + &format!(" {:>9}", "samples")
}

pub(crate) fn line(label: &str, width: usize, row: &Row) -> String {
    let mut text = format!("{label:<width$}");
    for ((_, us), width) in row.figures_us().into_iter().zip(WIDTHS) {
        text += &format!(" {us:>width$.3}");
    }
    text + &format!(" {:>9}", thousands(row.samples))
}

/// Below the figures.
pub(crate) fn elapsed(elapsed: Duration, end: &str) -> String {
    format!("{DIM}{:.1} s{end}{DIM:#}\n", elapsed.as_secs_f64())
}

/// How a run ends, where that is for the user to do.
pub(crate) fn end(args: &LatencyArgs) -> &'static str {
    if args.has_an_end() { "" } else { ", until Ctrl-C" }
}

/// What people are to know of the figures where nobody has chosen the pause before each.
pub(crate) fn hint(args: &LatencyArgs) -> Option<&'static str> {
    const HINT: &str = "\
Both sides sleep before each PING, and waking them up is in these figures. For
a busy connection's: --sample-rate 0. All transports side by side: --compare.
";
    let is_chosen = args.sample_rate.is_some() || args.sample_rate_us() == 0;
    (!is_chosen && io::stderr().is_terminal()).then_some(HINT)
}

/// A line of name=value pairs, without its end.
pub(crate) fn pairs(row: &Row) -> String {
    let mut line = format!("transport={} samples={}", row.transport, row.samples);
    for (name, us) in row.figures_us() {
        line += &format!(" {}_us={us:.3}", name.replace('.', ""));
    }
    line
}

/// A line for each transport, and how it compares if there are several.
pub(crate) fn pairs_of_all(rows: &[Row]) -> String {
    let line = |row| match factor(row, rows) {
        Some(factor) => format!("{} p50_by_shm={factor:.3}\n", pairs(row)),
        None => pairs(row) + "\n",
    };
    rows.iter().map(line).collect()
}

/// How many times the round trip of shared memory it takes.
fn factor(row: &Row, rows: &[Row]) -> Option<f64> {
    row.times_shm(rows).filter(|_| rows.len() > 1)
}

/// A time in the unit that fits.
pub(crate) fn time(ns: u64) -> String {
    match ns {
        1_000_000_000.. => format!("{} s", ns as f64 / 1e9),
        1_000_000.. => format!("{} ms", ns as f64 / 1e6),
        1_000.. => format!("{} µs", ns as f64 / 1e3),
        _ => format!("{ns} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(transport: Transport, p50_ns: u64) -> Row {
        Row {
            transport,
            sample_rate_us: 0,
            start_s: 0.0,
            seconds: 3.0,
            samples: 1_234_567,
            min_ns: p50_ns / 2,
            avg_ns: p50_ns as f64,
            p50_ns,
            p99_ns: p50_ns * 10,
            p999_ns: p50_ns * 100,
            max_ns: p50_ns * 1000,
            buckets: None,
        }
    }

    #[test]
    fn programs_get_a_line_of_pairs() {
        let expected = "transport=unix samples=1234567 min_us=1.000 avg_us=2.000 p50_us=2.000 \
                        p99_us=20.000 p999_us=200.000 max_us=2000.000\n";
        assert_eq!(pairs_of_all(&[row(Transport::Unix, 2_000)]), expected);
    }

    #[test]
    fn programs_are_told_how_several_compare() {
        let text = pairs_of_all(&[row(Transport::Tcp, 30_000), row(Transport::Shm, 1_000)]);
        let factors: Vec<_> = text.lines().filter_map(|line| line.rsplit_once(' ')).collect();
        assert_eq!(factors[0].1, "p50_by_shm=30.000");
        assert_eq!(factors[1].1, "p50_by_shm=1.000");
    }

    #[test]
    fn people_get_aligned_columns_that_fit_into_a_terminal() {
        let rows = [row(Transport::Tcp, 30_123), row(Transport::Shm, 701)];
        let text = anstream::adapter::strip_str(&table(&rows)).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() == 79), "{text}");
        assert!(lines[1].starts_with("tcp ") && lines[1].ends_with("43.0 ×"), "{text}");
        assert!(lines[2].contains(" 0.701 "), "{text}");
    }

    #[test]
    fn columns_stay_apart_whatever_is_in_them() {
        let text = line("shm", 5, &row(Transport::Shm, 9_999_999_999));
        assert_eq!(text.split_whitespace().count(), 8, "{text}");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        let texts = [700, 20_000, 1_500_000, 2_000_000_000].map(time);
        assert_eq!(texts, ["700 ns", "20 µs", "1.5 ms", "2 s"]);
    }
}
