//! Ctrl-C and SIGTERM, turned into an ordinary error, so that everything that was
//! started is stopped on the way out. A second one ends the program at once.

mod connections;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};
use std::fmt;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];
/// As a shell reports a program that Ctrl-C ended.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// A server has so long to answer what it was asked, also by a connection that is made
/// on the way out, to tidy up.
const ANSWER_TIME: Duration = Duration::from_millis(500);
/// Whoever has not noticed then waits for something else: a name server, for example.
const ENDS_TO_NOTICE: u32 = 2;
/// A signal is not noticed in one sleep, but between two.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

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
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupts {
    came: Arc<AtomicBool>,
    /// Somebody asked since: everything is on its way out.
    noticed: Arc<AtomicBool>,
}

// Relaxed everywhere: the flags carry nothing but themselves.
impl Interrupts {
    /// From here on the first signal sets the flag instead of ending the program, and
    /// ends whatever still waits for a server a moment later.
    pub(crate) fn catch() -> io::Result<Self> {
        let interrupts = Self::default();
        let signals = SIGNALS.into_iter().filter(|&signal| !is_ignored_hangup(signal));
        for signal in signals.clone() {
            // In this order: the first signal finds the flag unset.
            let came = Arc::clone(&interrupts.came);
            flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED.into(), came)?;
            flag::register(signal, Arc::clone(&interrupts.came))?;
        }
        let mut signals = Signals::new(signals)?;
        let noticed = Arc::clone(&interrupts.noticed);
        thread::spawn(move || {
            signals.forever().next();
            end_waiting(&noticed);
        });
        Ok(interrupts)
    }

    /// A call that the signal ended fails with an error of its own: says what it was.
    pub(crate) fn explain<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        result.map_err(|error| self.check().err().map_or(error, Into::into))
    }

    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        if !self.came.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.noticed.store(true, Ordering::Relaxed);
        Err(Interrupted)
    }

    /// Sleeps until `end`, or a signal.
    pub(crate) fn sleep_until(&self, end: Instant) -> Result<(), Interrupted> {
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(LONGEST_SLEEP));
        }
    }
}

/// Whoever runs us by nohup means it.
fn is_ignored_hangup(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    signal == SIGHUP && mask >> (SIGHUP - 1) & 1 == 1
}

/// For the rest of the program's life.
fn end_waiting(noticed: &AtomicBool) -> ! {
    for round in 0.. {
        thread::sleep(ANSWER_TIME);
        connections::end_all();
        if round >= ENDS_TO_NOTICE && !noticed.load(Ordering::Relaxed) {
            eprintln!("redis-shm: {Interrupted}");
            break;
        }
    }
    low_level::exit(EXIT_INTERRUPTED.into())
}
