//! What every picture has: a title, two axes, a line for each transport, and what
//! it was measured on.

use crate::transport::Transport;
use svg::Document;
use svg::node::element::path::Data;
use svg::node::element::{Circle, Group, Line, Path, Polygon, Rectangle, Text, Title};

// All lengths in pixels of the picture at its own size.
const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 560.0;
const MARGIN: f64 = 28.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 848.0;
const TOP: f64 = 116.0;
const BOTTOM: f64 = 446.0;

const INK: &str = "#1f2933";
const FAINT: &str = "#5a6672";
const GRID: &str = "#dde3e8";

/// The words of a picture.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) x_label: &'static str,
    pub(super) y_label: &'static str,
    pub(super) caption: [String; 2],
}

/// A value on an axis and how it is written there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: String,
}

/// From values to a part of an axis, 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    place: fn(f64) -> f64,
}

impl Scale {
    /// Equal factors are equal distances.
    pub(super) fn logarithmic(low: f64, high: f64) -> Self {
        // One value alone is in the middle.
        let (low, high) = if high > low { (low, high) } else { (low / 2.0, low * 2.0) };
        Self { low, high, place: f64::log10 }
    }

    /// 90 %, 99 %, 99.9 % are equal distances; up to `high` below 1.
    pub(super) fn nines(high: f64) -> Self {
        Self { low: 0.0, high, place: |share| -(1.0 - share).log10() }
    }

    fn part(&self, value: f64) -> f64 {
        let [low, high, at] = [self.low, self.high, value].map(self.place);
        ((at - low) / (high - low)).clamp(0.0, 1.0)
    }

    pub(super) fn shows(&self, value: f64) -> bool {
        // The ends themselves, whatever rounding did to them.
        value >= self.low * 0.999 && value <= self.high * 1.001
    }
}

/// The axes.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) x_ticks: Vec<Tick>,
    pub(super) y_ticks: Vec<Tick>,
}

/// One transport's points, in the order they are joined.
#[derive(Debug)]
pub(super) struct Curve {
    pub(super) transport: Transport,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) with_markers: bool,
}

impl Frame {
    pub(super) fn render(&self, words: &Words, curves: &[Curve]) -> String {
        let [how, machine] = &words.caption;
        let document = Document::new()
            .set("width", WIDTH)
            .set("height", HEIGHT)
            .set("viewBox", (0.0, 0.0, WIDTH, HEIGHT))
            .set(
                "font-family",
                "system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif",
            )
            .set("role", "img")
            .add(Title::new(words.title.as_str()))
            .add(Rectangle::new().set("width", WIDTH).set("height", HEIGHT).set("fill", "#ffffff"))
            .add(text(MARGIN, 40.0, 20, INK, &words.title).set("font-weight", "bold"))
            .add(text(MARGIN, 64.0, 15, FAINT, &words.subtitle))
            .add(legend(curves))
            .add(self.x_axis(words.x_label))
            .add(self.y_axis(words.y_label))
            .add(text(MARGIN, HEIGHT - 36.0, 13, FAINT, how))
            .add(text(MARGIN, HEIGHT - 16.0, 13, FAINT, machine));
        curves.iter().map(|curve| self.curve(curve)).fold(document, Document::add).to_string()
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let x = LEFT + (RIGHT - LEFT) * self.x.part(x);
        let y = BOTTOM - (BOTTOM - TOP) * self.y.part(y);
        ((x * 10.0).round() / 10.0, (y * 10.0).round() / 10.0)
    }

    fn x_axis(&self, label: &str) -> Group {
        let middle = text((LEFT + RIGHT) / 2.0, BOTTOM + 50.0, 15, INK, label);
        let mut group = Group::new().add(middle.set("text-anchor", "middle"));
        for tick in &self.x_ticks {
            let x = LEFT + (RIGHT - LEFT) * self.x.part(tick.value);
            let label = text(x, BOTTOM + 22.0, 14, FAINT, &tick.label);
            group = group.add(rule((x, TOP), (x, BOTTOM))).add(label.set("text-anchor", "middle"));
        }
        group
    }

    fn y_axis(&self, label: &str) -> Group {
        let mut group = Group::new().add(text(MARGIN, TOP - 14.0, 15, INK, label));
        for tick in &self.y_ticks {
            let y = BOTTOM - (BOTTOM - TOP) * self.y.part(tick.value);
            let label = text(LEFT - 10.0, y + 5.0, 14, FAINT, &tick.label);
            group = group.add(rule((LEFT, y), (RIGHT, y))).add(label.set("text-anchor", "end"));
        }
        group
    }

