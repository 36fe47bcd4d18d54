//! Where it was measured.

use std::fs::read_to_string;

/// One line: CPU, number of CPUs, kernel, version of this crate.
pub fn description(cpus: [usize; 2]) -> String {
    let model = read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}, {count} CPUs, Linux {}; CPUs {} and {}",
        model.unwrap_or_else(|| "unknown CPU".to_owned()),
        kernel.trim(),
        cpus[0],
        cpus[1]
    )
}
