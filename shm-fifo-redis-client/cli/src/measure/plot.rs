//! Pictures: drawn once, as SVG, and the same as PNG.

pub(crate) mod bars;
pub(crate) mod colour;
pub(crate) mod curves;
pub(crate) mod percentiles;
pub(crate) mod picture;
pub(crate) mod png;
pub(crate) mod scale;
pub(crate) mod sheet;
pub(crate) mod throughput;

use crate::text::{significant, thousands, whole};
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};

/// Pixels across a PNG: sharp on a page, small enough to send.
const PNG_WIDTH: u16 = 1200;

/// Writes `name`.svg and `name`.png into `directory`.
pub(crate) fn write(directory: &Path, name: &str, svg: &str) -> anyhow::Result<Vec<PathBuf>> {
    let written = ["svg", "png"].map(|kind| directory.join(format!("{name}.{kind}")));
    let png = png::render(svg, PNG_WIDTH)?;
    for (path, content) in written.iter().zip([svg.as_bytes(), &png]) {
        fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(written.into())
}

/// Two digits that count: what a figure is worth that is another by some percent in each run.
pub(crate) fn rough(figure: f64) -> String {
    let figure = significant(figure, 2);
    match figure {
        1_000.0.. => thousands(whole(figure)),
        9.95.. => format!("{figure:.0}"),
        0.995.. => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_count() {
        let texts = [0.736, 0.996, 1.29, 9.96, 75.26, 102.1, 3488.4].map(rough);
        assert_eq!(texts, ["0.74", "1.0", "1.3", "10", "75", "100", "3,500"]);
    }
}
