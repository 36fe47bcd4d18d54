//! Latency by transport: the medians as bars, with a line up to the 99th percentile, and both as
//! figures.

use super::colour::{self, FAINT, INK};
use super::rough;
use super::scale::Scale;
use super::sheet::{self, MARGIN, WIDTH, Words, label, rule, text};
use crate::exchange::Command;
use crate::report::{Report, Row};
use crate::text::thousands;
use crate::transport::Transport;
use svg::node::element::{Group, Line, Rectangle};

// All lengths in pixels of the picture at its own size.
const LEFT: f64 = 218.0;
const RIGHT: f64 = 546.0;
const BAR: f64 = 24.0;
const BAR_PITCH: f64 = 30.0;
const GROUP_GAP: f64 = 20.0;
/// The figures' columns: what they are, and where they end.
const COLUMNS: [(&str, f64); 3] =
    [("p50 µs", 630.0), ("p99 µs", 714.0), ("p50 / shm", WIDTH - MARGIN)];

pub(crate) fn render(report: &Report) -> String {
    let rows = &report.results;
    let requests = rows.first().map_or(0, |row| row.requests);
    let scale = BarScale::of(rows);
    let is_open = rows.iter().any(|row| !scale.shows(row.p99_ns));
    let words = Words {
        title: title(rows),
        subtitle: format!(
            "Shorter is better. Bar: half of the round trips are shorter (median, p50). Line: 99 of \
             100 are (p99){}.",
            if is_open { "; without an end it goes on" } else { "" }
        ),
        caption: [
            format!(
                "One client, one request at a time, {} requests per bar, transports in turns.",
                thousands(requests)
            ),
            report.heading.to_string(),
        ],
    };
    sheet::render(&words, |above| {
        let top = above + 34.0;
        let groups = rows.chunk_by(|one, other| one.command == other.command).count();
        let bottom = top + rows.len() as f64 * BAR_PITCH + groups as f64 * GROUP_GAP;
        let group = Group::new().add(columns(top)).add(axis(&scale, top, bottom));
        (group.add(bars(rows, &scale, top)), bottom + 50.0)
    })
}

/// What the picture shows, from its own numbers.
fn title(rows: &[Row]) -> String {
    let time = |transport: Transport| {
        let is_it = |row: &&Row| row.transport == transport && row.command == Command::Ping;
        let us = rough(rows.iter().find(is_it)?.p50_ns as f64 / 1000.0);
        Some(match transport {
            Transport::Shm => format!("{us} µs in shared memory"),
            Transport::Unix => format!("{us} µs over a unix socket"),
            Transport::Tcp => format!("{us} µs over TCP"),
        })
    };
    let mut times: Vec<String> = Transport::ALL.into_iter().filter_map(time).collect();
    if times.is_empty() {
        return "Redis latency by transport".to_owned();
    }
    times.reverse();
    format!("A Redis PING takes {} (medians)", times.join(", "))
}

fn columns(top: f64) -> Group {
    let head = |(name, end)| text(end, top - 4.0, 14, FAINT, name).set("text-anchor", "end");
    COLUMNS.map(head).into_iter().fold(Group::new(), Group::add)
}

fn bars(rows: &[Row], scale: &BarScale, top: f64) -> Group {
    let mut group = Group::new();
    let mut y = top;
    for block in rows.chunk_by(|one, other| one.command == other.command) {
        y += GROUP_GAP / 2.0;
        let middle = y + BAR_PITCH * block.len() as f64 / 2.0;
        let name = block.first().map_or("", |row| row.command.name());
        group = group.add(text(MARGIN, middle + 3.0, 17, INK, name).set("font-weight", "bold"));
        for row in block {
            group = group.add(bar(row, scale, y)).add(figures(row, rows, y + BAR / 2.0 + 5.0));
            y += BAR_PITCH;
        }
        y += GROUP_GAP / 2.0;
    }
    group
}

fn bar(row: &Row, scale: &BarScale, y: f64) -> Group {
    let (p50, p99) = (scale.x(row.p50_ns), scale.x(row.p99_ns));
    let middle = y + BAR / 2.0;
    // A line that goes on beyond the picture has no end.
    let end = if scale.shows(row.p99_ns) { 5.0 } else { 0.0 };
    let label = text(LEFT - 10.0, middle + 5.0, 15, INK, label(row.transport));
    let stroke = |x1: f64, x2: f64, y1: f64, y2: f64| {
        let line = Line::new().set("x1", x1).set("x2", x2).set("y1", y1).set("y2", y2);
        INK.stroke(line.set("stroke-width", 1.5))
    };
    let bar = Rectangle::new().set("x", LEFT).set("y", y).set("width", round(p50 - LEFT));
    Group::new()
        .add(label.set("text-anchor", "end"))
        .add(colour::of(row.transport).paint(bar.set("height", BAR).set("rx", 2)))
        .add(stroke(p50, p99, middle, middle))
        .add(stroke(p99, p99, middle - end, middle + end))
}

