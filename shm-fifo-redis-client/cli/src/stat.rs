//! `redis-shm stat`: what a server's shared memory does, a line at a time.

mod columns;
mod sample;

use crate::Answer;
use crate::interrupt::Interrupts;
use crate::login;
use crate::refusals::Refusals;
use crate::report;
use crate::running::RunningServer;
use crate::text::{fold, width};
use anstyle::{AnsiColor, Style};
use anyhow::{Context, anyhow};
use redis::RedisError;
use sample::Sample;
use shm_fifo_redis_client::{Connection, Refusal, Sharing};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

const ABOUT_CODES: &str = "Exit codes: 0 done, also by Ctrl-C; 1 the server does not have the shm \
    module; 2 an error; 130 Ctrl-C before --count lines, or while the server does not answer.";

const YELLOW: Style = AnsiColor::Yellow.on_default();

/// A terminal that does not tell its height.
const USUAL_ROWS: u16 = 24;

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, after_help = ABOUT_CODES)]
pub(crate) struct StatArgs {
    #[command(flatten)]
    pub(crate) server: RunningServer,

    /// Seconds between two lines; the first has averages since the server's start.
    #[arg(short = 'i', long, value_name = "SECONDS", default_value = "1", value_parser = crate::args::seconds)]
    interval: Duration,

    /// Stop after so many lines.
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Print help.
    #[arg(long, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
}

pub(crate) fn run(args: &StatArgs) -> anyhow::Result<Answer> {
    let interrupts = Interrupts::catch().context("cannot catch signals")?;
    interrupts.explain(watch(args, &interrupts))
}

fn watch(args: &StatArgs, interrupts: &Interrupts) -> anyhow::Result<Answer> {
    let connected = args.server.client(Sharing::Never)?.get_connection();
    // Its text holds that of its source already.
    let mut connection = connected.map_err(|error| anyhow!("{error}"))?;
    let mut before = Sample::since_the_start(&ask(&mut connection, "server")?);
    let mut due = Instant::now();
    for line in 0..args.count.unwrap_or(u64::MAX) {
        let Some(sample) = take(&mut connection)? else {
            return Ok(Answer::No(Refusal::NoModule.to_string()));
        };
        report::print_text(&text(line, &before, &sample))?;
        before = sample;
        if line + 1 < args.count.unwrap_or(u64::MAX) {
            due = (due + args.interval).max(Instant::now());
            match interrupts.sleep_until(due) {
                // That is how it ends.
                Err(_) if args.count.is_none() => break,
                slept => slept?,
            }
        }
    }
    Ok(Answer::Yes)
}

/// `None` if the server has no module.
fn take(connection: &mut Connection) -> anyhow::Result<Option<Sample>> {
    let info = ask(connection, "shm")? + &ask(connection, "stats")?;
    Ok(Sample::from_info(&info))
}

fn ask(connection: &mut Connection, section: &str) -> anyhow::Result<String> {
    let info = redis::cmd("INFO").arg(section).query(connection);
    info.map_err(|error: RedisError| anyhow!("INFO {section} failed: {error}{}", advice(&error)))
}

fn advice(error: &RedisError) -> String {
    match error.code() {
        Some("NOAUTH") => format!("; {}", login::ADVICE),
        Some("NOPERM") => "; ask as a user that may run INFO".to_owned(),
        _ => String::new(),
    }
}

/// A line, with a header above where the last one scrolls away.
fn text(line: u64, before: &Sample, sample: &Sample) -> String {
    if !io::stdout().is_terminal() {
        return columns::for_programs(before, sample);
    }
    let header =
        if line.is_multiple_of(lines_below_header()) { columns::header() } else { String::new() };
    header + &columns::for_people(before, sample) + &why_refused(before, sample)
}

/// Below the first line that counts refusals: why, and what to do.
fn why_refused(before: &Sample, sample: &Sample) -> String {
    let total = |sample: &Sample| sample.refusals.as_ref().map_or(0, Refusals::total);
    match sample.refusals.as_ref().and_then(|refusals| Some((refusals, refusals.advice()?))) {
        Some((refusals, advice)) if total(before) == 0 => {
            let note = format!("{}; {advice}", refusals.summary());
            format!("{YELLOW}{}{YELLOW:#}\n", fold(&note, width(), 0))
        }
        _ => String::new(),
    }
}

/// So many fill the screen together with it.
fn lines_below_header() -> u64 {
    let rows = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_row);
    let rows = if rows > 0 { rows } else { USUAL_ROWS };
    u64::from(rows.saturating_sub(columns::HEADER_LINES).max(1))
}
