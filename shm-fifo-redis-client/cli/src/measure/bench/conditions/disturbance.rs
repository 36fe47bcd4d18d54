//! What goes on beside the measurement.

use super::super::engine::{Amount, Engine};
use super::super::script::{Script, Step};
use super::super::worker::{Job, Order, WorkerArgs};
use super::crew::Worker;
use crate::child::{Confinement, Guard};
use crate::interrupt::Interrupts;
use crate::place::Place;
use crate::statistics::Series;
use crate::transport::Transport;
use rustix::thread::{CpuSet, sched_getaffinity};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub(crate) const IDLE_CONNECTIONS: usize = 1_000;
const SLOW_COMMAND_MS: u64 = 5;
const SAVED_KEYS: u64 = 100_000;
const SAVED_VALUE_BYTES: usize = 512;

/// The CPUs that this process may use.
pub(crate) fn cpus() -> anyhow::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect())
}

/// `times` busy processes on each CPU.
pub(crate) fn busy_processes(times: usize) -> anyhow::Result<Vec<Guard>> {
    let cpus = cpus()?;
    (0..times).flat_map(|_| &cpus).map(|&cpu| Guard::busy(cpu)).collect()
}

/// Something that goes on as long as this value lives.
#[derive(Debug)]
pub(crate) enum Disturbance {
    Busy { _processes: Vec<Guard> },
    Idle { _connections: Worker },
    Slow(Worker),
    Saving { _saver: Saver },
}

impl Disturbance {
    pub(crate) fn busy(times: usize) -> anyhow::Result<Self> {
        Ok(Self::Busy { _processes: busy_processes(times)? })
    }

    pub(crate) fn idle(args: WorkerArgs) -> anyhow::Result<Self> {
        let args = WorkerArgs { job: Job::Idle, transport: Transport::Shm, ..args };
        let args = WorkerArgs { connections: IDLE_CONNECTIONS, ..args };
        Ok(Self::Idle { _connections: Worker::ready(&args, &Confinement::default())? })
    }

    pub(crate) fn slow(
        place: &Place,
        transport: Transport,
        args: WorkerArgs,
    ) -> anyhow::Result<Self> {
        let args = WorkerArgs { job: Job::Slow, transport, loops: slow_loops(place)?, ..args };
        Ok(Self::Slow(Worker::ready(&args, &Confinement::default())?))
    }

    pub(crate) fn saving(place: &Place) -> anyhow::Result<Self> {
        store_keys(place)?;
        Ok(Self::Saving { _saver: Saver::start(place)? })
    }

    /// What must be told begins now and lasts so long.
    pub(crate) fn begin(&mut self, lasting: Duration) -> anyhow::Result<()> {
        match self {
            Self::Slow(worker) => worker.begin(Order {
                requests: u64::MAX / 2,
                at_most_ms: u64::try_from(lasting.as_millis())?,
            }),
            _ => Ok(()),
        }
    }

    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Slow(worker) => worker.finish().map(drop),
            _ => Ok(()),
        }
    }
}

/// How many loops take 5 ms here.
fn slow_loops(place: &Place) -> anyhow::Result<u64> {
    const PROBE: u64 = 100_000;
    let mut engine = Engine::new(vec![place.connect(Transport::Unix)?], Interrupts::ignore());
    let script = Script::of(vec![Step::busy_loop(PROBE)], Vec::new(), 1, 0);
    let mut series = Series::new();
    engine.run(&script, Amount::of_requests(20, 1, 1), &mut series)?;
    let fastest_ns = series.summary().map_or(1, |summary| summary.min_ns.max(1));
    Ok(PROBE * SLOW_COMMAND_MS * 1_000_000 / fastest_ns)
}

fn store_keys(place: &Place) -> anyhow::Result<()> {
    let stores = (0..SAVED_KEYS).map(|key| Step::set(key, SAVED_VALUE_BYTES));
    let depth = 1000;
    let script = Script::of(stores.collect(), Vec::new(), depth, 0);
    let mut engine = Engine::new(vec![place.connect(Transport::Unix)?], Interrupts::ignore());
    let amount = Amount::of_requests(script.commands() as u64, 1, depth);
    engine.run(&script, amount, &mut Series::new()).map(drop)
}

/// Begins a BGSAVE as soon as the last one is over.
#[derive(Debug)]
pub(crate) struct Saver {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Saver {
    fn start(place: &Place) -> anyhow::Result<Self> {
        let mut stream = place.connect(Transport::Unix)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut reply = [0; 256];
            // Relaxed: the flag carries nothing but itself.
            while !stopped.load(Ordering::Relaxed) {
                // "already in progress" is as good an answer as "started".
                let asked = stream.write_all(b"*1\r\n$6\r\nBGSAVE\r\n");
                if asked.and_then(|()| stream.read(&mut reply)).unwrap_or(0) == 0 {
                    return;
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}
