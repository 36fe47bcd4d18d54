//! Client processes that work at the same time over one transport.

use super::super::worker::{Findings, Order, WorkerArgs};
use crate::child::{Confinement, Guard};
use crate::statistics::Series;
use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

/// One client process; it ends with this value.
#[derive(Debug)]
pub(crate) struct Worker {
    orders: UnixStream,
    findings: BufReader<UnixStream>,
    // Dropped last: the socket is closed by then.
    _process: Guard,
}

impl Worker {
    /// Starts it; it connects meanwhile.
    fn start(args: &WorkerArgs, confinement: &Confinement) -> anyhow::Result<Self> {
        let (process, orders) = Guard::worker(confinement, &args.to_arguments())?;
        let findings = BufReader::new(orders.try_clone()?);
        Ok(Self { orders, findings, _process: process })
    }

    /// Starts it and waits until it is connected.
    pub(crate) fn ready(args: &WorkerArgs, confinement: &Confinement) -> anyhow::Result<Self> {
        let mut worker = Self::start(args, confinement)?;
        worker.finish()?;
        Ok(worker)
    }

    /// Lets it begin.
    pub(crate) fn begin(&mut self, order: Order) -> anyhow::Result<()> {
        let line = serde_json::to_string(&order)? + "\n";
        self.orders.write_all(line.as_bytes()).context("a client process ended early")
    }

    /// Waits until it is done.
    pub(crate) fn finish(&mut self) -> anyhow::Result<Findings> {
        let mut line = String::new();
        if self.findings.read_line(&mut line)? == 0 {
            bail!("a client process ended early");
        }
        Ok(serde_json::from_str(&line)?)
    }
}

/// Workers of one transport.
#[derive(Debug)]
pub(crate) struct Crew(Vec<Worker>);

/// What a crew found together.
#[derive(Debug)]
pub(crate) struct Together {
    pub(crate) series: Series,
    pub(crate) commands: u64,
    pub(crate) commands_per_s: f64,
    pub(crate) cpu_ns: u64,
}

impl Crew {
    pub(crate) fn start(
        count: usize,
        args: &WorkerArgs,
        confinement: &Confinement,
    ) -> anyhow::Result<Self> {
        let workers = (0..count).map(|_| Worker::start(args, confinement));
        let mut crew = Self(workers.collect::<anyhow::Result<_>>()?);
        for worker in &mut crew.0 {
            worker.finish()?;
        }
        Ok(crew)
    }

    pub(crate) fn work(&mut self, order: Order) -> anyhow::Result<Together> {
        for worker in &mut self.0 {
            worker.begin(order)?;
        }
        let findings = self.0.iter_mut().map(Worker::finish).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Together::of(&findings))
    }
}

impl Together {
    /// They ran at the same time, some a little longer: their rates add up.
    fn of(findings: &[Findings]) -> Self {
        let mut series = Series::new();
        for &(ns, count) in findings.iter().flat_map(|one| &one.places) {
            series.record_many(ns, count);
        }
        let rate = |one: &Findings| one.commands as f64 * 1e9 / one.elapsed_ns.max(1) as f64;
        Self {
            series,
            commands: findings.iter().map(|one| one.commands).sum(),
            commands_per_s: findings.iter().map(rate).sum(),
            cpu_ns: findings.iter().map(|one| one.cpu_ns).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_of_several_processes_add_up() {
        let findings = |commands, ns| Findings {
            commands,
            elapsed_ns: 1_000_000,
            cpu_ns: 7,
            places: vec![(ns, commands)],
        };
        let together = Together::of(&[findings(3, 100), findings(1, 900)]);
        assert_eq!((together.commands, together.cpu_ns), (4, 14));
        assert!((together.commands_per_s - 4_000.0).abs() < 1e-6);
        let summary = together.series.summary().expect("samples");
        assert_eq!((summary.count, summary.p50_ns, summary.max_ns), (4, 100, 900));
    }
}
