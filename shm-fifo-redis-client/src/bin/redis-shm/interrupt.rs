//! Ctrl-C and SIGTERM, turned into an ordinary error, so that everything that was
//! started is stopped on the way out.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The error that stands for the signal.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Whether a signal came; asked between steps.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts(Arc<AtomicBool>);

impl Interrupts {
    /// From here on the signals set the flag instead of ending the program.
    pub(crate) fn catch() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// Signals do what they do by default; the flag is never set.
    pub(crate) fn ignore() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// A call that the signal ended fails with an error of its own: says what it was.
    pub(crate) fn explain<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        result.map_err(|error| self.check().err().map_or(error, Into::into))
    }

    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        // Relaxed: the flag carries nothing but itself.
        if self.0.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }
}
