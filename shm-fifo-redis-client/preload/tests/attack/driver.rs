//! The program that makes the calls, in C: what it links is what any program links.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles it.
pub(crate) fn compile() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("attack-driver");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attack/driver");
    let mut sources: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect();
    sources.sort();
    if is_up_to_date(&program) {
        return program;
    }
    let status = Command::new("cc")
        .args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-parentheses", "-pthread", "-o"])
        .arg(&program)
        .args(sources)
        .status()
        .expect("cc runs; install it with: apt-get install build-essential");
    assert!(status.success(), "the driver does not compile");
    program
}

/// Whether no source has changed since it was compiled.
fn is_up_to_date(program: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attack/driver");
    let sources = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let newest = sources.filter_map(|path| changed(&path)).max();
    changed(program) > newest
}