/// Both percentiles, and how often the median holds that of shared memory.
fn figures(row: &Row, rows: &[Row], baseline: f64) -> Group {
    let us = |ns: u64| rough(ns as f64 / 1000.0);
    let ratio = row.times_shm(rows).map_or_else(String::new, |ratio| rough(ratio) + "×");
    let figures = [us(row.p50_ns), us(row.p99_ns), ratio];
    let mut group = Group::new();
    for ((_, end), (index, figure)) in COLUMNS.into_iter().zip(figures.iter().enumerate()) {
        let figure = text(end, baseline, 15, INK, figure).set("text-anchor", "end");
        let weight = if index == 0 { "bold" } else { "normal" };
        group = group.add(figure.set("font-weight", weight));
    }
    group
}

fn axis(scale: &BarScale, top: f64, bottom: f64) -> Group {
    let name =
        text((LEFT + RIGHT) / 2.0, bottom + 42.0, 15, INK, "round trip of one command in µs");
    let mut group = Group::new().add(name.set("text-anchor", "middle"));
    for tick_us in scale.ticks_us() {
        let x = scale.x(tick_us * 1000);
        let label = text(x, bottom + 18.0, 14, FAINT, &thousands(tick_us));
        group = group.add(rule((x, top), (x, bottom))).add(label.set("text-anchor", "middle"));
    }
    group
}

/// To what a pixel shows.
fn round(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

/// From nanoseconds to pixels.
struct BarScale {
    scale: Scale,
    step_us: u64,
}

impl BarScale {
    /// Long enough for every line, but not so long that the bars get lost.
    fn of(rows: &[Row]) -> Self {
        let longest = |ns: fn(&Row) -> u64| rows.iter().map(ns).max().unwrap_or(0);
        Self::up_to(longest(|row| row.p99_ns).min(longest(|row| row.p50_ns) * 5 / 2))
    }

    fn up_to(longest_ns: u64) -> Self {
        // Five or so ticks, at round numbers.
        let longest_us = longest_ns.div_ceil(1000).max(1);
        let steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];
        let step_us = steps.into_iter().find(|step| longest_us / step <= 6).unwrap_or(longest_us);
        Self { scale: Scale::linear((longest_us * 1000) as f64), step_us }
    }

    fn shows(&self, ns: u64) -> bool {
        self.scale.shows(ns as f64)
    }

    fn x(&self, ns: u64) -> f64 {
        round(LEFT + (RIGHT - LEFT) * self.scale.part(ns as f64))
    }

    fn ticks_us(&self) -> impl Iterator<Item = u64> + use<'_> {
        (0..).map(|tick| tick * self.step_us).take_while(|&us| self.shows(us * 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::super::png::tests::assert_readable;
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn the_picture_names_machine_server_and_figures() {
        let svg = render(&report());
        for text in ["CPU &lt;1&gt;, 2 cores,", "Redis 7.0.15", "2026-11-21", "\n40\n", "12×"] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
        let title = "A Redis PING takes 1.0 µs in shared memory, 12 µs over a unix socket, 20 µs \
                     over TCP (medians)";
        assert!(svg.contains(title), "{title} is not in {svg}");
        assert_readable(&svg);
    }

    #[test]
    fn the_scale_ends_at_the_longest_line() {
        let scale = BarScale::up_to(44_000);
        assert!((scale.x(0) - LEFT).abs() < 0.1);
        assert!((scale.x(44_000) - RIGHT).abs() < 0.1);
        assert_eq!(scale.ticks_us().collect::<Vec<_>>(), [0, 10, 20, 30, 40]);
    }

    #[test]
    fn a_rare_pause_does_not_squeeze_the_bars() {
        let mut report = report();
        assert!(!render(&report).contains("it goes on"));
        report.results[0].p99_ns = 10_000_000;
        let scale = BarScale::of(&report.results);
        assert!(!scale.shows(report.results[0].p99_ns));
        assert!((scale.x(report.results[0].p99_ns) - RIGHT).abs() < 0.1);
        assert!(scale.x(report.results[0].p50_ns) > LEFT + (RIGHT - LEFT) / 4.0);
        assert!(render(&report).contains("it goes on"));
    }

    #[test]
    fn long_figures_have_room() {
        let mut report = report();
        for row in &mut report.results {
            row.p50_ns = 12_345_678;
            row.p99_ns = 99_999_999;
        }
        report.results[2].p50_ns = 1_000;
        let svg = render(&report);
        assert!(svg.contains("12,000×"), "{svg}");
        assert_readable(&svg);
    }

    #[test]
    fn a_transport_that_was_not_measured_is_not_drawn() {
        let mut report = report();
        report.results.retain(|row| row.transport != Transport::Tcp);
        let svg = render(&report);
        assert!(svg.contains("unix socket") && !svg.contains("TCP"), "{svg}");
        assert_eq!(svg.matches("GET").count(), 1, "{svg}");
    }

    #[test]
    fn no_rows_make_an_empty_picture() {
        let mut report = report();
        report.results.clear();
        assert!(render(&report).contains("</svg>"));
    }
}
