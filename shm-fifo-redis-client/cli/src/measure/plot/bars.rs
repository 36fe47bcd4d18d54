//! Latency by transport: the medians as bars, with a line up to the 99th percentile.

use super::scale::Scale;
use super::sheet::{self, FAINT, INK, MARGIN, WIDTH, Words, colour, label, rule, text};
use crate::report::{Report, Row, thousands, us};
use crate::transport::Transport;
use svg::node::element::{Group, Line, Rectangle};

// All lengths in pixels of the picture at its own size.
const LEFT: f64 = 212.0;
const BAR: f64 = 24.0;
const BAR_PITCH: f64 = 30.0;
const GROUP_GAP: f64 = 20.0;
/// Between a line's end and its value.
const VALUE_GAP: f64 = 10.0;
/// Width of a letter of the values.
const VALUE_LETTER: f64 = 10.2;

pub(crate) fn render(report: &Report) -> String {
    let rows = &report.results;
    let requests = rows.first().map_or(0, |row| row.requests);
    let words = Words {
        title: title(rows),
        subtitle: "Round trip of one command in microseconds; shorter is better. Bar: median. \
                   Line: up to the 99th percentile. Factor: median compared with shared memory."
            .to_owned(),
        caption: [
            format!(
                "One client, one request at a time, {} requests per bar, transports in turns.",
                thousands(requests)
            ),
            report.heading.to_string(),
        ],
    };
    let scale = BarScale::of(rows);
    sheet::render(&words, |above| {
        let top = above + 10.0;
        let groups = rows.chunk_by(|one, other| one.command == other.command).count();
        let bottom = top + rows.len() as f64 * BAR_PITCH + groups as f64 * GROUP_GAP;
        (Group::new().add(axis(&scale, top, bottom)).add(bars(rows, &scale, top)), bottom + 26.0)
    })
}

/// What the picture shows, from its own numbers.
fn title(rows: &[Row]) -> String {
    let ping = |transport| {
        let row = rows.iter().find(|row| row.transport == transport && row.command == "PING");
        row.and_then(|row| row.times_shm(rows))
    };
    match (ping(Transport::Unix), ping(Transport::Tcp)) {
        (Some(unix), Some(tcp)) if unix > 1.05 && tcp > 1.05 => format!(
            "Redis PING: shared memory is {unix:.1}× faster than a unix socket, {tcp:.1}× than TCP"
        ),
        _ => "Redis latency by transport".to_owned(),
    }
}

fn bars(rows: &[Row], scale: &BarScale, top: f64) -> Group {
    let mut group = Group::new();
    let mut y = top;
    for block in rows.chunk_by(|one, other| one.command == other.command) {
        y += GROUP_GAP / 2.0;
        let middle = y + BAR_PITCH * block.len() as f64 / 2.0;
        let name = block.first().map_or("", |row| row.command);
        group = group.add(text(MARGIN, middle + 3.0, 17, INK, name).set("font-weight", "bold"));
        for row in block {
            group = group.add(bar(row, rows, scale, y));
            y += BAR_PITCH;
        }
        y += GROUP_GAP / 2.0;
    }
    group
}

fn bar(row: &Row, rows: &[Row], scale: &BarScale, y: f64) -> Group {
    let (p50, p99) = (scale.x(row.p50_ns), scale.x(row.p99_ns));
    let middle = y + BAR / 2.0;
    // A line that goes on beyond the picture has no end.
    let end = if scale.shows(row.p99_ns) { 5.0 } else { 0.0 };
    let label = text(LEFT - 10.0, middle + 5.0, 15, INK, label(row.transport));
    let stroke = |x1: f64, x2: f64, y1: f64, y2: f64| {
        let line = Line::new().set("x1", x1).set("x2", x2).set("y1", y1).set("y2", y2);
        line.set("stroke", INK).set("stroke-width", 1.5)
    };
    Group::new()
        .add(label.set("text-anchor", "end"))
        .add(
            Rectangle::new()
                .set("x", LEFT)
                .set("y", y)
                .set("width", p50 - LEFT)
                .set("height", BAR)
                .set("rx", 2)
                .set("fill", colour(row.transport)),
        )
        .add(stroke(p50, p99, middle, middle))
        .add(stroke(p99, p99, middle - end, middle + end))
        .add(
            text(p99 + VALUE_GAP, middle + 5.0, 15, INK, &value(row, rows))
                .set("font-weight", "bold"),
        )
}

