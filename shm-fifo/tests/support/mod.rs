//! What several test binaries share.
#![allow(dead_code, unused_macros, unused_imports, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

pub(crate) mod process;

pub(crate) use shm_fifo::testing::Random;
use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Ends the process, with a message, if the test that holds it hangs.
pub(crate) struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Watches the current test until the result is dropped.
    #[must_use]
    pub(crate) fn start() -> Self {
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        let (alive, watched) = channel();
        std::thread::spawn(move || {
            if watched.recv_timeout(Self::PATIENCE) == Err(RecvTimeoutError::Timeout) {
                // Not eprintln!: the test harness would keep it, and dies here.
                let message = format!("watchdog: {name} hangs, for {:?} now\n", Self::PATIENCE);
                drop(std::io::stderr().write_all(message.as_bytes()));
                std::process::abort();
            }
        });
        Self { _alive: alive }
    }
}

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
