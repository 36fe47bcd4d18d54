//! The CPUs: a round trip without a system call needs one for each end.

use super::check::Check;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity};
use std::collections::BTreeSet;
use std::fs;

const CORES: &str = "cores";
const AUTOGROUP: &str = "autogroup";
const FREQUENCY: &str = "frequency";
const STEAL: &str = "steal";

/// From so much on it is worth a note.
const NOTABLE_STEAL_PERCENT: f64 = 1.0;

pub(super) fn checks(server: Option<Pid>) -> Vec<Check> {
    let server_cpus = server.and_then(|pid| sched_getaffinity(Some(pid)).ok());
    vec![cores(server_cpus.as_ref()), autogroup(), frequency(), steal()]
}

fn cores(server: Option<&CpuSet>) -> Check {
    let Ok(stat) = fs::read_to_string("/proc/stat") else {
        return Check::ok(CORES, "not counted: there is no /proc here");
    };
    let online = online(&stat);
    let Ok(own) = sched_getaffinity(None) else {
        return Check::ok(CORES, format!("{} online", online.len()));
    };
    let allowed = |set: &CpuSet| {
        online.iter().copied().filter(|&cpu| set.is_set(cpu)).collect::<BTreeSet<usize>>()
    };
    judge_cores(&online, &allowed(&own), server.map(allowed).as_ref())
}

fn judge_cores(
    online: &BTreeSet<usize>,
    own: &BTreeSet<usize>,
    server: Option<&BTreeSet<usize>>,
) -> Check {
    let mut detail = format!("{} online, {} allowed here", online.len(), own.len());
    if let Some(server) = server {
        detail += &format!(", {} allowed to the server", server.len());
    }
    let together: BTreeSet<_> = own.union(server.unwrap_or(own)).collect();
    if together.len() > 1 {
        return Check::ok(CORES, detail);
    }
    Check::note(
        CORES,
        format!("{detail}: client and server share one, and sleep in turns for each command"),
        "let them run on two (taskset, cpuset.cpus, a second CPU for the machine)",
    )
}

/// The CPUs that `/proc/stat` has a line for. What is in /sys says the same, but not every
/// container has that.
fn online(stat: &str) -> BTreeSet<usize> {
    let names = stat.lines().filter_map(|line| line.strip_prefix("cpu")?.split(' ').next());
    names.filter_map(|number| number.parse().ok()).collect()
}

fn autogroup() -> Check {
    let text = fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled");
    match text.as_deref().map(str::trim) {
        Ok("1") => Check::note(
            AUTOGROUP,
            "on: nice counts only within a session or service",
            "on a busy machine: echo -19 > /proc/PID/autogroup for server and client",
        ),
        _ => Check::ok(AUTOGROUP, "off"),
    }
}

fn frequency() -> Check {
    let mut governors = BTreeSet::new();
    for cpu in fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten() {
        let governor = fs::read_to_string(cpu.path().join("cpufreq/scaling_governor"));
        governors.extend(governor.ok().map(|name| name.trim().to_owned()));
    }
    judge_governors(governors)
}

fn judge_governors(governors: BTreeSet<String>) -> Check {
    if governors.is_empty() {
        return Check::ok(FREQUENCY, "no governor: it is not set by this kernel");
    }
    let names = Vec::from_iter(governors).join(", ");
    if names == "performance" {
        return Check::ok(FREQUENCY, "the governor is performance");
    }
    Check::note(
        FREQUENCY,
        format!("the governor is {names}: the first commands after a pause find a slow CPU"),
        "cpupower frequency-set -g performance, if that matters more than power",
    )
}

fn steal() -> Check {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    judge_steal(stolen_percent(&stat).unwrap_or(0.0))
}

fn judge_steal(percent: f64) -> Check {
    let detail = format!("the hypervisor took {percent:.1} % of the CPU time since the start");
    if percent < NOTABLE_STEAL_PERCENT {
        return Check::ok(STEAL, detail);
    }
    Check::note(STEAL, detail, "use dedicated CPUs; latencies include its pauses")
}

/// From the first line of /proc/stat. Time as a guest is in the first two fields
/// already.
fn stolen_percent(stat: &str) -> Option<f64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).take(8).collect();
    let all: u64 = ticks.iter().sum();
    (all > 0).then_some(100.0 * *ticks.get(7)? as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn set(cpus: &[usize]) -> BTreeSet<usize> {
        cpus.iter().copied().collect()
    }

    #[test]
    fn online_are_those_that_the_kernel_counts() {
        let stat = "cpu  9 0 9\ncpu0 1 0 1\ncpu1 1 0 1\ncpu8 7 0 7\nintr 5 0\n";
        assert_eq!(online(stat), set(&[0, 1, 8]));
        assert_eq!(online(""), set(&[]));
    }

    #[test]
    fn two_ends_need_two_cpus() {
        let all = set(&[0, 1]);
        assert_eq!(judge_cores(&all, &all, None).status, Status::Ok);
        assert_eq!(judge_cores(&all, &set(&[0]), Some(&set(&[1]))).status, Status::Ok);
        assert_eq!(judge_cores(&all, &set(&[0]), Some(&set(&[0]))).status, Status::Note);
        assert_eq!(judge_cores(&set(&[0]), &set(&[0]), None).status, Status::Note);
    }

    #[test]
    fn a_governor_that_saves_power_is_noted() {
        let judged = |names: &[&str]| {
            judge_governors(names.iter().map(|&name| name.to_owned()).collect()).status
        };
        assert_eq!(judged(&[]), Status::Ok);
        assert_eq!(judged(&["performance"]), Status::Ok);
        assert_eq!(judged(&["performance", "powersave"]), Status::Note);
    }

    #[test]
    fn steal_is_a_share_of_all_time() {
        let stat = "cpu  50 0 20 20 5 0 0 5 50 0\ncpu0 1 1 1 1 1 1 1 1\n";
        let percent = stolen_percent(stat).expect("there is one");
        assert!((percent - 5.0).abs() < 1e-9, "{percent}");
        assert_eq!(judge_steal(percent).status, Status::Note);
        assert_eq!(judge_steal(0.2).status, Status::Ok);
        assert_eq!(stolen_percent(""), None);
    }
}
