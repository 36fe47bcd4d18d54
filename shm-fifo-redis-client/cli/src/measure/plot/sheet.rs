//! What every picture has: a sheet with a title above and, below, what it was measured on. It is
//! white, and dark where the reader's system is. Sizes are such that all is readable at 600
//! pixels across, and the margins hold in whatever font the reader has.

use super::colour::{self, Colour, FAINT, GRID, INK, SHEET};
use crate::transport::Transport;
use svg::Document;
use svg::node::element::{Circle, Group, Line, Polygon, Rectangle, Style, Text, Title};

// All lengths in pixels of the picture at its own size.
pub(crate) const WIDTH: f64 = 840.0;
pub(crate) const MARGIN: f64 = 24.0;

/// Width of a letter by its size: the widest fonts that are usual have these averages.
pub(crate) const LETTER: f64 = 0.63;
const BOLD_LETTER: f64 = 0.7;

const TITLE: Font = Font { size: 20, pitch: 26.0, colour: INK, letter: BOLD_LETTER };
const SUBTITLE: Font = Font { size: 15, pitch: 21.0, colour: FAINT, letter: LETTER };
const CAPTION: Font = Font { size: 14, pitch: 19.0, colour: FAINT, letter: LETTER };

struct Font {
    size: u32,
    pitch: f64,
    colour: Colour,
    letter: f64,
}

impl Font {
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
    let sheet = Rectangle::new().set("width", WIDTH).set("height", height);
    let document = Document::new()
        .set("width", WIDTH)
        .set("height", height)
        .set("viewBox", (0.0, 0.0, WIDTH, height))
        // Verdana is as wide.
        .set("font-family", "'DejaVu Sans', Verdana, Geneva, sans-serif")
        .set("role", "img")
        .add(Title::new(words.title.as_str()))
        .add(Style::new(colour::dark()))
        .add(SHEET.paint(sheet))
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

pub(crate) fn text(x: f64, y: f64, size: u32, colour: Colour, content: &str) -> Text {
    colour.paint(Text::new(content).set("x", x).set("y", y).set("font-size", size))
}

/// A line of the grid.
pub(crate) fn rule(from: (f64, f64), to: (f64, f64)) -> Line {
    let line = Line::new().set("x1", from.0).set("y1", from.1).set("x2", to.0).set("y2", to.1);
    GRID.stroke(line.set("stroke-width", 1))
}

/// Of another shape for each transport, for who sees no colours.
pub(crate) fn marker(transport: Transport, (x, y): (f64, f64)) -> Group {
    let group = colour::of(transport).paint(Group::new());
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
        let lines = |caption: String| {
            let caption = [caption, String::new()];
            let words = Words { title: "t".into(), subtitle: "s".into(), caption };
            let svg = render(&words, |top| (Group::new(), top));
            svg.matches("<text").count()
        };
        assert!(lines("a".into()) < lines("many words ".repeat(25)));
    }
}
