//! Pictures: drawn once, as SVG, and the same as PNG.

pub(crate) mod bars;
pub(crate) mod curves;
pub(crate) mod png;
pub(crate) mod scale;
pub(crate) mod sheet;

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
