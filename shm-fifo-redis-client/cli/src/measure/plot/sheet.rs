//! What every picture has: a white sheet with a title above and, below, what it was
//! measured on. Sizes are such that all is readable at 600 pixels across.

use crate::transport::Transport;
use svg::Document;
use svg::node::element::{Circle, Group, Line, Polygon, Rectangle, Text, Title};

// All lengths in pixels of the picture at its own size.
pub(crate) const WIDTH: f64 = 840.0;
pub(crate) const MARGIN: f64 = 24.0;

pub(crate) const INK: &str = "#1f2933";
pub(crate) const FAINT: &str = "#4f5b66";
pub(crate) const GRID: &str = "#dde3e8";

const TITLE: Style = Style { size: 20, pitch: 26.0, colour: INK, letter: 0.67 };
const SUBTITLE: Style = Style { size: 15, pitch: 21.0, colour: FAINT, letter: 0.59 };
const CAPTION: Style = Style { size: 14, pitch: 19.0, colour: FAINT, letter: 0.59 };

struct Style {
    size: u32,
    pitch: f64,
    colour: &'static str,
    /// Width of a letter of DejaVu Sans, by its size, and on average.
    letter: f64,
}

impl Style {
    /// `content` in lines that fit, the first of them just below `top`, which
    /// moves below the last.
    fn lines(&self, content: &str, top: &mut f64) -> Vec<Text> {
        let letters = (WIDTH - 2.0 * MARGIN) / (f64::from(self.size) * self.letter);
        let line = |line: String| {
            *top += self.pitch;
            text(MARGIN, *top, self.size, self.colour, &line)
        };
        wrap(content, letters).into_iter().map(line).collect()
    }
}

/// The words around a picture.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    /// How it was measured, and on what.
    pub(crate) caption: [String; 2],
}

/// The picture: `body` draws from the ordinate it is given and returns where it ends.
pub(crate) fn render(words: &Words, body: impl FnOnce(f64) -> (Group, f64)) -> String {
    let mut y = 14.0;
    let title = TITLE.lines(&words.title, &mut y);
    let title = title.into_iter().map(|line| line.set("font-weight", "bold"));
    let mut parts: Vec<Text> = title.collect();
    parts.extend(SUBTITLE.lines(&words.subtitle, &mut y));
    let (body, bottom) = body(y);
    y = bottom + 6.0;
    parts.extend(words.caption.iter().flat_map(|caption| CAPTION.lines(caption, &mut y)));
    let height = y + 14.0;
    let document = Document::new()
        .set("width", WIDTH)
        .set("height", height)
        .set("viewBox", (0.0, 0.0, WIDTH, height))
        // Verdana is as wide.
        .set("font-family", "'DejaVu Sans', Verdana, Geneva, sans-serif")
        .set("role", "img")
        .add(Title::new(words.title.as_str()))
        .add(Rectangle::new().set("width", WIDTH).set("height", height).set("fill", "#ffffff"))
        .add(body);
    parts.into_iter().fold(document, Document::add).to_string()
}

/// Lines of so many letters or fewer, but for longer words.
fn wrap(content: &str, letters: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in content.split_whitespace() {
        match lines.last_mut() {
            Some(line) if (line.chars().count() + 1 + word.chars().count()) as f64 <= letters => {
                *line += " ";
                *line += word;
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

pub(crate) fn text(x: f64, y: f64, size: u32, colour: &str, content: &str) -> Text {
    let text = Text::new(content).set("x", x).set("y", y);
    text.set("font-size", size).set("fill", colour)
}

/// A line of the grid.
pub(crate) fn rule(from: (f64, f64), to: (f64, f64)) -> Line {
    let line = Line::new().set("x1", from.0).set("y1", from.1).set("x2", to.0).set("y2", to.1);
    line.set("stroke", GRID).set("stroke-width", 1)
}

/// Of another shape for each transport, for who sees no colours.
pub(crate) fn marker(transport: Transport, (x, y): (f64, f64)) -> Group {
    let group = Group::new().set("fill", colour(transport));
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

/// As [`marker`], for lines.
pub(crate) fn dashes(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "3 4",
        Transport::Unix => "10 4",
        Transport::Shm => "none",
    }
}

pub(crate) fn label(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Unix => "unix socket",
        Transport::Shm => "shared memory",
    }
}

/// Three of the colours of Okabe and Ito, told apart with any colour blindness.
pub(crate) fn colour(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "#d55e00",
        Transport::Unix => "#0072b2",
        Transport::Shm => "#009e73",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words() {
        assert_eq!(wrap("one two three four", 9.0), ["one two", "three", "four"]);
        assert_eq!(wrap("unbreakable", 3.0), ["unbreakable"]);
        assert!(wrap("", 3.0).is_empty());
    }

    #[test]
    fn a_longer_caption_makes_a_higher_picture() {
        let height = |caption: String| {
            let caption = [caption, String::new()];
            let words = Words { title: "t".into(), subtitle: "s".into(), caption };
            let svg = render(&words, |top| (Group::new(), top));
            svg.matches("<text").count()
        };
        assert_eq!(height("a".into()) + 2, height("many words ".repeat(25)));
    }
}
