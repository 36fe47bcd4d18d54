//! The tables of `docs/layout.md`, and how a program in C is compared with them.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;

const DOCUMENT: &str = include_str!("../../../docs/layout.md");

/// What stands for `R` where an offset depends on it.
pub(crate) const RING_BYTES: usize = 8192;

/// A row of the region's table, or of the FIFO header's.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
}

/// What lies where in a region.
pub(crate) fn region() -> Vec<Row> {
    cells("## The region").map(|cells| row(&cells)).collect()
}

/// The words of one direction's header.
pub(crate) fn fifo_header() -> Vec<Row> {
    cells("## The FIFO header").map(|cells| row(&cells)).collect()
}

/// All else that the two sides agree on.
pub(crate) fn numbers() -> Vec<(&'static str, u64)> {
    cells("## Numbers").map(|cells| (quoted(cells[1]), number(cells[2]))).collect()
}

/// The cells of each row of the table under `heading`.
fn cells(heading: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let (_, section) = DOCUMENT.split_once(heading).expect("the heading exists");
    section
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).collect())
}

fn row(cells: &[&'static str]) -> Row {
    Row { name: quoted(cells[4]), offset: sum(cells[1]), bytes: sum(cells[2]) }
}

fn quoted(cell: &'static str) -> &'static str {
    cell.split('`').nth(1).expect("the name is in backticks")
}

/// The value of a sum of numbers and `R`.
fn sum(cell: &str) -> usize {
    let term = |term: &str| if term == "R" { RING_BYTES } else { term.parse().expect("a number") };
    cell.split(" + ").map(term).sum()
}

fn number(cell: &str) -> u64 {
    let parsed = match cell.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => cell.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("{cell} is no number"))
}

/// What must be so in a program in C.
#[derive(Debug)]
pub(crate) struct Claims(String);

impl Claims {
    /// Of a program that begins with the whole of `source`, whose `main` is another's.
    pub(crate) fn of(source: &Path) -> Self {
        let source = source.display();
        Self(format!(
            "#define _GNU_SOURCE\n#define main the_programs_own\n#include \"{source}\"\n#undef main\n#include <stdio.h>\n\
             int main(void) {{\nint faults = 0;\n"
        ))
    }

    /// That this expression is true.
    pub(crate) fn add(&mut self, expression: &str) {
        let claim = format!("if (!({expression})) {{ puts(\"{expression}\"); faults = 1; }}\n");
        self.0.push_str(&claim);
    }

    /// Compiles the program in `directory`, runs it, and fails with the claims that are not so.
    #[track_caller]
    pub(crate) fn check(self, directory: &Path) {
        let source: PathBuf = directory.join("claims.c");
        let program = source.with_extension("");
        std::fs::write(&source, self.0 + "return faults;\n}\n").expect("a file can be written");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let status = Command::new(&compiler)
            .args(["-std=gnu11", "-pthread", "-o"])
            .args([&program, &source])
            .status()
            .expect("a C compiler starts; install one (Debian, Ubuntu: apt-get install gcc)");
        assert!(status.success(), "the claims do not compile");
        let output = Command::new(&program).output().expect("it runs");
        let faults = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && faults.is_empty(), "not so in C:\n{faults}");
    }
}
