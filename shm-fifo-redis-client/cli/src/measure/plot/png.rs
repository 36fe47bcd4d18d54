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
mod tests {
    use super::*;

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
    fn what_is_no_svg_is_an_error() {
        assert!(render("no picture", 10).is_err());
    }
}
