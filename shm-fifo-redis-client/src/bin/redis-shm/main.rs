//! `redis-shm` shows and measures what shared memory does for Redis clients, and
//! gives it to programs that do not know of it.
#![deny(unsafe_code)]

mod args;
mod bench;
mod connect;
mod demo;
mod doctor;
mod exchange;
mod exec;
mod generate;
mod interrupt;
mod latency;
mod machine;
mod plot;
mod publish;
mod report;
mod running;
mod server;
mod stat;
mod statistics;
mod transport;

use args::{Args, Subcommand};
use clap::Parser;
use std::io;
use std::process::ExitCode;

/// What a subcommand that did its work has to say.
enum Answer {
    Yes,
    /// It could be found out, and the answer is no; the text says why and what
    /// to do.
    No(String),
}

/// As a shell reports a program that Ctrl-C ended.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Subcommand::Demo(args) => demo::run(&args),
        Subcommand::Latency(args) => latency::run(&args),
        Subcommand::Bench(args) => bench::run(&args),
        Subcommand::Report(args) => publish::run(&args),
        Subcommand::Exec(args) => exec::run(&args),
        Subcommand::Doctor(args) => doctor::run(&args),
        Subcommand::Stat(args) => stat::run(&args),
        Subcommand::Generate(args) => generate::run(&args),
        Subcommand::Child(args) => bench::child::run(&args),
    };
    match result {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No(reason)) => {
            eprintln!("redis-shm: {reason}");
            ExitCode::from(1)
        }
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redis-shm: {error:#}");
            ExitCode::from(if error.is::<interrupt::Interrupted>() { EXIT_INTERRUPTED } else { 2 })
        }
    }
}

/// Whether the reader of our output went away, as `redis-shm … | head` does: not
/// an error. A connection to Redis that broke carries a context and is one.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let own = error.downcast_ref::<report::OutputError>();
    own.is_some_and(|error| error.0.kind() == io::ErrorKind::BrokenPipe)
}
