//! Limits on CPU time by control groups, on this process and on the server.

use super::check::Check;
use crate::cgroups::places;
use rustix::process::Pid;
use std::fs;
use std::path::Path;

const CPU_LIMIT: &str = "CPU limit";
const SERVER_CPU_LIMIT: &str = "server CPU limit";

/// Client and server spin at the same time.
const ENOUGH_CORES: f64 = 2.0;

pub(super) fn checks(server: Option<Pid>) -> Vec<Check> {
    let of = |process: &str| {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
        let groups = places(&mounts, &groups);
        groups.iter().filter_map(|group| tightest(group)).reduce(f64::min)
    };
    let mut checks = vec![judge(CPU_LIMIT, "this process", of("self"))];
    if let Some(pid) = server {
        checks.push(judge(SERVER_CPU_LIMIT, "the server", of(&pid.to_string())));
    }
    checks
}

fn judge(name: &'static str, whose: &str, cores: Option<f64>) -> Check {
    match cores {
        None => Check::ok(name, format!("{whose} may use all its cores all the time")),
        Some(cores) if cores >= ENOUGH_CORES => {
            Check::ok(name, format!("{whose} may use {cores:.1} cores"))
        }
        Some(cores) => Check::note(
            name,
            format!("{whose} and its group may use {cores:.1} cores; spinning counts, too"),
            "raise cpu.max, or CONFIG SET shm.wait park",
        ),
    }
}

/// The smallest limit of a group and those around it, in cores.
fn tightest(group: &Path) -> Option<f64> {
    let groups = group.ancestors().take_while(|group| group.join("cgroup.procs").exists());
    groups.filter_map(limit).reduce(f64::min)
}

fn limit(group: &Path) -> Option<f64> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let (quota, period) = match read("cpu.max") {
        Some(max) => {
            let (quota, period) = max.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        None => (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
    };
    // Without a limit version 2 says "max" and version 1 says -1.
    let quota: u32 = quota.trim().parse().ok()?;
    let period: u32 = period.trim().parse().ok()?;
    (period > 0).then(|| f64::from(quota) / f64::from(period))
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    /// A group and one in it, as files.
    fn groups(outer: &[(&str, &str)], inner: &[(&str, &str)]) -> (tempfile::TempDir, Option<f64>) {
        let directory = tempfile::tempdir().expect("a directory");
        let below = directory.path().join("inner");
        fs::create_dir(&below).expect("a directory");
        for (path, files) in [(directory.path(), outer), (below.as_path(), inner)] {
            for (name, content) in [("cgroup.procs", "")].iter().chain(files) {
                fs::write(path.join(name), content).expect("a file");
            }
        }
        let limit = tightest(&below);
        (directory, limit)
    }

    #[test]
    fn the_smallest_limit_of_all_groups_counts() {
        let (_, limit) = groups(&[("cpu.max", "150000 100000\n")], &[("cpu.max", "max 100000\n")]);
        assert_eq!(limit, Some(1.5));
        let (_, limit) = groups(&[("cpu.max", "max 100000\n")], &[]);
        assert_eq!(limit, None);
    }

    #[test]
    fn version_1_has_two_files() {
        let files = [("cpu.cfs_quota_us", "50000\n"), ("cpu.cfs_period_us", "100000\n")];
        assert_eq!(groups(&[], &files).1, Some(0.5));
        let none = [("cpu.cfs_quota_us", "-1\n"), ("cpu.cfs_period_us", "100000\n")];
        assert_eq!(groups(&[], &none).1, None);
    }

    #[test]
    fn less_than_two_cores_are_noted() {
        assert_eq!(judge(CPU_LIMIT, "it", Some(1.5)).status, Status::Note);
        assert_eq!(judge(CPU_LIMIT, "it", Some(2.0)).status, Status::Ok);
        assert_eq!(judge(CPU_LIMIT, "it", None).status, Status::Ok);
    }
}
