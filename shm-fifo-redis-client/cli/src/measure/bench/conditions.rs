//! `redis-shm bench --conditions`: PING where waiting is not as easy as on an idle
//! machine.

mod crew;
mod disturbance;
pub(crate) mod row;
mod stage;
mod table;

use super::args::BenchArgs;
use super::progress_bar;
use crate::Answer;
use crate::files;
use crate::interrupt::Interrupts;
use crate::measure;
use crate::place::Programs;
use crate::report::{self, Heading};
use crate::text::{fold, width};
use crate::transport::Transport;
use row::Row;
use stage::{Scene, Stage};
use std::fmt;

/// What the machine or the server does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Condition {
    /// Nothing else runs.
    TwoCores,
    /// Client and server share one core, pinned.
    OneCore,
    /// A busy process on every core.
    BusyCores,
    /// Two busy processes on every core.
    Oversubscribed,
    /// 1,000 idle shm connections beside the active one.
    IdleConnections,
    /// 50 active connections in one process.
    #[value(name = "clients-50")]
    Clients50,
    /// 20 client processes, ECHO of 1 B to 300 kB.
    #[value(name = "processes-20")]
    Processes20,
    /// A BGSAVE of 100,000 keys runs all the time.
    Bgsave,
    /// Client and server have a CPU quota of one core together.
    CpuQuota,
    /// Another client sends commands of 5 ms without a pause.
    SlowCommands,
    /// Each command has a connection of its own.
    Connect,
}

impl Condition {
    /// Its name on the command line and in the results.
    pub(crate) fn name(self) -> String {
        use clap::ValueEnum;
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.name())
    }
}

pub(crate) fn run(
    args: &BenchArgs,
    chosen: &[Condition],
    interrupts: &Interrupts,
) -> anyhow::Result<Answer> {
    if let Some(path) = &args.json {
        files::check_file(path)?;
    }
    let found = measure(args, chosen, interrupts)?;
    if let Some(path) = &args.json {
        files::write_json(path, &found.rows)?;
    }
    report::print_text(&text(args, &found))?;
    Ok(Answer::Yes)
}

/// What was found under the conditions.
#[derive(Debug)]
pub(crate) struct Findings {
    /// None if all are missing.
    pub(crate) heading: Option<Heading>,
    pub(crate) rows: Vec<Row>,
    /// Why a condition is not available here, a line for each.
    pub(crate) missing: Vec<String>,
}

pub(crate) fn measure(
    args: &BenchArgs,
    chosen: &[Condition],
    interrupts: &Interrupts,
) -> anyhow::Result<Findings> {
    use clap::ValueEnum;
    let programs = Programs::find(&args.server.server, args.server.module.as_deref())?;
    let chosen = if chosen.is_empty() { Condition::value_variants() } else { chosen };
    let scenes: Vec<Scene> = chosen.iter().flat_map(|&condition| Scene::of(condition)).collect();
    let transports = transports(args);
    let steps = scenes.len() as u64 * args.rounds * transports.len() as u64;
    let progress = progress_bar(args, steps)?;
    let mut rows: Vec<Row> = Vec::new();
    let mut missing = Vec::new();
    let mut heading = None;
    for scene in &scenes {
        progress.set_message(scene.name.clone());
        match Stage::set(scene, &programs, &transports, interrupts)? {
            Ok(mut stage) => {
                heading = Some(Heading::of(stage.place().server_info()?));
                rows.extend(stage.measure(args, &progress, interrupts)?);
            }
            Err(reason) => missing.push(format!("{}: not available here: {reason}", scene.name)),
        }
    }
    progress.finish_and_clear();
    Ok(Findings { heading, rows, missing })
}

fn transports(args: &BenchArgs) -> Vec<Transport> {
    let wanted =
        |transport: &Transport| args.transport.is_empty() || args.transport.contains(transport);
    Transport::ALL.into_iter().filter(wanted).collect()
}

fn text(args: &BenchArgs, Findings { heading, rows, missing }: &Findings) -> String {
    let mut text = String::new();
    if let Some(heading) = heading.as_ref().filter(|_| !args.quiet) {
        let rounds = measure::rounds(args.rounds);
        let heading = fold(&heading.to_string(), width(), 0);
        text += &format!("\n{heading}\nmedians of {rounds}, transports in turns\n\n");
    }
    text += &if args.quiet { table::lines(rows) } else { table::render(rows) };
    for reason in missing {
        text += &(fold(reason, width(), 2) + "\n");
    }
    if let Some(path) = &args.json {
        text += &format!("wrote {}\n", path.display());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn names_are_those_of_the_documentation() {
        let names: Vec<String> =
            Condition::value_variants().iter().map(|condition| condition.name()).collect();
        let expected = [
            "two-cores",
            "one-core",
            "busy-cores",
            "oversubscribed",
            "idle-connections",
            "clients-50",
            "processes-20",
            "bgsave",
            "cpu-quota",
            "slow-commands",
            "connect",
        ];
        assert_eq!(names, expected);
    }
}
