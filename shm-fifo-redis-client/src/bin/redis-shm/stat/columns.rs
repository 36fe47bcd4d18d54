//! The figures of a line, as a table for people and as pairs for programs.

use super::sample::Sample;
use crate::report::thousands;
use anstyle::Style;

const BOLD: Style = Style::new().bold();

const WIDTHS: [usize; 12] = [8, 6, 7, 8, 10, 10, 10, 8, 8, 8, 8, 6];
/// Titles of neighbours, and how wide those are together.
const GROUPS: [(&str, usize); 3] =
    [("connections", 29), ("per second", 38), ("spins per second", 30)];

/// By the names that programs get.
fn figures(before: &Sample, now: &Sample) -> [(&'static str, f64); 12] {
    let gauge = |value: u64| value as f64;
    // Of one core; the two clocks are not read at the same moment.
    let spin_percent = now.per_s(before, |counters| counters.spin_us) / 10_000.0;
    [
        ("sessions", gauge(now.sessions)),
        ("hot", gauge(now.hot)),
        ("offers", gauge(now.offers)),
        ("region_bytes", gauge(now.region_bytes)),
        ("commands_per_s", now.per_s(before, |counters| counters.commands)),
        ("doorbells_sent_per_s", now.per_s(before, |counters| counters.doorbells_sent)),
        ("doorbells_received_per_s", now.per_s(before, |counters| counters.doorbells_received)),
        ("parks_per_s", now.per_s(before, |counters| counters.parks)),
        ("spins_won_per_s", now.per_s(before, |counters| counters.spins_won)),
        ("spins_expired_per_s", now.per_s(before, |counters| counters.spins_expired)),
        ("spins_preempted_per_s", now.per_s(before, |counters| counters.spins_preempted)),
        ("spin_cpu_percent", spin_percent),
    ]
}

/// Lines of [`header`].
pub(super) const HEADER_LINES: u16 = 2;

/// What people get above the figures.
pub(super) fn header() -> String {
    let groups = GROUPS.map(|(title, width)| format!(" {:-^1$}", format!(" {title} "), width - 1));
    let names = line([
        "sessions",
        "hot",
        "offers",
        "KiB",
        "commands",
        "bells out",
        "bells in",
        "parks",
        "won",
        "expired",
        "preempt",
        "CPU %",
    ]);
    format!("{BOLD}{}\n{names}{BOLD:#}", groups.concat())
}

pub(super) fn for_people(before: &Sample, now: &Sample) -> String {
    let figures = figures(before, now);
    let cells = std::array::from_fn(|column| {
        let (name, value) = figures[column];
        match name {
            "region_bytes" => thousands(now.region_bytes.div_ceil(1024)),
            "spin_cpu_percent" => format!("{value:.1}"),
            _ => thousands(rounded(value)),
        }
    });
    line(cells.each_ref().map(String::as_str))
}

/// One line of name=value pairs.
pub(super) fn for_programs(before: &Sample, now: &Sample) -> String {
    let pairs = figures(before, now).map(|(name, value)| {
        let is_rate = name.ends_with("_per_s") || name.ends_with("_percent");
        if is_rate { format!("{name}={value:.1}") } else { format!("{name}={value}") }
    });
    pairs.join(" ") + "\n"
}

fn line(cells: [&str; 12]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.into_iter().zip(WIDTHS) {
        line += &format!("{cell:>width$}");
    }
    line + "\n"
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn rounded(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn samples() -> (Sample, Sample) {
        let info = |commands: u64, spin_us: u64| {
            format!(
                "shm_sessions:3\nshm_sessions_hot:1\nshm_offers:0\nshm_region_bytes:405504\n\
                 shm_spin_us:{spin_us}\ntotal_commands_processed:{commands}\n"
            )
        };
        let before = Sample::from_info(&info(0, 0)).expect("a sample");
        let now = Sample::from_info(&info(2_000_000, 500_000)).expect("a sample");
        (before.clone(), now.later(&before, Duration::from_secs(2)))
    }

    #[test]
    fn programs_get_one_line_of_pairs() {
        let (before, now) = samples();
        let line = for_programs(&before, &now);
        let start = "sessions=3 hot=1 offers=0 region_bytes=405504 commands_per_s=1000000.0 ";
        assert!(line.starts_with(start), "{line}");
        assert!(line.ends_with(" spin_cpu_percent=25.0\n"), "{line}");
    }

    #[test]
    fn people_get_columns_that_stand_below_their_names() {
        let (before, now) = samples();
        let text = header() + &for_people(&before, &now);
        let text = anstream::adapter::strip_str(&text).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
        assert!(lines[0].len() <= 100, "{text}");
        assert!(lines[2].contains(" 396 ") && lines[2].contains("1,000,000"), "{text}");
        assert!(lines[2].ends_with(" 25.0"), "{text}");
    }
}
