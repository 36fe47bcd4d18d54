//! From SVG to PNG, with a font of our own: a server often has none.

use anyhow::Context;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};
use std::sync::Arc;

/// `svg` as PNG, `width` pixels across.
pub(crate) fn render(svg: &str, width: u16) -> anyhow::Result<Vec<u8>> {
    let mut options = Options::default();
    for font in [dejavu::sans::regular(), dejavu::sans::bold()] {
        let source = resvg::usvg::fontdb::Source::Binary(Arc::new(font));
        options.fontdb_mut().load_font_source(source);
    }
    let tree = Tree::from_str(svg, &options).context("the picture is no SVG")?;
    let scale = f32::from(width) / tree.size().width();
    let size = tree.size().to_int_size().scale_to_width(u32::from(width));
    let size = size.context("the picture has no size")?;
    let mut pixels = Pixmap::new(size.width(), size.height()).context("the picture has no size")?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().context("the picture cannot be encoded")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use resvg::usvg::{Group, Node, Rect};

    /// Regular and bold, of what the widest usual fonts are alike.
    fn fonts() -> [[&'static [u8]; 2]; 4] {
        use dejavu::{sans, sans_condensed, sans_mono, serif};
        [
            [sans::regular(), sans::bold()],
            [sans_condensed::regular(), sans_condensed::bold()],
            [sans_mono::regular(), sans_mono::bold()],
            [serif::regular(), serif::bold()],
        ]
    }

    /// Its size, and each text with the place that it takes.
    fn texts(svg: &str, font: [&'static [u8]; 2]) -> (Rect, Vec<(String, Rect)>) {
        // Of the picture's own choice there is none on the reader's system.
        let svg = svg.replace("DejaVu Sans", "Not Here");
        let mut options = Options::default();
        for style in font {
            let source = resvg::usvg::fontdb::Source::Binary(Arc::new(style));
            options.fontdb_mut().load_font_source(source);
        }
        let family = options.fontdb.faces().next().expect("a font").families[0].0.clone();
        options.fontdb_mut().set_sans_serif_family(family);
        let tree = Tree::from_str(&svg, &options).expect("an SVG");
        let size = tree.size().to_rect(0.0, 0.0).expect("a size");
        let mut found = Vec::new();
        collect(tree.root(), &mut found);
        (size, found)
    }

    fn collect(group: &Group, found: &mut Vec<(String, Rect)>) {
        for node in group.children() {
            match node {
                Node::Group(group) => collect(group, found),
                Node::Text(text) => {
                    let words = text.chunks().iter().map(resvg::usvg::TextChunk::text);
                    found.push((words.collect(), text.abs_bounding_box()));
                }
                _ => {}
            }
        }
    }

    /// No text ends outside of the sheet or covers another one, whatever the font.
    pub(crate) fn assert_readable(svg: &str) {
        for font in fonts() {
            let (sheet, texts) = texts(svg, font);
            assert!(!texts.is_empty(), "{svg}");
            for (index, (words, place)) in texts.iter().enumerate() {
                assert!(
                    place.left() >= 4.0 && place.right() <= sheet.right() - 4.0,
                    "{words} at {place:?}"
                );
                assert!(place.bottom() <= sheet.bottom(), "{words} at {place:?}");
                for (other, of_other) in &texts[..index] {
                    let apart = place.left() >= of_other.right()
                        || of_other.left() >= place.right()
                        || place.top() >= of_other.bottom()
                        || of_other.top() >= place.bottom();
                    assert!(apart, "{words} at {place:?} is over {other} at {of_other:?}");
                }
            }
        }
    }

    fn picture(content: &str) -> String {
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='80' height='40' \
             font-family='DejaVu Sans'>{content}</svg>"
        )
    }

    fn pixels(content: &str) -> Pixmap {
        let png = render(&picture(content), 160).expect("a picture");
        Pixmap::decode_png(&png).expect("a PNG")
    }

    #[test]
    fn the_size_is_the_one_asked_for() {
        let pixels = pixels("");
        assert_eq!((pixels.width(), pixels.height()), (160, 80));
    }

    #[test]
    fn text_is_there_without_any_font_installed() {
        let text = |content| pixels(&format!("<text y='30' font-size='20'>{content}</text>"));
        let ink = |pixels: &Pixmap| pixels.pixels().iter().filter(|one| one.alpha() > 0).count();
        assert_eq!(ink(&text("")), 0);
        assert!(ink(&text("µs ×")) > 100);
    }

    #[test]
    fn a_png_is_light() {
        use crate::measure::plot::colour::{SHEET, dark};
        let sheet = svg::node::element::Rectangle::new().set("width", 80).set("height", 40);
        let pixels = pixels(&format!("<style>{}</style>{}", dark(), SHEET.paint(sheet)));
        let first = pixels.pixels()[0];
        assert_eq!([first.red(), first.green(), first.blue(), first.alpha()], [255; 4]);
    }

    fn sheet_with(texts: &str) -> String {
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='80' height='80' \
             font-family='sans-serif' font-size='12'>{texts}</svg>"
        )
    }

    #[test]
    fn texts_with_room_can_be_read() {
        assert_readable(&sheet_with("<text x='9' y='20'>one</text><text x='9' y='50'>two</text>"));
    }

    #[test]
    #[should_panic(expected = "two at")]
    fn a_text_over_another_is_noticed() {
        assert_readable(&sheet_with("<text x='9' y='20'>one</text><text x='9' y='24'>two</text>"));
    }

    #[test]
    #[should_panic(expected = "too long at")]
    fn a_text_beyond_the_sheet_is_noticed() {
        assert_readable(&sheet_with("<text x='40' y='20'>too long</text>"));
    }

    #[test]
    fn what_is_no_svg_is_an_error() {
        assert!(render("no picture", 10).is_err());
    }
}
