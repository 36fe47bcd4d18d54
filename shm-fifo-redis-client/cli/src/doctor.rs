//! `redis-shm doctor`: whether connections to a server move to shared memory from
//! here, why if not, and what on this machine makes it fast or slow.

mod check;
mod client;
mod cores;
mod kernel;
mod limits;
mod module;
mod output;
mod peer;
mod preload;
pub(crate) mod program;
mod region;
mod server;

use crate::Answer;
use crate::interrupt::Interrupts;
use crate::report;
use crate::running::RunningServer;
use crate::text;
use anyhow::Context;
use check::Check;
use client::Outcome;
use server::Reached;

const ABOUT_CODES: &str = "Exit codes: 0 shared memory will be used, 1 it will not (stderr says \
    why), 2 that cannot be told: no server answers, or it does not accept the user, 130 interrupted. \
    Notes change none of these.";

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, after_help = ABOUT_CODES)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) server: RunningServer,

    /// The checks as a JSON array of objects with name, status, detail and fix.
    #[arg(long)]
    json: bool,

    /// Print help.
    #[arg(long, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
}

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<Answer> {
    let interrupts = Interrupts::catch().context("cannot catch signals")?;
    let mut checks = Vec::new();
    let verdict = examine(&args.server, &mut checks);
    interrupts.check()?;
    let moved = matches!(verdict, Ok(Answer::Yes));
    let text = if args.json {
        output::json(&checks)?
    } else {
        output::text(&checks, moved, text::width())
    };
    let printed = report::print_text(&text);
    if moved {
        printed?;
    }
    // A no is one, whether or not anybody reads why.
    verdict
}

/// The verdict is that of a connection that really tries; the checks explain it.
fn examine(server: &RunningServer, checks: &mut Vec<Check>) -> anyhow::Result<Answer> {
    let reached = server::reach(server, checks);
    let server_pid = server::process(server);
    let verdict = reached.and_then(|reached| connection(server, reached, checks));
    checks.push(kernel::check());
    checks.extend(cores::checks(server_pid));
    checks.extend(limits::checks(server_pid));
    checks.push(match verdict {
        Ok(Answer::Yes) => preload::check(server),
        // No program's connection moves, and the reason has been told.
        _ => preload::look_for_it(),
    });
    verdict
}

/// From the module to the move, as far as there is something to look at.
fn connection(
    server: &RunningServer,
    mut reached: Reached,
    checks: &mut Vec<Check>,
) -> anyhow::Result<Answer> {
    module::look(&mut reached, checks);
    let outcome = client::try_to_move(server);
    checks.push(server::place(server, &outcome));
    if matches!(outcome, Outcome::Moved) {
        checks.push(region::check(server));
    }
    checks.extend(client::check(&outcome, &reached.user));
    Ok(match outcome {
        Outcome::Moved => Answer::Yes,
        Outcome::Refused(refusal) => Answer::No(refusal.to_string()),
        Outcome::Failed(error) => Answer::No(error.to_string()),
    })
}
