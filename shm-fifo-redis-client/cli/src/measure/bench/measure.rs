//! One measurement: connections over one transport, driven by one thread or more.

use super::engine::{Amount, Done, Engine};
use super::script::{Script, Step};
use crate::interrupt::Interrupts;
use crate::place::Place;
use crate::statistics::Series;
use crate::transport::Transport;
use std::sync::Barrier;
use std::thread;

/// Connections over one transport, shared out to threads.
#[derive(Debug)]
pub(crate) struct Bench {
    engines: Vec<Engine>,
    connections: usize,
}

impl Bench {
    pub(crate) fn connect(
        place: &Place,
        transport: Transport,
        connections: usize,
        threads: usize,
        interrupts: &Interrupts,
    ) -> anyhow::Result<Self> {
        let threads = threads.clamp(1, connections);
        let share = |index| connections * (index + 1) / threads - connections * index / threads;
        let engine = |index| {
            let streams = place.connect_many(transport, share(index))?;
            Ok(Engine::new(streams, interrupts.clone()))
        };
        let engines = (0..threads).map(engine).collect::<anyhow::Result<_>>()?;
        Ok(Self { engines, connections })
    }

    /// Stores what `script` reads.
    pub(crate) fn store(&mut self, script: &Script) -> anyhow::Result<()> {
        if script.stores.is_empty() {
            return Ok(());
        }
        let stores: Vec<Step> = script.stores.clone();
        let depth = stores.len().min(100);
        let batches = stores.len().div_ceil(depth) as u64;
        let amount = Amount { depth, batches, ..Amount::of_requests(1, 1, depth) };
        let script = Script::of(stores, Vec::new(), depth, 0);
        self.engines[0].run_on_first(&script, amount)
    }

    /// Runs some batches that do not count, then `requests` that do.
    pub(crate) fn run(
        &mut self,
        script: &Script,
        depth: usize,
        requests: u64,
    ) -> anyhow::Result<Measured> {
        let warm_up = Amount::of_requests(requests / 10, self.connections, depth);
        let amount = Amount::of_requests(requests, self.connections, depth);
        let barrier = Barrier::new(self.engines.len());
        let parts = thread::scope(|scope| {
            let begin = |engine| {
                let barrier = &barrier;
                scope.spawn(move || part(engine, script, warm_up, amount, barrier))
            };
            let threads: Vec<_> = self.engines.iter_mut().map(begin).collect();
            let ends = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            ends.collect::<anyhow::Result<Vec<_>>>()
        })?;
        Ok(Measured::of(parts))
    }
}

fn part(
    engine: &mut Engine,
    script: &Script,
    warm_up: Amount,
    amount: Amount,
    barrier: &Barrier,
) -> anyhow::Result<(Done, Series)> {
    engine.spread_over(script, amount.depth);
    let warm = engine.run(script, warm_up, &mut Series::new());
    // Also after an error: nobody is to wait for ever.
    barrier.wait();
    warm?;
    let mut series = Series::new();
    let done = engine.run(script, amount, &mut series)?;
    Ok((done, series))
}

/// What one measurement found.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) commands: u64,
    pub(crate) commands_per_s: f64,
    pub(crate) series: Series,
}

impl Measured {
    /// Threads that ran at the same time: their commands in the time of the
    /// slowest.
    fn of(parts: Vec<(Done, Series)>) -> Self {
        let commands = parts.iter().map(|(done, _)| done.commands).sum();
        let elapsed = parts.iter().map(|(done, _)| done.elapsed).max().unwrap_or_default();
        let mut series = Series::new();
        parts.iter().for_each(|(_, part)| series.add(part));
        Self { commands, commands_per_s: commands as f64 / elapsed.as_secs_f64(), series }
    }
}
