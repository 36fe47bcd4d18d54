//! A run that fails, with as few steps as still fail in the same way.

use crate::campaign::both_ways;
use crate::run::{Fault, Plan};
use std::path::Path;
use std::time::Duration;

/// It depends on time as well: that it does not fail once says little.
const ATTEMPTS: usize = 3;
const MAX_RUNS: usize = 400;
const PATIENCE: Duration = Duration::from_secs(2);

/// Leaves out what is not needed: half of the steps first, then quarters, down to one.
pub(crate) fn shrink(plan: &Plan, program: &Path, fault: Fault) -> Fault {
    let kind = kind_of(&fault.summary);
    let mut best = fault;
    let mut kept: Vec<u64> = (1..=best.step.min(plan.steps)).collect();
    let mut length = kept.len().div_ceil(2);
    let mut runs = 0;
    while length > 0 && runs < MAX_RUNS {
        let mut from = 0;
        while from < kept.len() && runs < MAX_RUNS {
            let to = kept.len().min(from + length);
            let fewer = [&kept[..from], &kept[to..]].concat();
            let without = all_but(&fewer, plan.steps);
            let tried = Plan { without, patience: PATIENCE, ..plan.clone() };
            let failed = (0..ATTEMPTS).find_map(|_| {
                runs += 1;
                both_ways(&tried, program).err().filter(|fault| kind_of(&fault.summary) == kind)
            });
            match failed {
                Some(fault) => {
                    kept = fewer;
                    best = fault;
                }
                None => from = to,
            }
        }
        length = if length == 1 { 0 } else { length.div_ceil(2) };
    }
    eprintln!("seed {} without {}", plan.seed, all_but(&kept, plan.steps));
    best
}

/// What a fault says, without its numbers.
fn kind_of(summary: &str) -> String {
    let words =
        summary.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}

/// The steps that are not `kept`, as the driver takes them.
fn all_but(kept: &[u64], steps: u64) -> String {
    let ends = kept.iter().copied().chain([steps + 1]);
    let starts = [0].into_iter().chain(kept.iter().copied());
    let gaps = starts.zip(ends).filter(|(start, end)| start + 1 < *end);
    gaps.map(|(start, end)| format!("{}-{}", start + 1, end - 1)).collect::<Vec<_>>().join(",")
}
