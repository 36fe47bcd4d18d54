//! Files of results: whether they can be kept is found out before the work.

use anyhow::Context;
use serde::Serialize;
use std::fs;
use std::path::Path;

/// Makes the directory for the files, and tries to write there, before the work is done.
pub(crate) fn make_directory(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    tempfile::tempfile_in(directory)
        .map(drop)
        .with_context(|| format!("cannot write into {}", directory.display()))
}

/// A file that is there keeps its content until there is something to write.
pub(crate) fn check_file(path: &Path) -> anyhow::Result<()> {
    let open = fs::OpenOptions::new().append(true).create(true).open(path);
    open.map(drop).with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn write_json(path: &Path, rows: &[impl Serialize]) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(rows)? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
