//! Many runs, each with a seed of its own; on several threads.

use crate::driver;
use crate::run::{Fault, Plan, Report, Way};
use crate::shrink::shrink;
use std::env;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What `make test` runs.
const DEFAULT_STEPS: u64 = 60_000;
const DEFAULT_RUN_STEPS: u64 = 1000;
/// They wait more than they work.
const THREADS: usize = 4;
/// Far beyond what any call takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn setting(name: &str, default: u64) -> u64 {
    let name = format!("SHM_FIFO_ATTACK_{name}");
    let text = env::var(&name).unwrap_or_default();
    if text.is_empty() {
        default
    } else {
        text.parse().unwrap_or_else(|_| panic!("{name} is a number"))
    }
}

#[derive(Debug, Default)]
struct Totals {
    steps: u64,
    calls: u64,
    connections: u64,
    asked: u64,
    moved: u64,
    faults: Vec<(u64, Fault)>,
}

pub(crate) fn run() {
    let program = driver::compile();
    let steps = setting("STEPS", DEFAULT_STEPS);
    let run_steps = setting("RUN_STEPS", DEFAULT_RUN_STEPS);
    let first = setting("SEED", 1);
    let max_faults = setting("FAULTS", 1);
    let without = env::var("SHM_FIFO_ATTACK_WITHOUT").unwrap_or_default();
    let shrinks = env::var_os("SHM_FIFO_ATTACK_SHRINK").is_some();
    let runs = steps.div_ceil(run_steps);
    let next = AtomicU64::new(first);
    let totals = Mutex::new(Totals::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            let enough = totals.lock().unwrap().faults.len() as u64 >= max_faults;
            if seed >= first + runs || enough {
                return;
            }
            let plan =
                Plan { seed, steps: run_steps, without: without.clone(), patience: PATIENCE };
            let result = both_ways(&plan, &program)
                .map_err(|fault| if shrinks { shrink(&plan, &program, fault) } else { fault });
            let mut totals = totals.lock().unwrap();
            match result {
                Ok(report) => totals.add(&report),
                Err(fault) => {
                    eprintln!("seed {seed}: {}", fault.summary);
                    totals.faults.push((seed, fault));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    totals.into_inner().unwrap().judge();
}

/// On sockets first: what fails there is a fault of the harness.
pub(crate) fn both_ways(plan: &Plan, program: &Path) -> Result<Report, Fault> {
    let control = plan.run(program, Way::Plain).map_err(|fault| Fault {
        summary: format!("THE CONTROL FAILS, ON SOCKETS: {}", fault.summary),
        ..fault
    })?;
    if env::var_os("SHM_FIFO_ATTACK_CONTROL").is_some() {
        return Ok(control);
    }
    let report = plan.run(program, Way::Preloaded)?;
    for (step, answer) in &control.answers {
        let other = report.answers.get(step).unwrap_or(answer);
        if other != answer {
            let summary = format!("step {step}: a socket answers {answer}, it {other}");
            let step_number = step.split_once('.').and_then(|(_, step)| step.parse().ok());
            let step = step_number.unwrap_or(plan.steps);
            return Err(Fault { summary, story: String::new(), step });
        }
    }
    Ok(report)
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.steps += report.steps;
        self.calls += report.calls;
        self.connections += report.connections;
        self.asked += report.asked;
        self.moved += report.moved;
    }

    fn judge(&self) {
        println!(
            "{} steps, {} calls, {} connections, of which {} were asked to move and {} moved",
            self.steps, self.calls, self.connections, self.asked, self.moved
        );
        for (seed, fault) in &self.faults {
            println!("---- seed {seed}: {}\n{}", fault.summary, fault.story);
        }
        assert!(self.faults.is_empty(), "{} faults", self.faults.len());
        assert!(self.moved > 0, "nothing moved: nothing was tested");
    }
}
