//! `redis-shm conformance`: a server that does to a client whatever a server may, and what it
//! must not, and looks what the client makes of it.

mod commands;
mod forged;
mod offer;
mod program;
mod request;
mod scenarios;
mod session;
mod wire;

use crate::Answer;
use crate::args::seconds;
use crate::interrupt::Interrupts;
use crate::report;
use crate::text::{fold, width};
use anstyle::{AnsiColor, Style};
use anyhow::{Context, bail};
use clap::ValueHint;
use program::{Listener, Program};
use scenarios::{End, Over, Scenario};
use session::{Session, Stop};
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use wire::Wire;

const NOTES: &str = "\
Exit codes: 0 all scenarios passed, 1 some did not, 2 an error, 130 interrupted.

PROGRAM finds the server's address in SHM_FIFO_CONFORMANCE, a path or host:port, and makes one \
connection, by the client that is looked at. On that it sends GET next, and ECHO with the value \
it was given, again and again, until that value is nil; then it exits with 0. If a reply is \
another one, or the connection is lost, it exits with anything else, and does not connect again.";

#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(crate) struct ConformanceArgs {
    /// The connection is by loopback TCP instead of a unix socket.
    #[arg(long)]
    tcp: bool,

    /// The only scenarios that are played.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,

    /// How long each may take.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,

    /// List the scenarios, what each demands, and where that is written.
    #[arg(long)]
    list: bool,

    /// The program and its arguments.
    #[arg(
        value_name = "PROGRAM",
        required_unless_present = "list",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_hint = ValueHint::CommandWithArguments
    )]
    command: Vec<OsString>,
}

/// What came of a scenario.
#[derive(Debug)]
enum Verdict {
    Passed,
    /// The client does not have what it is about.
    Skipped(&'static str),
    Failed(String),
}

pub(crate) fn run(args: &ConformanceArgs) -> anyhow::Result<Answer> {
    let scenarios = chosen(args)?;
    if args.list {
        let lines = scenarios.iter().map(|scenario| described(scenario));
        report::print_text(&lines.collect::<String>())?;
        return Ok(Answer::Yes);
    }
    let interrupts = Interrupts::catch().context("cannot catch signals")?;
    let mut failed = 0;
    for scenario in &scenarios {
        let verdict = examine(scenario, args);
        interrupts.check()?;
        let verdict = verdict?;
        failed += usize::from(matches!(verdict, Verdict::Failed(_)));
        report::print_text(&line(scenario, &verdict))?;
    }
    Ok(match failed {
        0 => Answer::Yes,
        _ => Answer::No(format!("{failed} of {} scenarios failed", scenarios.len())),
    })
}

fn chosen(args: &ConformanceArgs) -> anyhow::Result<Vec<&'static Scenario>> {
    let is_there = |one: &&Scenario| args.list || args.tcp || one.over == Over::Any;
    let played = scenarios::all().filter(is_there);
    if args.only.is_empty() {
        return Ok(played.collect());
    }
    let named = |name: &String| {
        let scenario = played.clone().find(|one| one.name == *name);
        scenario.with_context(|| format!("no such scenario here: {name}; --list names all"))
    };
    args.only.iter().map(named).collect()
}

/// Plays it once, with a new process.
fn examine(scenario: &Scenario, args: &ConformanceArgs) -> anyhow::Result<Verdict> {
    let directory = tempfile::tempdir().context("no temporary directory")?;
    let said = directory.path().join("said");
    let deadline = Instant::now() + args.timeout;
    let (listener, address) = Listener::bind(directory.path(), args.tcp)?;
    let mut program = Program::start(&args.command, &address, &said)?;
    if !program.connects_to(&listener, deadline) {
        bail!("the program did not connect{}", words_in(&said));
    }
    let wire = Wire::new(listener.accept()?, args.tcp, deadline);
    let mut session = Session::new(wire);
    let fault = match (scenario.play)(&mut session) {
        Ok(()) => wrong_end(scenario.end, program.wait(deadline)?),
        Err(Stop::NotForIt(reason)) => return Ok(Verdict::Skipped(reason)),
        Err(Stop::Error(error)) => return Err(error).context("the server cannot be played"),
        Err(Stop::Fault(fault)) => Some(fault),
    };
    let verdict = fault.map(|fault| Verdict::Failed(fault + &words_in(&said)));
    Ok(verdict.unwrap_or(Verdict::Passed))
}

/// What is wrong with how the program has ended; `None` is: has not in time.
fn wrong_end(expected: End, ended: Option<ExitStatus>) -> Option<String> {
    let Some(status) = ended else { return Some("it did not end in time".into()) };
    match expected {
        _ if status.signal().is_some() => Some(format!("it was ended by {status}")),
        End::Well if !status.success() => Some(format!("it ended with {status}")),
        End::WithAnError if status.success() => Some("it says that all was well".into()),
        _ => None,
    }
}

/// The program's last words, if it had any.
fn words_in(said: &Path) -> String {
    let said = fs::read(said).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    said.trim().lines().last().map(|line| format!(", and said: {line}")).unwrap_or_default()
}

fn described(Scenario { name, demand, section, over, .. }: &Scenario) -> String {
    let alone = if *over == Over::Tcp { "with --tcp, " } else { "" };
    fold(&format!("{name:<33}{alone}{demand} ({section})"), width(), 33) + "\n"
}

fn line(scenario: &Scenario, verdict: &Verdict) -> String {
    let (word, style, why) = match verdict {
        Verdict::Passed => ("ok", AnsiColor::Green.on_default(), String::new()),
        Verdict::Skipped(reason) => ("skipped", Style::new().dimmed(), format!(": {reason}")),
        Verdict::Failed(fault) => {
            let Scenario { demand, section, .. } = scenario;
            let why = format!(": {fault}. It has to {demand} ({section})");
            ("FAILED", AnsiColor::Red.on_default().bold(), why)
        }
    };
    fold(&format!("{style}{word:<7}{style:#}  {}{why}", scenario.name), width(), 9) + "\n"
}
