//! Servers to test against: one that we play ourselves, and a real Redis.
#![allow(dead_code, reason = "each test file uses its own part of it")]

#[cfg(feature = "cli")]
pub(crate) mod cli;
pub(crate) mod fake;
#[cfg(feature = "cli")]
pub(crate) mod latency;
pub(crate) mod pictures;
pub(crate) mod python;
pub(crate) mod redis_server;
#[cfg(feature = "tokio")]
pub(crate) mod runtime;
pub(crate) mod terminal;

use std::sync::mpsc;
use std::time::Duration;

/// Far beyond what any test takes on a busy machine.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Runs `test`, and fails if it hangs.
pub(crate) fn watched(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        // Nobody listens only if the watchdog has bitten.
        let _ = done.send(());
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(WATCHDOG) {
        panic!("the test hangs");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
