//! The CPU time that processes used.

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::path::Path;

/// What this process used so far, in nanoseconds.
pub(crate) fn own_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// What the process `pid`, all its threads together, used so far, in nanoseconds.
pub(crate) fn of_process_ns(pid: u32) -> anyhow::Result<u64> {
    let tasks = format!("/proc/{pid}/task");
    let mut total_ns = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        total_ns += of_task_ns(&task?.path()).unwrap_or(0);
    }
    Ok(total_ns)
}

/// `None` if the thread has ended meanwhile.
fn of_task_ns(task: &Path) -> Option<u64> {
    let schedstat = fs::read_to_string(task.join("schedstat")).ok();
    // Kernels without it count in ticks.
    schedstat.as_deref().and_then(ns_of_schedstat).or_else(|| {
        let stat = fs::read_to_string(task.join("stat")).ok()?;
        Some(ticks_of_stat(&stat)? * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
    })
}

fn ns_of_schedstat(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// User's and system's, the 14th and 15th field. The second is a name in
/// brackets and may hold anything.
fn ticks_of_stat(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(ticks(11)? + ticks(12)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_time_grows_with_work() {
        let before_ns = own_ns();
        while own_ns() == before_ns {
            std::hint::black_box((0..1000).sum::<u32>());
        }
    }

    #[test]
    fn the_time_of_this_process_can_be_read() {
        while of_process_ns(std::process::id()).expect("it lives") == 0 {
            std::hint::black_box((0..1000).sum::<u32>());
        }
    }

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 100 0 0 0 12 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks_of_stat(stat), Some(42));
        assert_eq!(ticks_of_stat("7 (a"), None);
        assert_eq!(ns_of_schedstat("32336923 81845684 94\n"), Some(32_336_923));
    }
}
