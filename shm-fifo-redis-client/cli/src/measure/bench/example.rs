//! The example of the Redis pipelining page: 10,000 PINGs, one at a time and all
//! in one pipeline.

use super::measure::Bench;
use super::median;
use super::script::{Load, Script};
use crate::interrupt::Interrupts;
use crate::place::Place;
use crate::transport::Transport;

const PINGS: usize = 10_000;

/// How long the example takes over one transport, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Example {
    pub(crate) transport: Transport,
    pub(crate) without_s: f64,
    pub(crate) with_s: f64,
}

pub(crate) fn run(
    place: &Place,
    transports: &[Transport],
    rounds: u64,
    interrupts: &Interrupts,
) -> anyhow::Result<Vec<Example>> {
    let connect = |&transport: &Transport| {
        let bench = Bench::connect(place, transport, 1, 1, interrupts)?;
        Ok((transport, bench, Vec::new()))
    };
    let mut runs = transports.iter().map(connect).collect::<anyhow::Result<Vec<_>>>()?;
    for _ in 0..rounds {
        for (_, bench, times) in &mut runs {
            interrupts.check()?;
            times.push((seconds(bench, 1)?, seconds(bench, PINGS)?));
        }
        runs.reverse();
    }
    let example = |(transport, _, times): &(Transport, Bench, Vec<(f64, f64)>)| {
        let without_s = median::of(times.iter().map(|(without, _)| *without))?;
        let with_s = median::of(times.iter().map(|(_, with)| *with))?;
        Some(Example { transport: *transport, without_s, with_s })
    };
    let mut examples: Vec<Example> = runs.iter().filter_map(example).collect();
    examples.sort_by_key(|one| transports.iter().position(|other| *other == one.transport));
    Ok(examples)
}

fn seconds(bench: &mut Bench, depth: usize) -> anyhow::Result<f64> {
    let script = Script::new(Load::Ping, 0, 0, depth);
    let measured = bench.run(&script, depth, PINGS as u64)?;
    Ok(measured.commands as f64 / measured.commands_per_s)
}

/// As the page prints it, for each transport.
pub(crate) fn render(examples: &[Example]) -> String {
    let mut text = String::new();
    for Example { transport, without_s, with_s } in examples {
        text += &format!("{transport:<5} without pipelining {without_s:.6} seconds\n");
        text += &format!("{transport:<5} with pipelining {with_s:.6} seconds\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_on_the_page() {
        let example =
            Example { transport: Transport::Unix, without_s: 1.185_238, with_s: 0.250_783 };
        let text = render(&[example]);
        assert!(text.contains("without pipelining 1.185238 seconds\n"), "{text}");
        assert!(text.contains(" with pipelining 0.250783 seconds\n"), "{text}");
    }
}
