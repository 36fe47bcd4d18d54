//! `redis-shm` shows and measures what shared memory does for Redis clients, and
//! gives it to programs that do not know of it.
#![deny(unsafe_code)]

mod args;
mod cgroups;
mod child;
mod conformance;
mod connect;
mod cpu_time;
mod demo;
mod doctor;
mod exchange;
mod exec;
mod files;
mod generate;
mod interrupt;
mod latency;
mod login;
mod machine;
#[cfg(feature = "measure")]
mod measure;
mod place;
mod refusals;
mod report;
mod running;
mod server;
mod stat;
mod statistics;
mod text;
mod transport;

use args::{Args, Subcommand};
use clap::Parser;
use interrupt::{EXIT_INTERRUPTED, Interrupted};
use std::io;
use std::process::ExitCode;

/// What a subcommand that did its work has to say.
enum Answer {
    Yes,
    /// It could be found out, and the answer is no; the text says why and what
    /// to do.
    No(String),
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No(reason)) => {
            eprintln!("redis-shm: {reason}");
            ExitCode::from(1)
        }
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redis-shm: {error:#}");
            ExitCode::from(if error.is::<Interrupted>() { EXIT_INTERRUPTED } else { 2 })
        }
    }
}

fn run(mut command: Subcommand) -> anyhow::Result<Answer> {
    if let Some(login) = command.login() {
        login.complete()?;
    }
    match command {
        Subcommand::Demo(args) => demo::run(&args),
        Subcommand::Latency(args) => latency::run(&args),
        #[cfg(feature = "measure")]
        Subcommand::Bench(args) => measure::bench::run(&args),
        #[cfg(feature = "measure")]
        Subcommand::Report(args) => measure::publish::run(&args),
        Subcommand::Exec(args) => exec::run(&args),
        Subcommand::Doctor(args) => doctor::run(&args),
        Subcommand::Stat(args) => stat::run(&args),
        Subcommand::Conformance(args) => conformance::run(&args),
        Subcommand::Generate(args) => generate::run(&args),
        Subcommand::Child(args) => child::run(&args),
    }
}

/// Whether the reader of our output went away, as `redis-shm … | head` does: not
/// an error. A connection to Redis that broke carries a context and is one.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let own = error.downcast_ref::<report::OutputError>();
    own.is_some_and(|error| error.0.kind() == io::ErrorKind::BrokenPipe)
}
