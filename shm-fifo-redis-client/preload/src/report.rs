//! What became of this process's connections, said when it exits: for `redis-shm exec
//! --verbose`, and for services by variables of the environment.
//!
//! Counting and printing allocate nothing and take no lock: hooks count, also within
//! signal handlers, and a signal may ask for the report.
#![allow(unsafe_code)]

mod counts;
mod place;
mod signal;
mod text;

pub(crate) use counts::Reason;

use crate::settings::Unusable;
use crate::{sys, trial};
use counts::Counts;
use place::Place;
use std::env;
use std::ffi::OsString;
use std::fmt::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;
use text::Text;

/// Where the report goes: `stderr`, or the path of a file to append to.
const REPORT: &str = "SHM_FIFO_REPORT";
/// A signal that asks for it before the exit.
const SIGNAL: &str = "SHM_FIFO_REPORT_SIGNAL";

static COUNTS: Counts = Counts::new();
static REPORTER: OnceLock<Reporter> = OnceLock::new();

/// A connection moved.
pub(crate) fn moved() {
    COUNTS.moved();
}

/// A connection stays on its socket, as far as can be told.
pub(crate) fn stayed(reason: Reason) {
    COUNTS.stayed(reason);
}

/// A connection that was said to stay may move all the same.
pub(crate) fn forgive(reason: Reason) {
    COUNTS.forgive(reason);
}

/// Reads the environment. If nothing can be moved the report says why.
pub(crate) fn prepare(settings: Result<(), Unusable>) {
    let Some(place) = variable(REPORT) else { return };
    let mut complaints = Vec::new();
    if let Err(unusable) = settings {
        complaints.push(format!("nothing moves: {unusable}"));
    }
    let place = Place::parse(&place).unwrap_or_else(|| {
        complaints.push(format!("{REPORT}: {place:?} is neither stderr nor an absolute path"));
        Place::stderr()
    });
    let signal = variable(SIGNAL).and_then(|name| {
        let number = signal::parse(&name);
        if number.is_none() {
            complaints.push(format!(
                "{SIGNAL}: {name:?} is none of HUP, USR1, USR2 and the numbers of real-time signals"
            ));
        }
        number
    });
    let owner = AtomicI32::new(sys::process_id());
    let reporter = Reporter { owner, program: program_name(), place, complaints };
    if REPORTER.set(reporter).is_err() {
        return;
    }
    // SAFETY: the function is of this library, which is never unloaded.
    unsafe { libc::pthread_atfork(None, None, Some(forked_child)) };
    if let Some(signal) = signal {
        signal::listen(signal, print);
    }
}

/// Prints, if anybody wants to know and there is something to say.
pub(crate) fn print() {
    if let Some(reporter) = REPORTER.get() {
        reporter.print();
    }
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The child has its own connections to tell of.
extern "C" fn forked_child() {
    COUNTS.reset();
    if let Some(reporter) = REPORTER.get() {
        reporter.owner.store(sys::process_id(), Relaxed);
    }
}

#[derive(Debug)]
struct Reporter {
    /// The process that tells of itself. A child by `vfork` shares our memory.
    owner: AtomicI32,
    program: String,
    place: Place,
    /// Of the environment.
    complaints: Vec<String>,
}

impl Reporter {
    fn print(&self) {
        // Of a process that has nothing to say nothing is seen, not even a system call.
        if self.complaints.is_empty() && COUNTS.is_empty() || trial::has_filter() {
            return;
        }
        let process = sys::process_id();
        if self.owner.load(Relaxed) != process {
            return;
        }
        let mut text = Text::new();
        // It is cut off where the room ends.
        let _cut_off = self.tell(&COUNTS, process, &mut text);
        if !text.bytes().is_empty() {
            self.place.write(text.bytes());
        }
    }

    /// Nothing of a process that has connected to no endpoint.
    fn tell(&self, counts: &Counts, process: libc::pid_t, text: &mut Text) -> fmt::Result {
        let mut line = |what: fmt::Arguments<'_>| {
            writeln!(text, "redis-shm: {}[{process}]: {what}", self.program)
        };
        counts.tell(&mut line)?;
        self.complaints.iter().try_for_each(|complaint| line(format_args!("{complaint}")))
    }
}

/// As `ps` shows it.
fn program_name() -> String {
    const NAME_BYTES: usize = 16;
    let mut name = [0_u8; NAME_BYTES];
    // SAFETY: so many writable bytes, as prctl(2) wants.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES);
    String::from_utf8_lossy(&name[..end]).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    /// As long as they get.
    const PROGRAM: &str = "fifteen-letters";
    const PROCESS: libc::pid_t = 4_194_304;
    const PREFIX: &str = "redis-shm: fifteen-letters[4194304]: ";

    fn told(counts: &Counts, complaints: &[&str]) -> String {
        let reporter = Reporter {
            owner: AtomicI32::new(PROCESS),
            program: PROGRAM.to_owned(),
            place: Place::stderr(),
            complaints: complaints.iter().copied().map(str::to_owned).collect(),
        };
        let mut text = Text::new();
        let _cut_off = reporter.tell(counts, PROCESS, &mut text);
        String::from_utf8(text.bytes().to_vec()).unwrap()
    }

    #[test]
    fn each_line_names_the_process() {
        let counts = Counts::new();
        counts.moved();
        counts.stayed(Reason::Short);
        let text = told(&counts, &["nothing moves: because"]);
        let lines: Option<Vec<&str>> = text.lines().map(|line| line.strip_prefix(PREFIX)).collect();
        let lines = lines.unwrap_or_else(|| panic!("{text}"));
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!((lines[0], lines[2]), ("1 connection moved", "nothing moves: because"));
        assert!(lines[1].starts_with("1 stayed: "), "{text}");
    }

    #[test]
    fn who_connected_to_no_endpoint_says_nothing() {
        assert_eq!(told(&Counts::new(), &[]), "");
    }

    #[test]
    fn every_reason_has_room_and_what_has_none_is_cut_off() {
        let counts = Counts::new();
        for reason in Reason::ALL {
            (0..1000).for_each(|_| counts.stayed(reason));
        }
        let whole = told(&counts, &[]);
        assert_eq!(whole.lines().count(), Reason::ALL.len() + 1);
        assert!(whole.ends_with('\n'));
        let long = "x".repeat(10_000);
        let cut = told(&counts, &[&long]);
        assert!(cut.starts_with(&whole) && cut.len() == Text::ROOM, "{}", cut.len());
        assert!(cut.ends_with("x\n"), "{cut}");
    }

    #[test]
    fn a_program_has_a_name() {
        // Of the thread, here.
        assert!(!program_name().is_empty());
    }
}
