//! Every command, number of clients and depth, each over all transports in turns.

use super::args::BenchArgs;
use super::example;
use super::measure::{Bench, Measured};
use super::output;
use super::progress_bar;
use super::row::{Cell, Outcome, Results, Row};
use super::script::{Load, Script};
use super::table;
use crate::interrupt::Interrupts;
use crate::place::Place;
use crate::statistics::Series;
use crate::transport::Transport;
use anyhow::Context;
use indicatif::ProgressBar;

/// For each measurement, unless -n says otherwise.
const DEFAULT_REQUESTS: u64 = 20_000;

pub(crate) fn run(
    args: &BenchArgs,
    place: &Place,
    interrupts: &Interrupts,
) -> anyhow::Result<Results> {
    let transports = place.transports(&args.transport)?;
    let with_example = args.tests.contains(&Load::Ping);
    let plan = plan(args);
    let measurements = plan.len() as u64 * args.rounds * transports.len() as u64;
    let mut sweep = Sweep {
        args,
        place,
        interrupts,
        progress: progress_bar(args, measurements)?,
        transports,
        outcomes: Vec::new(),
    };
    for group in plan.chunk_by(|one, other| one.clients == other.clients) {
        sweep.measure_group(group)?;
    }
    let Sweep { transports, progress, outcomes, .. } = sweep;
    let example = if with_example {
        example::run(place, &transports, args.rounds, interrupts)?
    } else {
        Vec::new()
    };
    progress.finish_and_clear();
    Ok(Results { outcomes, rounds: args.rounds, example })
}

/// What is measured, in this order: cells with as many clients are neighbours.
fn plan(args: &BenchArgs) -> Vec<Cell> {
    let mut plan = Vec::new();
    for &clients in &args.clients {
        for &command in &args.tests {
            let one_size = [0];
            let sizes: &[u64] =
                if command.has_values_of_one_size() { &args.data } else { &one_size };
            for &value_bytes in sizes {
                let cell = |&pipeline| Cell { command, clients, pipeline, value_bytes };
                plan.extend(args.pipeline.iter().map(cell));
            }
        }
    }
    plan
}

struct Sweep<'a> {
    args: &'a BenchArgs,
    place: &'a Place,
    interrupts: &'a Interrupts,
    progress: ProgressBar,
    transports: Vec<Transport>,
    outcomes: Vec<Outcome>,
}

impl Sweep<'_> {
    /// Measures cells that have as many clients.
    fn measure_group(&mut self, cells: &[Cell]) -> anyhow::Result<()> {
        let Some(first) = cells.first() else { return Ok(()) };
        let clients = usize::try_from(first.clients)?;
        let threads = usize::try_from(self.args.threads)?;
        let connect = |&transport: &Transport| {
            Bench::connect(self.place, transport, clients, threads, self.interrupts)
        };
        let mut benches =
            self.transports.iter().map(connect).collect::<anyhow::Result<Vec<_>>>()?;
        for &cell in cells {
            self.measure_cell(cell, &mut benches)?;
        }
        Ok(())
    }

    fn measure_cell(&mut self, mut cell: Cell, benches: &mut [Bench]) -> anyhow::Result<()> {
        self.progress.set_message(format!("{}, depth {}", table::title(&cell), cell.pipeline));
        let depth = usize::try_from(cell.pipeline)?;
        let bytes = usize::try_from(cell.value_bytes)?;
        let script = Script::new(cell.command, bytes, self.args.keyspace, depth);
        cell.value_bytes = script.value_bytes;
        if let Some(bench) = benches.first_mut() {
            bench.store(&script)?;
        }
        let requests = self.args.requests.unwrap_or(DEFAULT_REQUESTS);
        let mut measured: Vec<Vec<Measured>> = benches.iter().map(|_| Vec::new()).collect();
        for round in 0..usize::try_from(self.args.rounds)? {
            for step in 0..benches.len() {
                // Nobody always follows the same one.
                let index = (step + round) % benches.len();
                self.interrupts.check()?;
                let found = benches[index].run(&script, depth, requests);
                let transport = self.transports[index];
                let found = found.with_context(|| format!("{} over {transport}", cell.command))?;
                measured[index].push(found);
                self.progress.inc(1);
            }
        }
        for (&transport, rounds) in self.transports.iter().zip(&measured) {
            let row = Row::of(transport, cell, rounds).context("no round was measured")?;
            if self.args.quiet {
                output::print_line(&row)?;
            }
            let mut series = Series::new();
            rounds.iter().for_each(|round| series.add(&round.series));
            self.outcomes.push(Outcome { row, series });
        }
        Ok(())
    }
}
