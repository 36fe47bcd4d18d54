//! The end of tests that hang.

use std::io::Write as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Ends the test process, with a message, if the test that holds it hangs.
#[derive(Debug)]
pub(crate) struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    /// Watches the current test, for a minute, until the result is dropped.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self::with_patience(Duration::from_secs(60))
    }

    /// The same, for so long.
    #[must_use]
    pub(crate) fn with_patience(patience: Duration) -> Self {
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        let (alive, watched) = channel();
        std::thread::spawn(move || {
            if watched.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                // Not eprintln!: the test harness would keep it, and dies here.
                let message = format!("watchdog: {name} hangs, for {patience:?} now\n");
                drop(std::io::stderr().write_all(message.as_bytes()));
                std::process::abort();
            }
        });
        Self { _alive: alive }
    }
}
