//! Whether client and server had a CPU each while they were measured, or what took it.

use crate::cpu_time;
use rustix::thread::sched_getaffinity;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Client and server spin at the same time. With less they share now and then.
const ENOUGH_CPUS: f64 = 1.75;
/// From so much on it is worth a word.
const NOTABLE_STEAL_PERCENT: f64 = 5.0;
/// The kernel counts in ticks of some milliseconds: less says nothing.
const LONG_ENOUGH: Duration = Duration::from_millis(300);

/// Counts what the CPUs do, from its beginning on.
#[derive(Debug)]
pub(super) struct Neighbours {
    server: u32,
    began: Instant,
    before: Used,
}

impl Neighbours {
    pub(super) fn watch(server: u32) -> Self {
        Self { server, began: Instant::now(), before: Used::until_now(server) }
    }

    /// What is to be known of them, and what to do.
    pub(super) fn to_tell(&self) -> Option<String> {
        if thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
            return Some(ONE_CPU.to_owned());
        }
        let elapsed = self.began.elapsed();
        if elapsed < LONG_ENOUGH {
            return None;
        }
        let used = Used::until_now(self.server).since(&self.before);
        judge(&used, elapsed.as_secs_f64())
    }
}

const ONE_CPU: &str = "\
Client and server shared one CPU, for this program may use no other: nothing
had to be woken on another one, and the factors are smaller. Two make the
difference: taskset, cpuset.cpus, cpu.max; redis-shm doctor says what limits it.
";

fn judge(used: &Used, elapsed_s: f64) -> Option<String> {
    let cpus = used.cpus as f64;
    let others = (used.by_all_s - used.by_us_s).max(0.0) / elapsed_s;
    let steal_percent = 100.0 * used.stolen_s / (elapsed_s * cpus);
    if steal_percent >= NOTABLE_STEAL_PERCENT {
        return Some(format!(
            "The hypervisor took {steal_percent:.0} % of the CPU time meanwhile: all figures \
             have its\npauses in them. Repeat it later, or on CPUs of your own.\n"
        ));
    }
    (cpus - others < ENOUGH_CPUS).then(|| {
        format!(
            "Other programs used {others:.1} of the {cpus} CPUs meanwhile: client and server \
             often had\nto share one, and the factors are smaller. Repeat it when they are \
             done; top\nshows them.\n"
        )
    })
}

/// CPU time in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Used {
    cpus: usize,
    by_all_s: f64,
    by_us_s: f64,
    stolen_s: f64,
}

impl Used {
    /// On the CPUs that this process may use.
    fn until_now(server: u32) -> Self {
        let allowed = sched_getaffinity(None).ok();
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let is_ours = |cpu: usize| allowed.as_ref().is_none_or(|set| set.is_set(cpu));
        // The server is there as long as we watch.
        let by_us_ns = cpu_time::own_ns() + cpu_time::of_process_ns(server).unwrap_or(0);
        Self { by_us_s: by_us_ns as f64 / 1e9, ..Self::of_stat(&stat, is_ours) }
    }

    /// From /proc/stat. Interrupts, which serve our own sockets, are nobody's.
    fn of_stat(stat: &str, is_ours: impl Fn(usize) -> bool) -> Self {
        let mut used = Self { cpus: 0, by_all_s: 0.0, by_us_s: 0.0, stolen_s: 0.0 };
        let per_s = rustix::param::clock_ticks_per_second() as f64;
        for line in stat.lines() {
            let mut fields = line.split_ascii_whitespace();
            let number = fields.next().and_then(|name| name.strip_prefix("cpu")?.parse().ok());
            if !number.is_some_and(&is_ours) {
                continue;
            }
            let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
            let [user, nice, system, _idle, _waiting, _irq, _softirq, stolen, ..] = ticks[..]
            else {
                continue;
            };
            used.cpus += 1;
            used.by_all_s += (user + nice + system) as f64 / per_s;
            used.stolen_s += stolen as f64 / per_s;
        }
        used
    }

    fn since(self, before: &Self) -> Self {
        Self {
            cpus: self.cpus,
            by_all_s: self.by_all_s - before.by_all_s,
            by_us_s: self.by_us_s - before.by_us_s,
            stolen_s: self.stolen_s - before.stolen_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(cpus: usize, by_all_s: f64, stolen_s: f64) -> Used {
        Used { cpus, by_all_s, by_us_s: 15.0, stolen_s }
    }

    #[test]
    fn two_cpus_for_ourselves_need_no_word() {
        assert_eq!(judge(&used(2, 15.0, 0.0), 10.0), None);
        // Ticks and nanoseconds differ a little.
        assert_eq!(judge(&used(2, 14.0, 0.1), 10.0), None);
        assert_eq!(judge(&used(2, 16.5, 0.0), 10.0), None);
        // Six are busy, and two are left.
        assert_eq!(judge(&used(8, 75.0, 0.0), 10.0), None);
    }

    #[test]
    fn others_that_take_a_cpu_are_told() {
        let text = judge(&used(2, 20.0, 0.0), 10.0).expect("half a CPU is missing");
        assert!(text.contains("0.5 of the 2 CPUs"), "{text}");
        assert!(judge(&used(8, 85.0, 0.0), 10.0).is_some());
    }

    #[test]
    fn a_hypervisor_that_takes_time_is_told() {
        let text = judge(&used(2, 15.0, 2.4), 10.0).expect("12 % are missing");
        assert!(text.contains("12 %"), "{text}");
    }

    #[test]
    fn only_our_cpus_count_and_interrupts_do_not() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 10 1 5 5 7 7 3 0 0\n\
                    cpu1 100 0 0 0 0 0 0 0 0 0\nintr 5\n";
        let per_s = rustix::param::clock_ticks_per_second() as f64;
        let used = Used::of_stat(stat, |cpu| cpu == 0);
        assert_eq!(used.cpus, 1);
        assert!((used.by_all_s * per_s - 111.0).abs() < 1e-6, "{used:?}");
        assert!((used.stolen_s * per_s - 3.0).abs() < 1e-6, "{used:?}");
    }
}
