//! Pictures of lines over two axes, one line for each transport.

use super::colour::{self, FAINT, INK};
use super::scale::{Scale, Tick};
use super::sheet::{self, LETTER, MARGIN, WIDTH, Words, dashes, label, marker, rule, text};
use crate::transport::Transport;
use svg::node::element::path::Data;
use svg::node::element::{Group, Line, Path};

// All lengths in pixels of the picture at its own size.
const LEFT: f64 = 92.0;
const RIGHT: f64 = 808.0;
const HEIGHT: f64 = 330.0;
const TICKS: u32 = 14;
const LABELS: u32 = 15;

/// The axes.
#[derive(Debug)]
pub(crate) struct Axes {
    pub(crate) x: Scale,
    pub(crate) y: Scale,
    pub(crate) x_ticks: Vec<Tick>,
    pub(crate) y_ticks: Vec<Tick>,
    pub(crate) x_label: String,
    pub(crate) y_label: String,
}

/// One transport's points, in the order they are joined.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) transport: Transport,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) with_markers: bool,
}

pub(crate) fn render(axes: &Axes, words: &Words, curves: &[Curve]) -> String {
    sheet::render(words, |above| {
        let frame = Frame { axes, top: above + 50.0 };
        let group = Group::new()
            .add(text(MARGIN, frame.top - 18.0, LABELS, INK, &axes.y_label))
            .add(legend(curves, frame.top - 18.0))
            .add(frame.x_axis())
            .add(frame.y_axis());
        let group = curves.iter().map(|curve| frame.curve(curve)).fold(group, Group::add);
        (group, frame.bottom() + 54.0)
    })
}

struct Frame<'a> {
    axes: &'a Axes,
    top: f64,
}

impl Frame<'_> {
    fn bottom(&self) -> f64 {
        self.top + HEIGHT
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let x = LEFT + (RIGHT - LEFT) * self.axes.x.part(x);
        let y = self.bottom() - HEIGHT * self.axes.y.part(y);
        ((x * 10.0).round() / 10.0, (y * 10.0).round() / 10.0)
    }

    fn x_axis(&self) -> Group {
        let bottom = self.bottom();
        let middle = text((LEFT + RIGHT) / 2.0, bottom + 48.0, LABELS, INK, &self.axes.x_label);
        let mut group = Group::new().add(middle.set("text-anchor", "middle"));
        let mut free_from = 0.0;
        for tick in &self.axes.x_ticks {
            let x = LEFT + (RIGHT - LEFT) * self.axes.x.part(tick.value);
            group = group.add(rule((x, self.top), (x, bottom)));
            let half = length(&tick.label, TICKS) / 2.0;
            // One label over another could not be read.
            if x - half < free_from {
                continue;
            }
            free_from = x + half + length(" ", TICKS);
            // Nor one that ends outside of the picture.
            let x = x.min(WIDTH - half - length(" ", TICKS));
            let label = text(x, bottom + 22.0, TICKS, FAINT, &tick.label);
            group = group.add(label.set("text-anchor", "middle"));
        }
        group
    }

    fn y_axis(&self) -> Group {
        let mut group = Group::new();
        for tick in &self.axes.y_ticks {
            let y = self.bottom() - HEIGHT * self.axes.y.part(tick.value);
            let label = text(LEFT - 10.0, y + 5.0, TICKS, FAINT, &tick.label);
            group = group.add(rule((LEFT, y), (RIGHT, y))).add(label.set("text-anchor", "end"));
        }
        group
    }

    fn curve(&self, curve: &Curve) -> Group {
        let mut data = Data::new();
        let mut markers = Group::new();
        let mut last = None;
        for &point in &curve.points {
            let at = self.at(point);
            data = match last {
                None => data.move_to(at),
                // What nobody can see is left out.
                Some(last) if are_near(last, at) => continue,
                Some(_) => data.line_to(at),
            };
            last = Some(at);
        }
        if curve.with_markers {
            let places = curve.points.iter().map(|&point| marker(curve.transport, self.at(point)));
            markers = places.fold(markers, Group::add);
        }
        let path = Path::new()
            .set("d", data)
            .set("fill", "none")
            .set("stroke-width", 2.5)
            .set("stroke-dasharray", dashes(curve.transport))
            .set("stroke-linejoin", "round");
        Group::new().add(colour::of(curve.transport).stroke(path)).add(markers)
    }
}

/// By less than anybody can see.
fn are_near(one: (f64, f64), other: (f64, f64)) -> bool {
    (one.0 - other.0).abs() < 0.5 && (one.1 - other.1).abs() < 0.5
}

/// The room for `content` in a font of `size`.
fn length(content: &str, size: u32) -> f64 {
    content.chars().count() as f64 * f64::from(size) * LETTER
}

/// At the right, in the order of the curves.
fn legend(curves: &[Curve], baseline: f64) -> Group {
    let width = |curve: &Curve| 60.0 + length(label(curve.transport), LABELS);
    let mut x = RIGHT + 18.0 - curves.iter().map(width).sum::<f64>();
    let mut group = Group::new();
    for curve in curves {
        let y = baseline - 5.0;
        let line = Line::new().set("x1", x).set("x2", x + 34.0).set("y1", y).set("y2", y);
        let line = line.set("stroke-width", 2.5).set("stroke-dasharray", dashes(curve.transport));
        group = group.add(colour::of(curve.transport).stroke(line)).add(text(
            x + 42.0,
            baseline,
            LABELS,
            INK,
            label(curve.transport),
        ));
        if curve.with_markers {
            group = group.add(marker(curve.transport, (x + 17.0, y)));
        }
        x += width(curve);
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_points_make_a_short_path() {
        let axes = Axes {
            x: Scale::linear(10_000.0),
            y: Scale::linear(10_000.0),
            x_ticks: Vec::new(),
            y_ticks: Vec::new(),
            x_label: "x".to_owned(),
            y_label: "y".to_owned(),
        };
        let points = (0..=10_000).map(|value| (f64::from(value), f64::from(value))).collect();
        let curve = Curve { transport: Transport::Shm, points, with_markers: false };
        let svg = Frame { axes: &axes, top: 0.0 }.curve(&curve).to_string();
        assert!((400..1600).contains(&svg.matches('L').count()), "{svg}");
    }

    #[test]
    fn labels_that_would_overlap_are_left_out_but_not_their_lines() {
        let x = Scale::logarithmic(1.0, 1_000_000.0);
        let tick = |value: f64| Tick { value, label: format!("{value}") };
        let axes = Axes {
            x,
            y: Scale::linear(1.0),
            x_ticks: [1_000.0, 1_001.0, 100_000.0].map(tick).to_vec(),
            y_ticks: Vec::new(),
            x_label: "x".to_owned(),
            y_label: "y".to_owned(),
        };
        let svg = Frame { axes: &axes, top: 0.0 }.x_axis().to_string();
        assert_eq!(svg.matches("<line").count(), 3, "{svg}");
        assert!(svg.contains("1000") && !svg.contains("1001") && svg.contains("100000"), "{svg}");
    }
}
