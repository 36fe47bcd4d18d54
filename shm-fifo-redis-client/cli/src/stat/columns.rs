//! The figures of a line, as a table for people and as pairs for programs.

use super::sample::Sample;
use crate::text::short;
use anstyle::Style;

const BOLD: Style = Style::new().bold();

/// The columns for people, in 79 places, each with room for five and a space.
const COLUMNS: [(&str, usize); 12] = [
    ("on shm", 6),
    ("hot", 6),
    ("offers", 7),
    ("refused", 8),
    ("MiB", 6),
    ("commands", 10),
    ("rung", 6),
    ("heard", 6),
    ("parks", 6),
    ("won", 6),
    ("lost", 6),
    ("CPU %", 6),
];
/// Titles of neighbours, and how wide those are together.
const GROUPS: [(&str, usize); 3] = [("connections", 33), ("per second", 28), ("spins per s", 18)];

/// By the names that programs get.
fn figures(before: &Sample, now: &Sample) -> [(&'static str, f64); 13] {
    let gauge = |value: u64| value as f64;
    // Of one core; the two clocks are not read at the same moment.
    let spin_percent = now.per_s(before, |counters| counters.spin_us) / 10_000.0;
    [
        ("sessions", gauge(now.sessions)),
        ("hot", gauge(now.hot)),
        ("offers", gauge(now.offers)),
        ("refused", now.refusals.as_ref().map_or(f64::NAN, |refusals| gauge(refusals.total()))),
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
    let names = line(COLUMNS.map(|(name, _)| name.to_owned()));
    format!("{BOLD}{}\n{names}{BOLD:#}", groups.concat())
}

pub(super) fn for_people(before: &Sample, now: &Sample) -> String {
    let [sessions, hot, offers, refused, bytes, rates @ ..] =
        figures(before, now).map(|(_, figure)| figure);
    let [commands, rung, heard, parks, won, expired, preempted, spin_percent] = rates;
    // Not counted is not 0.
    let refused = if refused.is_nan() { "-".to_owned() } else { short(refused) };
    let mib = bytes / f64::from(1 << 20);
    line([
        short(sessions),
        short(hot),
        short(offers),
        refused,
        if mib < 99.95 { format!("{mib:.1}") } else { short(mib) },
        short(commands),
        short(rung),
        short(heard),
        short(parks),
        short(won),
        short(expired + preempted),
        format!("{spin_percent:.1}"),
    ])
}

/// One line of name=value pairs.
pub(super) fn for_programs(before: &Sample, now: &Sample) -> String {
    let pairs = figures(before, now).map(|(name, value)| {
        let is_rate = name.ends_with("_per_s") || name.ends_with("_percent");
        if is_rate { format!("{name}={value:.1}") } else { format!("{name}={value}") }
    });
    pairs.join(" ") + "\n"
}

fn line(cells: [String; 12]) -> String {
    let mut line = String::new();
    for (cell, (_, width)) in cells.iter().zip(COLUMNS) {
        line += &format!("{cell:>width$}");
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn samples() -> (Sample, Sample) {
        let info = |commands: u64, spin_us: u64| {
            format!(
                "shm_sessions:3\nshm_sessions_hot:1\nshm_offers:0\nshm_region_bytes:405504\n\
                 shm_refused_max_sessions:122\nshm_refused_offer:0\n\
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
        let start = "sessions=3 hot=1 offers=0 refused=122 region_bytes=405504 \
                     commands_per_s=1000000.0 ";
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
        assert_eq!(lines[0].len(), 79, "{text}");
        assert!(lines[2].contains(" 122   0.4 ") && lines[2].contains(" 1.00M "), "{text}");
        assert!(lines[2].ends_with(" 25.0"), "{text}");
    }

    #[test]
    fn what_an_older_module_does_not_count_is_not_0() {
        let (before, mut now) = samples();
        now.refusals = None;
        assert!(for_programs(&before, &now).contains(" refused=NaN "));
        assert!(for_people(&before, &now).contains(" -   0.4 "));
    }
}
