//! `redis-shm report`: results to show to others: one page of a server of one's
//! own, or the tables and plots of this project's documents.

pub(crate) mod args;
mod cpu;
mod document;
mod page;
mod section;
mod table;

use crate::Answer;
use crate::child::Confinement;
use crate::demo::{self, ClientKind};
use crate::exchange;
use crate::interrupt::Interrupts;
use crate::measure::bench::args::BenchArgs;
use crate::measure::bench::row::{Outcome, Results};
use crate::measure::bench::sweep;
use crate::measure::plot::percentiles::Percentiles;
use crate::measure::plot::picture::Picture;
use crate::measure::plot::throughput::Throughput;
use crate::place::{NotShared, Place};
use crate::report::{self, Report};
use anyhow::Context;
use args::ReportArgs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::{fs, io};
use tempfile::NamedTempFile;

/// The pipelining page's depths, but fewer.
const SHORT_SWEEP: &str = "-t ping -c 1,50 -P 1,4,16,64,256,1024";
const DEFAULT_REQUESTS: u64 = 20_000;
const DEFAULT_ROUNDS: u64 = 3;

pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<Answer> {
    if !args.draw.is_empty() {
        args.draw.iter().try_for_each(|path| Picture::draw_again(path))?;
        return Ok(Answer::Yes);
    }
    let interrupts = Interrupts::catch().context("cannot catch signals")?;
    if !args.update.is_empty() {
        return interrupts.explain(document::update(args, &interrupts));
    }
    let context = || format!("cannot write {}", args.output.display());
    // What is there already stays until there is something to write.
    let file = new_file_for(&args.output).with_context(context)?;
    let measured = interrupts.explain(measure(args, &interrupts));
    let survey = match measured {
        Err(error) if error.is::<NotShared>() => return Ok(Answer::No(format!("{error:#}"))),
        measured => measured?,
    };
    fs::write(file.path(), page::render(&survey)).with_context(context)?;
    file.persist(&args.output).map_err(|error| error.error).with_context(context)?;
    report::print_text(&format!("wrote {}\n", args.output.display()))?;
    Ok(Answer::Yes)
}

/// A file that becomes the one at `path`, or nothing.
fn new_file_for(path: &Path) -> io::Result<NamedTempFile> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let readable = fs::Permissions::from_mode(0o644);
    let mut builder = tempfile::Builder::new();
    builder.permissions(readable).tempfile_in(directory.unwrap_or(Path::new(".")))
}

/// Everything that is on the page.
#[derive(Debug)]
struct Survey {
    round_trips: Report,
    sweep: Results,
    /// Words of the command line that measures all of it again, but for the server.
    report_words: String,
    /// Words of the command line that repeats the sweep.
    sweep_words: String,
    cpu: Vec<cpu::PerCommand>,
    /// The module's settings; none if the server does not tell them.
    settings: Vec<(String, String)>,
}

fn measure(args: &ReportArgs, interrupts: &Interrupts) -> anyhow::Result<Survey> {
    let (place, server) = Place::find(&args.server, &Confinement::default(), interrupts)?;
    let requests = args.requests.unwrap_or(DEFAULT_REQUESTS);
    let rounds = args.rounds.unwrap_or(DEFAULT_ROUNDS);
    let report_words = format!("-n {requests} --rounds {rounds}");
    let sweep_words = format!("{SHORT_SWEEP} {report_words}");
    announce("1 of 3: round trips")?;
    let round_trips = demo::measure(&place, &[ClientKind::Raw], requests, interrupts);
    // Another's server keeps nothing of ours, whatever happened.
    let removed = remove_key(&place);
    let round_trips = round_trips?;
    removed?;
    announce("2 of 3: CPU time")?;
    let cpu = cpu::measure(&place, requests, rounds, interrupts)?;
    announce("3 of 3: depths of the pipeline")?;
    let sweep = sweep::run(&BenchArgs::of(&sweep_words), &place, interrupts)?;
    let settings = settings(&place);
    drop(server);
    Ok(Survey { round_trips, sweep, report_words, sweep_words, cpu, settings })
}

fn announce(step: &str) -> anyhow::Result<()> {
    Ok(report::print_text(&format!("{step}\n"))?)
}

fn remove_key(place: &Place) -> anyhow::Result<()> {
    let mut connection = place.side_connection()?;
    Ok(redis::cmd("DEL").arg(exchange::KEY).query(&mut connection)?)
}

/// Not every user may read them; the page does without.
fn settings(place: &Place) -> Vec<(String, String)> {
    let ask = || {
        let mut connection = place.side_connection().ok()?;
        redis::cmd("CONFIG").arg("GET").arg("shm.*").query(&mut connection).ok()
    };
    let mut settings: Vec<(String, String)> = ask().unwrap_or_default();
    settings.sort();
    settings
}

/// The outcomes of a plot: those with as many clients of the first command.
fn outcomes_of(results: &Results, clients: u64) -> &[Outcome] {
    let same = |one: &Outcome, other: &Outcome| {
        (one.row.cell.clients, one.row.cell.command)
            == (other.row.cell.clients, other.row.cell.command)
    };
    let mut blocks = results.outcomes.chunk_by(same);
    blocks.find(|block| block[0].row.cell.clients == clients).unwrap_or_default()
}

/// The plots of a sweep's first command with one client.
fn sweep_pictures(results: &Results, heading: &report::Heading) -> [(&'static str, Picture); 2] {
    let (outcomes, rounds) = (outcomes_of(results, 1), results.rounds);
    [
        ("throughput", Picture::Throughput(Throughput::of(outcomes, heading, rounds))),
        ("percentiles", Picture::Percentiles(Percentiles::of(outcomes, heading, rounds))),
    ]
}
