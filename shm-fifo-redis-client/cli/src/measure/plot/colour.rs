//! The colours of the pictures, each for a white sheet and for a dark one.
//!
//! Attributes have the light one, for whatever reads SVG; a style sheet, which browsers read,
//! puts the dark one in its place where the reader's system is dark.

use crate::transport::Transport;
use std::fmt::Write;
use svg::Node;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Colour {
    class: &'static str,
    light: &'static str,
    dark: &'static str,
}

const fn colour(class: &'static str, light: &'static str, dark: &'static str) -> Colour {
    Colour { class, light, dark }
}

pub(crate) const SHEET: Colour = colour("sheet", "#ffffff", "#0d1117");
pub(crate) const INK: Colour = colour("ink", "#1f2933", "#e6edf3");
pub(crate) const FAINT: Colour = colour("faint", "#4f5b66", "#9aa5b1");
pub(crate) const GRID: Colour = colour("grid", "#dde3e8", "#30363d");
// Three of the colours of Okabe and Ito, told apart with any colour blindness.
const TCP: Colour = colour("tcp", "#d55e00", "#e8772e");
const UNIX: Colour = colour("unix", "#0072b2", "#56b4e9");
const SHM: Colour = colour("shm", "#009e73", "#1fc598");

const ALL: [Colour; 7] = [SHEET, INK, FAINT, GRID, TCP, UNIX, SHM];

impl Colour {
    /// Fills `node` with it.
    pub(crate) fn paint<N: Node>(self, node: N) -> N {
        self.set(node, "fill")
    }

    /// Draws the lines of `node` in it.
    pub(crate) fn stroke<N: Node>(self, node: N) -> N {
        self.set(node, "stroke")
    }

    fn set<N: Node>(self, mut node: N, attribute: &str) -> N {
        node.assign("class", self.class);
        node.assign("color", self.light);
        node.assign(attribute, "currentColor");
        node
    }
}

pub(crate) fn of(transport: Transport) -> Colour {
    match transport {
        Transport::Tcp => TCP,
        Transport::Unix => UNIX,
        Transport::Shm => SHM,
    }
}

/// The style sheet of the dark ones.
pub(crate) fn dark() -> String {
    let mut rules = String::new();
    for Colour { class, dark, .. } in ALL {
        let _ = write!(rules, " .{class} {{ color: {dark} }}");
    }
    format!("@media (prefers-color-scheme: dark) {{{rules} }}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use svg::node::element::Rectangle;

    /// As the Web Content Accessibility Guidelines define it, from 1 to 21.
    fn contrast(one: &str, other: &str) -> f64 {
        let luminance = |colour: &str| {
            let part = |from: usize| {
                let part = u8::from_str_radix(&colour[from..from + 2], 16).expect("two digits");
                let part = f64::from(part) / 255.0;
                if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5) + 0.05
        };
        let (one, other) = (luminance(one), luminance(other));
        one.max(other) / one.min(other)
    }

    #[test]
    fn words_and_lines_are_told_from_their_sheet() {
        for (colours, least) in [(&[INK, FAINT][..], 4.5), (&[TCP, UNIX, SHM][..], 3.0)] {
            for colour in colours {
                assert!(contrast(colour.light, SHEET.light) >= least, "{colour:?}");
                assert!(contrast(colour.dark, SHEET.dark) >= least, "{colour:?}");
            }
        }
    }

    #[test]
    fn a_dark_system_has_a_colour_of_its_own_for_each() {
        let sheet = dark();
        assert!(sheet.starts_with("@media (prefers-color-scheme: dark) {"), "{sheet}");
        for colour in ALL {
            let node = colour.paint(Rectangle::new()).to_string();
            assert!(node.contains(&format!("class=\"{}\"", colour.class)), "{node}");
            assert!(node.contains(&format!("color=\"{}\"", colour.light)), "{node}");
            let rule = format!(".{} {{ color: {} }}", colour.class, colour.dark);
            assert!(sheet.contains(&rule), "{rule} is not in {sheet}");
        }
    }
}
