//! latency.svg: the medians as bars, with a line up to the 99th percentile.

use super::{Report, Row, thousands, us};
use crate::transport::Transport;
use svg::Document;
use svg::node::element::{Group, Line, Rectangle, Text, Title};

// All lengths in pixels of the picture at its own size.
const WIDTH: f64 = 880.0;
const MARGIN: f64 = 28.0;
const LEFT: f64 = 196.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 112.0;
const BAR: f64 = 24.0;
const BAR_PITCH: f64 = 30.0;
const GROUP_GAP: f64 = 20.0;

const INK: &str = "#1f2933";
const FAINT: &str = "#66737f";
const GRID: &str = "#dde3e8";

pub(super) fn render(report: &Report) -> String {
    let rows = &report.results;
    let groups = rows.len().div_ceil(Transport::ALL.len());
    let bottom = TOP + rows.len() as f64 * BAR_PITCH + groups as f64 * GROUP_GAP;
    let height = bottom + 76.0;
    let scale = Scale::of(rows);
    let document = Document::new()
        .set("width", WIDTH)
        .set("height", height)
        .set("viewBox", (0.0, 0.0, WIDTH, height))
        .set("font-family", "system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif")
        .set("role", "img")
        .add(Title::new(heading(rows)))
        .add(Rectangle::new().set("width", WIDTH).set("height", height).set("fill", "#ffffff"))
        .add(text(MARGIN, 42.0, 18, INK, &heading(rows)).set("font-weight", "bold"))
        .add(text(
            MARGIN,
            66.0,
            14,
            FAINT,
            "Round trip of one command in microseconds; shorter is better.",
        ))
        .add(text(
            MARGIN,
            86.0,
            14,
            FAINT,
            "Bar: median. Line: 99th percentile. Factor: median compared with shared memory.",
        ))
        .add(axis(&scale, bottom))
        .add(bars(rows, &scale));
    caption(report, bottom).into_iter().fold(document, Document::add).to_string()
}

/// What the picture shows, from its own numbers.
fn heading(rows: &[Row]) -> String {
    let ping = |transport| {
        let row = rows.iter().find(|row| row.transport == transport && row.command == "PING");
        row.and_then(|row| row.times_shm(rows))
    };
    match (ping(Transport::Unix), ping(Transport::Tcp)) {
        (Some(unix), Some(tcp)) => format!(
            "Redis PING: shared memory is {unix:.1}× faster than a unix socket, {tcp:.1}× than TCP"
        ),
        _ => "Redis over shared memory, unix socket and TCP".to_owned(),
    }
}

fn caption(report: &Report, bottom: f64) -> [Text; 2] {
    let requests = report.results.first().map_or(0, |row| row.requests);
    let how = format!(
        "{}, one client, one request at a time, {} requests per bar, transports in turns",
        report.server,
        thousands(requests)
    );
    [
        text(MARGIN, bottom + 44.0, 12, FAINT, &how),
        text(MARGIN, bottom + 62.0, 12, FAINT, &report.machine.to_string()),
    ]
}

fn bars(rows: &[Row], scale: &Scale) -> Group {
    let mut group = Group::new();
    let mut y = TOP;
    for row in rows {
        if row.transport == Transport::ALL[0] {
            y += GROUP_GAP / 2.0;
            let middle = y + BAR_PITCH * 1.5;
            group =
                group.add(text(MARGIN, middle, 17, INK, row.command).set("font-weight", "bold"));
        }
        group = group.add(bar(row, rows, scale, y));
        y += BAR_PITCH;
        if Some(&row.transport) == Transport::ALL.last() {
            y += GROUP_GAP / 2.0;
        }
    }
    group
}

fn bar(row: &Row, rows: &[Row], scale: &Scale, y: f64) -> Group {
    let colour = colour(row.transport);
    let (p50, p99) = (scale.x(row.p50_ns), scale.x(row.p99_ns));
    let middle = y + BAR / 2.0;
    // A line that goes on beyond the picture has no end.
    let end = if scale.shows(row.p99_ns) { 5.0 } else { 0.0 };
    let label = text(LEFT - 10.0, middle + 5.0, 14, INK, label(row.transport));
    let ratio = row.times_shm(rows).filter(|_| row.transport != Transport::Shm);
    let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.1}×)"));
    let value = format!("{} µs{ratio}", us(row.p50_ns));
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
                .set("fill", colour),
        )
        .add(stroke(p50, p99, middle, middle))
        .add(stroke(p99, p99, middle - end, middle + end))
        .add(text(p99 + 10.0, middle + 5.0, 14, INK, &value).set("font-weight", "bold"))
}

fn axis(scale: &Scale, bottom: f64) -> Group {
    let mut group = Group::new();
    for tick_us in scale.ticks_us() {
        let x = scale.x(tick_us * 1000);
        let line = Line::new().set("x1", x).set("x2", x).set("y1", TOP).set("y2", bottom);
        group = group.add(line.set("stroke", GRID).set("stroke-width", 1)).add(
            text(x, bottom + 16.0, 12, FAINT, &format!("{tick_us} µs"))
                .set("text-anchor", "middle"),
        );
    }
    group
}

fn text(x: f64, y: f64, size: u32, colour: &str, content: &str) -> Text {
    let text = Text::new(content).set("x", x).set("y", y);
    text.set("font-size", size).set("fill", colour)
}

fn label(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Unix => "unix socket",
        Transport::Shm => "shared memory",
    }
}

/// Told apart also by who sees no red and green, and when printed in grey.
fn colour(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "#c9ced6",
        Transport::Unix => "#8fa3bf",
        Transport::Shm => "#0b7a75",
    }
}

/// From nanoseconds to pixels.
struct Scale {
    longest_ns: f64,
    step_us: u64,
}

impl Scale {
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
        Self { longest_ns: (longest_us * 1000) as f64, step_us }
    }

    fn shows(&self, ns: u64) -> bool {
        ns as f64 <= self.longest_ns
    }

    fn x(&self, ns: u64) -> f64 {
        let x = LEFT + (RIGHT - LEFT) * (ns as f64 / self.longest_ns).min(1.0);
        (x * 10.0).round() / 10.0
    }

    fn ticks_us(&self) -> impl Iterator<Item = u64> + use<'_> {
        (0..).map(|tick| tick * self.step_us).take_while(|&us| self.shows(us * 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn the_picture_names_machine_server_and_figures() {
        let svg = render(&report());
        for text in ["CPU &lt;1&gt;, 2 cores, Linux 6.1", "Redis 7.0.15", "20.00 µs", "12.0×"] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
    }

    #[test]
    fn the_scale_ends_at_the_longest_line() {
        let scale = Scale::up_to(44_000);
        assert!((scale.x(0) - LEFT).abs() < 0.1);
        assert!((scale.x(44_000) - RIGHT).abs() < 0.1);
        assert_eq!(scale.ticks_us().collect::<Vec<_>>(), [0, 10, 20, 30, 40]);
    }

    #[test]
    fn a_rare_pause_does_not_squeeze_the_bars() {
        let mut rows = report().results;
        rows[0].p99_ns = 10_000_000;
        let scale = Scale::of(&rows);
        assert!(!scale.shows(rows[0].p99_ns));
        assert!((scale.x(rows[0].p99_ns) - RIGHT).abs() < 0.1);
        assert!(scale.x(rows[0].p50_ns) > LEFT + 150.0);
    }

    #[test]
    fn no_rows_make_an_empty_picture() {
        let mut report = report();
        report.results.clear();
        assert!(render(&report).contains("</svg>"));
    }
}
