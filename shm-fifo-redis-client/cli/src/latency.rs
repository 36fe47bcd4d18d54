//! `redis-shm latency`: PING round trips to a server that is running, shown as
//! `redis-cli --latency` does, over any transport.

mod addresses;
pub(crate) mod args;
mod dist;
mod export;
mod figures;
mod hgrm;
mod history;
mod intervals;
mod live;
mod probe;
mod row;
mod sampling;
mod screen;
mod spectrum;

use crate::Answer;
use crate::interrupt::{Interrupted, Interrupts};
use addresses::Addresses;
use anyhow::{Context, bail};
use args::{LatencyArgs, Output};
use intervals::Intervals;
use live::{AtTheEnd, Live};
use probe::Probe;
use sampling::{Ended, Sampling, View};

pub(crate) fn run(args: &LatencyArgs) -> anyhow::Result<Answer> {
    export::check_paths(args)?;
    let interrupts = Interrupts::catch().context("cannot catch signals")?;
    interrupts.explain(measure(args, &interrupts))
}

fn measure(args: &LatencyArgs, interrupts: &Interrupts) -> anyhow::Result<Answer> {
    let mut probes = Vec::new();
    for (transport, target) in Addresses::of(args)?.ways(args)? {
        match Probe::connect(&args.server, transport, target)? {
            Ok(probe) => probes.push(probe),
            Err(refusal) => return Ok(Answer::No(refusal.to_string())),
        }
    }
    let mut view = view(args, &probes)?;
    let ended = Sampling::new(args, interrupts).run(&mut probes, view.as_mut());
    // Ctrl-C or an error: what was measured until then is shown and kept.
    let rows = view.finish(&mut probes)?;
    if !rows.is_empty() {
        export::write(args, &rows, &probes)?;
        eprint!("{}", figures::hint(args).unwrap_or_default());
    }
    match ended? {
        Ended::Interrupted if args.has_an_end() || rows.is_empty() => Err(Interrupted.into()),
        Ended::Complete if rows.is_empty() => {
            bail!("nothing was measured: --duration is shorter than the pause of --sample-rate")
        }
        Ended::Interrupted | Ended::Complete => Ok(Answer::Yes),
    }
}

fn view(args: &LatencyArgs, probes: &[Probe]) -> anyhow::Result<Box<dyn View>> {
    Ok(if args.history || args.dist {
        Box::new(Intervals::begin(args, probes)?)
    } else if args.output() == Output::Terminal {
        Box::new(Live::begin(args, probes)?)
    } else {
        Box::new(AtTheEnd::begin(args))
    })
}