    fn curve(&self, curve: &Curve) -> Group {
        let colour = colour(curve.transport);
        let mut data = Data::new();
        let mut group = Group::new();
        let mut last = None;
        for &point in &curve.points {
            let at = self.at(point);
            data = match last {
                None => data.move_to(at),
                // What nobody can see is left out.
                Some(last) if last == at => data,
                Some(_) => data.line_to(at),
            };
            last = Some(at);
            if curve.with_markers {
                group = group.add(marker(curve.transport, at));
            }
        }
        let path = Path::new().set("d", data).set("fill", "none").set("stroke", colour);
        Group::new().add(path.set("stroke-width", 2.5).set("stroke-linejoin", "round")).add(group)
    }
}

/// At the top right, in the order of the curves.
fn legend(curves: &[Curve]) -> Group {
    let mut group = Group::new();
    let mut x = RIGHT - 150.0 * curves.len() as f64;
    for curve in curves {
        let y = TOP - 19.0;
        let line = Line::new().set("x1", x).set("x2", x + 28.0).set("y1", y).set("y2", y);
        group = group
            .add(line.set("stroke", colour(curve.transport)).set("stroke-width", 2.5))
            .add(marker(curve.transport, (x + 14.0, y)))
            .add(text(x + 36.0, y + 5.0, 15, INK, label(curve.transport)));
        x += 150.0;
    }
    group
}

fn rule(from: (f64, f64), to: (f64, f64)) -> Line {
    let line = Line::new().set("x1", from.0).set("y1", from.1).set("x2", to.0).set("y2", to.1);
    line.set("stroke", GRID).set("stroke-width", 1)
}

/// Of another shape for each transport, for who sees no colours.
fn marker(transport: Transport, (x, y): (f64, f64)) -> Group {
    let colour = colour(transport);
    let group = Group::new().set("fill", colour);
    match transport {
        Transport::Tcp => group.add(
            Rectangle::new().set("x", x - 4.5).set("y", y - 4.5).set("width", 9).set("height", 9),
        ),
        Transport::Unix => {
            let points = format!("{x},{} {},{} {},{}", y - 6.0, x - 5.5, y + 4.5, x + 5.5, y + 4.5);
            group.add(Polygon::new().set("points", points))
        }
        Transport::Shm => group.add(Circle::new().set("cx", x).set("cy", y).set("r", 5)),
    }
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

fn colour(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "#b5651d",
        Transport::Unix => "#4a6fa5",
        Transport::Shm => "#0b7a75",
    }
}

/// 1, 2 and 5 in each power of ten within `scale`, or the powers alone where
/// those were too many.
pub(super) fn round_ticks(scale: Scale, label: fn(f64) -> String) -> Vec<Tick> {
    let ticks = |mantissas: &[f64]| {
        let values =
            (-3..13).flat_map(|power| mantissas.iter().map(move |m| m * 10f64.powi(power)));
        let shown = values.filter(|value| scale.shows(*value));
        shown.map(|value| Tick { value, label: label(value) }).collect::<Vec<_>>()
    };
    let fine = ticks(&[1.0, 2.0, 5.0]);
    if fine.len() <= 10 { fine } else { ticks(&[1.0]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_factors_are_equal_distances() {
        let scale = Scale::logarithmic(1.0, 10_000.0);
        assert!((scale.part(1.0), scale.part(10_000.0)) == (0.0, 1.0));
        assert!((scale.part(100.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn nines_are_equal_distances() {
        let scale = Scale::nines(0.9999);
        assert!((scale.part(0.99) - 0.5).abs() < 1e-9);
        assert!((scale.part(0.0), scale.part(1.0)) == (0.0, 1.0));
    }

    #[test]
    fn one_value_alone_is_in_the_middle() {
        assert!((Scale::logarithmic(50.0, 50.0).part(50.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn ticks_are_round_and_not_too_many() {
        let labels = |low, high| {
            let ticks = round_ticks(Scale::logarithmic(low, high), |value| format!("{value}"));
            ticks.into_iter().map(|tick| tick.label).collect::<Vec<_>>()
        };
        assert_eq!(labels(10.0, 100.0), ["10", "20", "50", "100"]);
        assert_eq!(labels(1.0, 10_000.0), ["1", "10", "100", "1000", "10000"]);
    }
}
