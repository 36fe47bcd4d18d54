//! `redis-shm bench`: throughput and latency over pipeline depths, numbers of
//! clients and commands, or under conditions that make waiting hard.

pub(crate) mod args;
pub(crate) mod conditions;
mod engine;
pub(crate) mod example;
pub(crate) mod measure;
pub(crate) mod median;
mod output;
pub(crate) mod plot;
pub(crate) mod quota;
pub(crate) mod row;
pub(crate) mod script;
pub(crate) mod sweep;
pub(crate) mod table;
pub(crate) mod worker;

use crate::Answer;
use crate::child::{self, Confinement};
use crate::interrupt::Interrupts;
use crate::place::{NotShared, Place};
use crate::report::Heading;
use anyhow::Context;
use args::BenchArgs;
use indicatif::{ProgressBar, ProgressStyle};

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<Answer> {
    let interrupts = Interrupts::catch().context("cannot catch signals")?;
    if let Some(chosen) = &args.conditions {
        return interrupts.explain(conditions::run(args, chosen, &interrupts));
    }
    match interrupts.explain(run_sweep(args, &interrupts)) {
        Err(error) if error.is::<NotShared>() => {
            Ok(Answer::No(format!("{error:#} (the sockets alone: --transport tcp or unix)")))
        }
        done => done.map(|()| Answer::Yes),
    }
}

fn run_sweep(args: &BenchArgs, interrupts: &Interrupts) -> anyhow::Result<()> {
    output::check_paths(args)?;
    let confinement = Confinement { cpus: args.server_cpu.clone(), cgroup: None };
    let (place, server) = Place::find(&args.server, &confinement, interrupts)?;
    let heading = Heading::of(place.server_info()?);
    // Not before the server has started and the cores have been counted.
    if !args.cpu.is_empty() {
        child::run_on(&args.cpu)?;
    }
    let results = sweep::run(args, &place, interrupts)?;
    drop(server);
    output::write(args, &heading, &results)
}

/// Drawn between measurements only: a thread that keeps a bar moving would take
/// its time from what is measured. Without a terminal it draws nothing.
fn progress_bar(args: &BenchArgs, measurements: u64) -> anyhow::Result<ProgressBar> {
    if args.quiet {
        return Ok(ProgressBar::hidden());
    }
    let style =
        ProgressStyle::with_template("  {msg:36} {bar:24.cyan} {percent:>3} %  {eta} left")?;
    let progress = ProgressBar::new(measurements).with_style(style);
    progress.tick();
    Ok(progress)
}
