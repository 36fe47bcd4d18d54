//! The program `redis-shm`, with and without a terminal.

use std::process::{Command, Output, Stdio};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_redis-shm");

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn redis_shm(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null());
    command.env_remove("REDISCLI_AUTH").env_remove("NO_COLOR");
    command
}

/// Runs it to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// A line for a shell whose stdout and stderr are a terminal of 80 columns, run to its
/// end; `script` gives its exit code and prints both.
pub(crate) fn in_terminal(rows: u16, line: &str) -> Command {
    let mut command = Command::new("script");
    let line = format!("stty rows {rows} cols 80; exec {line}");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
    command.env("TERM", "xterm-256color").env_remove("REDISCLI_AUTH").env_remove("NO_COLOR");
    command
}
