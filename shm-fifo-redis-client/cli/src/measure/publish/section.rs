//! The parts of the documents that are measured: how each is, and what is written.

use super::args::ReportArgs;
use super::{sweep_pictures, table};
use crate::child::Confinement;
use crate::demo::{self, ClientKind};
use crate::interrupt::Interrupts;
use crate::measure::bench::args::BenchArgs;
use crate::measure::bench::conditions;
use crate::measure::bench::row::Results;
use crate::measure::bench::sweep;
use crate::measure::plot::picture::Picture;
use crate::place::Place;
use crate::report::Heading;
use std::fmt;

const ROUND_TRIPS: u64 = 60_000;
const SWEEP: &str = "-c 1,50";
const VALUES: &str = "-t set,get -d 1024,16384,65536 -c 1,50 -P 1,16 -n 5000";
const CONDITIONS: &str = "--conditions";

/// By the names that the marks have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Section {
    /// PING, SET and GET over each transport.
    RoundTrips,
    /// Throughput over the pipeline's depth.
    Sweep,
    /// Throughput with larger values.
    Values,
    /// PING under conditions that make waiting hard.
    Conditions,
}

impl fmt::Display for Section {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use clap::ValueEnum;
        let value = self.to_possible_value();
        formatter.pad(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
    }
}

/// What a section found.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) markdown: String,
    /// By the names of their files.
    pub(crate) pictures: Vec<(&'static str, Picture)>,
}

impl Section {
    pub(crate) fn measure(
        self,
        args: &ReportArgs,
        interrupts: &Interrupts,
    ) -> anyhow::Result<Measured> {
        match self {
            Self::RoundTrips => round_trips(args, interrupts),
            Self::Sweep => {
                let (words, heading, results) = run_sweep(SWEEP, args, interrupts)?;
                let markdown = measured_by(&words, &heading) + &sweep_tables(&results);
                let pictures = sweep_pictures(&results, &heading).into();
                Ok(Measured { markdown, pictures })
            }
            Self::Values => {
                let (words, heading, results) = run_sweep(VALUES, args, interrupts)?;
                let table = table::values(&results.outcomes).markdown();
                let markdown = measured_by(&words, &heading) + &table;
                Ok(Measured { markdown, pictures: Vec::new() })
            }
            Self::Conditions => measure_conditions(args, interrupts),
        }
    }
}

fn round_trips(args: &ReportArgs, interrupts: &Interrupts) -> anyhow::Result<Measured> {
    let requests = args.requests.unwrap_or(ROUND_TRIPS);
    let (place, server) = Place::find(&args.server, &Confinement::default(), interrupts)?;
    let report = demo::measure(&place, &[ClientKind::Raw], requests, interrupts)?;
    drop(server);
    let markdown = format!(
        "{}\nMeasured by `redis-shm demo --requests {requests}`: one client, one request at a \
         time, 16-byte values, the transports in turns. {}.\n",
        table::round_trips(&report).markdown(),
        report.heading
    );
    Ok(Measured { markdown, pictures: vec![("latency", Picture::Bars(report))] })
}

/// `words` with what the command line changes, the results and what they are of.
fn run_sweep(
    words: &str,
    args: &ReportArgs,
    interrupts: &Interrupts,
) -> anyhow::Result<(String, Heading, Results)> {
    let words = with_changes(words, args);
    let (place, _server) = Place::find(&args.server, &Confinement::default(), interrupts)?;
    let heading = Heading::of(place.server_info()?);
    let results = sweep::run(&BenchArgs::of(&words), &place, interrupts)?;
    Ok((words, heading, results))
}

fn with_changes(words: &str, args: &ReportArgs) -> String {
    let mut kept: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let mut change = |option: &str, value: Option<u64>| {
        let Some(value) = value else { return };
        match kept.iter().position(|word| word == option) {
            Some(at) => kept[at + 1] = value.to_string(),
            None => kept.extend([option.to_owned(), value.to_string()]),
        }
    };
    change("-n", args.requests);
    change("--rounds", args.rounds);
    kept.join(" ")
}

fn measured_by(words: &str, heading: &Heading) -> String {
    format!("`redis-shm bench {words}`. {heading}.\n\n")
}

fn sweep_tables(results: &Results) -> String {
    let clients = |one: &crate::measure::bench::row::Outcome| one.row.cell.clients;
    let mut text = String::new();
    for block in results.outcomes.chunk_by(|one, other| clients(one) == clients(other)) {
        let count = clients(&block[0]);
        let plural = if count == 1 { "" } else { "s" };
        text += &format!("{count} client{plural}:\n\n{}\n", table::sweep(block).markdown());
    }
    text + &table::example(&results.example).markdown()
}

fn measure_conditions(args: &ReportArgs, interrupts: &Interrupts) -> anyhow::Result<Measured> {
    let words = with_changes(CONDITIONS, args);
    let mut bench = BenchArgs::of(&words);
    bench.server = args.server.clone();
    let found = conditions::measure(&bench, &[], interrupts)?;
    let mut markdown = String::new();
    if let Some(heading) = &found.heading {
        markdown += &measured_by(&words, heading);
        markdown += &table::conditions(&found.rows).markdown();
    }
    for reason in &found.missing {
        markdown += &format!("\n{reason}\n");
    }
    Ok(Measured { markdown, pictures: Vec::new() })
}