/// The median, and how often it holds that of shared memory.
fn value(row: &Row, rows: &[Row]) -> String {
    let ratio = row.times_shm(rows).filter(|_| row.transport != Transport::Shm);
    let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.1}×)"));
    format!("{} µs{ratio}", us(row.p50_ns))
}

fn axis(scale: &BarScale, top: f64, bottom: f64) -> Group {
    let mut group = Group::new();
    for tick_us in scale.ticks_us() {
        let x = scale.x(tick_us * 1000);
        let label = text(x, bottom + 18.0, 14, FAINT, &format!("{tick_us} µs"));
        group = group.add(rule((x, top), (x, bottom))).add(label.set("text-anchor", "middle"));
    }
    group
}

/// From nanoseconds to pixels.
struct BarScale {
    scale: Scale,
    step_us: u64,
    right: f64,
}

impl BarScale {
    /// Long enough for every line, but not so long that the bars get lost.
    fn of(rows: &[Row]) -> Self {
        let longest = |ns: fn(&Row) -> u64| rows.iter().map(ns).max().unwrap_or(0);
        let letters = rows.iter().map(|row| value(row, rows).chars().count()).max().unwrap_or(0);
        // The longest value has room even behind the longest line.
        let right = WIDTH - MARGIN - VALUE_GAP - letters as f64 * VALUE_LETTER;
        let longest_ns = longest(|row| row.p99_ns).min(longest(|row| row.p50_ns) * 5 / 2);
        Self::up_to(longest_ns, right)
    }

    fn up_to(longest_ns: u64, right: f64) -> Self {
        // Five or so ticks, at round numbers.
        let longest_us = longest_ns.div_ceil(1000).max(1);
        let steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];
        let step_us = steps.into_iter().find(|step| longest_us / step <= 6).unwrap_or(longest_us);
        Self { scale: Scale::linear((longest_us * 1000) as f64), step_us, right }
    }

    fn shows(&self, ns: u64) -> bool {
        self.scale.shows(ns as f64)
    }

    fn x(&self, ns: u64) -> f64 {
        let x = LEFT + (self.right - LEFT) * self.scale.part(ns as f64);
        (x * 10.0).round() / 10.0
    }

    fn ticks_us(&self) -> impl Iterator<Item = u64> + use<'_> {
        (0..).map(|tick| tick * self.step_us).take_while(|&us| self.shows(us * 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn the_picture_names_machine_server_and_figures() {
        let svg = render(&report());
        for text in ["CPU &lt;1&gt;, 2 cores,", "Redis 7.0.15", "2026-11-21", "20.00 µs", "12.0×"]
        {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
    }

    #[test]
    fn the_scale_ends_at_the_longest_line() {
        let scale = BarScale::up_to(44_000, 600.0);
        assert!((scale.x(0) - LEFT).abs() < 0.1);
        assert!((scale.x(44_000) - 600.0).abs() < 0.1);
        assert_eq!(scale.ticks_us().collect::<Vec<_>>(), [0, 10, 20, 30, 40]);
    }

    #[test]
    fn a_rare_pause_does_not_squeeze_the_bars() {
        let mut rows = report().results;
        rows[0].p99_ns = 10_000_000;
        let scale = BarScale::of(&rows);
        assert!(!scale.shows(rows[0].p99_ns));
        assert!((scale.x(rows[0].p99_ns) - scale.right).abs() < 0.1);
        assert!(scale.x(rows[0].p50_ns) > LEFT + (scale.right - LEFT) / 4.0);
    }

    #[test]
    fn a_long_value_behind_the_longest_line_is_not_cut_off() {
        let mut rows = report().results;
        rows[0].p50_ns = 12_345_678;
        rows[0].p99_ns = 99_999_999;
        let value = value(&rows[0], &rows);
        assert_eq!(value, "12345.68 µs (12345.7×)");
        let scale = BarScale::of(&rows);
        let end = scale.x(rows[0].p99_ns) + VALUE_GAP + 22.0 * VALUE_LETTER;
        assert!(end <= WIDTH - MARGIN + 0.1, "{end}");
        assert!(scale.right > LEFT + 300.0);
    }

    #[test]
    fn a_transport_that_was_not_measured_is_not_drawn() {
        let mut report = report();
        report.results.retain(|row| row.transport != Transport::Tcp);
        let svg = render(&report);
        assert!(svg.contains("unix socket") && !svg.contains(">\nTCP\n<"), "{svg}");
        assert_eq!(svg.matches("GET").count(), 1, "{svg}");
    }

    #[test]
    fn no_rows_make_an_empty_picture() {
        let mut report = report();
        report.results.clear();
        assert!(render(&report).contains("</svg>"));
    }
}
