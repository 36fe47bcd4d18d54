//! What a picture is drawn from. It is kept beside the picture, so that drawing is a step of its own.

use super::bars;
use super::percentiles::Percentiles;
use super::throughput::Throughput;
use crate::report::Report;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "picture", rename_all = "lowercase")]
pub(crate) enum Picture {
    Bars(Report),
    Throughput(Throughput),
    Percentiles(Percentiles),
}

impl Picture {
    pub(crate) fn svg(&self) -> String {
        match self {
            Self::Bars(report) => bars::render(report),
            Self::Throughput(throughput) => throughput.svg(),
            Self::Percentiles(percentiles) => percentiles.svg(),
        }
    }

    /// Writes `name`.json and `name`.svg into `directory`.
    pub(crate) fn keep(&self, directory: &Path, name: &str) -> anyhow::Result<()> {
        let figures = serde_json::to_string(self)? + "\n";
        write_if_new(&directory.join(format!("{name}.json")), &figures)?;
        write_if_new(&directory.join(format!("{name}.svg")), &self.svg())
    }

    /// Draws what `path` has, beside it.
    pub(crate) fn draw_again(path: &Path) -> anyhow::Result<()> {
        let context = || format!("cannot draw {}", path.display());
        let figures = fs::read(path).with_context(context)?;
        let picture: Self = serde_json::from_slice(&figures).with_context(context)?;
        write_if_new(&path.with_extension("svg"), &picture.svg())
    }
}

/// Writes `content` where it differs: a file that says the same is not touched.
pub(crate) fn write_if_new(path: &Path, content: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::bench::row::tests::outcome;
    use crate::report::tests::{heading, report};
    use crate::transport::Transport;

    #[test]
    fn each_picture_is_drawn_again_as_it_was() {
        let outcomes =
            [outcome(Transport::Unix, 1, 60_000.0), outcome(Transport::Shm, 1, 1_234_567.8)];
        let pictures = [
            Picture::Bars(report()),
            Picture::Throughput(Throughput::of(&outcomes, &heading(), 5)),
            Picture::Percentiles(Percentiles::of(&outcomes, &heading(), 5)),
        ];
        let directory = tempfile::tempdir().expect("a directory");
        for picture in pictures {
            picture.keep(directory.path(), "it").expect("written");
            let svg = directory.path().join("it.svg");
            fs::remove_file(&svg).expect("a picture");
            Picture::draw_again(&directory.path().join("it.json")).expect("read");
            assert_eq!(fs::read_to_string(svg).expect("a picture"), picture.svg());
        }
    }

    #[test]
    fn what_is_none_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("other.json");
        fs::write(&path, "{}").expect("written");
        let error = Picture::draw_again(&path).expect_err("no picture");
        assert!(error.to_string().contains("other.json"), "{error}");
    }
}
