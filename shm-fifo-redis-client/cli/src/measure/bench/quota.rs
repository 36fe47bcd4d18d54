//! A control group whose processes together get one core's time, no more.

use crate::cgroups::places;
use anyhow::{Context, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The quota counts in periods of this length.
const PERIOD_US: u32 = 100_000;

/// The group; it is removed when this value is dropped, if it is empty by then.
#[derive(Debug)]
pub(crate) struct Quota {
    directory: PathBuf,
}

impl Quota {
    /// Makes the group, below the one this process is in.
    pub(crate) fn of_one_core() -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let places = places(&mounts, &groups);
        let mut reason = anyhow::anyhow!("no control group file system is mounted");
        for place in &places {
            match Self::below(place) {
                Ok(quota) => return Ok(quota),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    fn below(parent: &Path) -> anyhow::Result<Self> {
        let directory = parent.join(format!("redis-shm-bench-{}", std::process::id()));
        fs::create_dir(&directory)
            .with_context(|| format!("no control group can be made in {}", parent.display()))?;
        let quota = Self { directory };
        quota.limit()?;
        Ok(quota)
    }

    fn limit(&self) -> anyhow::Result<()> {
        let set = |name: &str, value: String| {
            let path = self.directory.join(name);
            fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))
        };
        if self.directory.join("cpu.max").exists() {
            set("cpu.max", format!("{PERIOD_US} {PERIOD_US}"))
        } else if self.directory.join("cpu.cfs_quota_us").exists() {
            set("cpu.cfs_period_us", PERIOD_US.to_string())?;
            set("cpu.cfs_quota_us", PERIOD_US.to_string())
        } else {
            bail!("the cpu controller is not enabled in {}", self.directory.display())
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // What remains if this fails is an empty group.
        let _ = fs::remove_dir(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_controller_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = Quota::below(directory.path()).expect_err("no control group");
        assert!(error.to_string().contains("not enabled"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 0);
    }
}
