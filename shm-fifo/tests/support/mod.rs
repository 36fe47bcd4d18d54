//! What several test binaries share.
#![allow(dead_code, unused_macros, unused_imports, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

pub(crate) mod process;
mod watchdog;

pub(crate) use shm_fifo::testing::Random;
use std::sync::{Mutex, MutexGuard, PoisonError};
pub(crate) use watchdog::Watchdog;

/// Held by tests that must not run beside others of their binary: they count the
/// descriptors of the process, or want a CPU for each of their threads.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The open file descriptors of this process.
pub(crate) fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The mappings of this process whose line contains `name`.
pub(crate) fn mappings_of(name: &str) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(name)).count()
}
