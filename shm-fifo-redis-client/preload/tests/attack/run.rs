//! One run of the driver, with a server of its own.

use crate::journal::Journal;
use crate::server::{self, Counts, Outcome, Server};
use crate::support;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The server is the first to lose patience: it can say for what.
const GRACE: Duration = Duration::from_secs(3);
/// How much of what it did is shown.
const SHOWN_LINES: usize = 120;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The control: on sockets.
    Plain,
    Preloaded,
}

/// The kinds of sockets whose connections may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoints {
    Unix,
    Tcp,
    Both,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    /// Steps that are left out, as the driver takes them: `3,7-12`.
    pub(crate) without: String,
    /// What does not happen for so long never does.
    pub(crate) patience: Duration,
}

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) steps: u64,
    pub(crate) calls: u64,
    pub(crate) connections: u64,
    pub(crate) asked: u64,
    pub(crate) moved: u64,
    /// What is to be the same in both ways, by step.
    pub(crate) answers: BTreeMap<String, String>,
}

/// Something that does not happen on a socket.
#[derive(Debug)]
pub(crate) struct Fault {
    /// In one line.
    pub(crate) summary: String,
    /// What led to it.
    pub(crate) story: String,
    /// The step in which it showed.
    pub(crate) step: u64,
}

impl Plan {
    fn endpoints(&self) -> Endpoints {
        match self.seed % 3 {
            0 => Endpoints::Tcp,
            1 => Endpoints::Unix,
            _ => Endpoints::Both,
        }
    }

    /// After how many commands connections move.
    fn after(&self) -> u64 {
        [1, 2, 0, 4, 16, 3][usize::try_from(self.seed / 3 % 6).unwrap_or(0)]
    }

    /// Runs it.
    pub(crate) fn run(&self, program: &Path, way: Way) -> Result<Report, Fault> {
        let directory = TempDir::new().unwrap();
        let journal_path = directory.path().join("journal");
        let journal = Arc::new(Journal::create(&journal_path).unwrap());
        let shared = Arc::clone(&journal);
        let server = Server::start(directory.path(), self.seed, shared, self.patience).unwrap();
        let mut command = self.command(program, way, &server);
        command.arg("--journal").arg(&journal_path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = start(&mut command);
        let end = wait(&mut child, &journal, self.patience + GRACE);
        let outcome = server.end();
        let mut errors = String::new();
        if let Some(mut stream) = child.stderr.take() {
            drop(stream.read_to_string(&mut errors));
        }
        match self.judge(&end, &journal, &outcome) {
            None => Ok(report(&journal, &outcome)),
            Some(summary) => {
                let story = story(self, way, &errors, &journal, &outcome, &end);
                Err(Fault { story, summary, step: journal.steps() })
            }
        }
    }

    fn command(&self, program: &Path, way: Way, server: &Server) -> Command {
        let socket = server.directory.join("redis.sock");
        let port = server.port.to_string();
        let mut command = Command::new(program);
        if way == Way::Preloaded {
            let unix = format!("unix:{}", socket.display());
            let tcp = format!("tcp:127.0.0.1:{port}");
            let endpoints = match self.endpoints() {
                Endpoints::Tcp => tcp,
                Endpoints::Unix => unix,
                Endpoints::Both => format!("{unix} {tcp}"),
            };
            command.env("LD_PRELOAD", support::preload_library());
            command.env("SHM_FIFO_ENDPOINTS", endpoints);
            command.env("SHM_FIFO_AFTER_COMMANDS", self.after().to_string());
        }
        command.arg("--control").arg(server.directory.join("control.sock"));
        command.arg("--unix").arg(socket).args(["--port", &port]);
        command.args(["--seed", &self.seed.to_string(), "--steps", &self.steps.to_string()]);
        match self.endpoints() {
            Endpoints::Unix => {}
            Endpoints::Tcp => drop(command.arg("--tcp")),
            Endpoints::Both => drop(command.arg("--both")),
        }
        if way == Way::Plain {
            command.arg("--plain").env_remove("LD_PRELOAD");
        }
        if !self.without.is_empty() {
            command.args(["--without", &self.without]);
        }
        command
    }

    fn judge(&self, end: &End, journal: &Journal, outcome: &Outcome) -> Option<String> {
        let text = journal.text();
        let failure = text.lines().find(|line| line.starts_with("FAIL"));
        let is_by_server = |line: &&str| !line.ends_with("the server has found a fault");
        if let Some(failure) = failure.filter(is_by_server) {
            return Some(failure.to_owned());
        }
        if let Some(fault) = outcome.faults.first() {
            return Some(fault.clone());
        }
        match end {
            End::Hangs(_) => return Some(format!("it hangs in step {}", journal.steps())),
            End::Status(status) if !journal.has_finished() => {
                return Some(format!("it ended in step {}: {status}", journal.steps()));
            }
            End::Status(status) if !is_a_good_end(*status) => {
                return Some(format!("it ended otherwise than it wanted to: {status}"));
            }
            End::Status(_) => {}
        }
        outcome.connections.iter().find_map(|(&id, counts)| lost(journal, id, counts))
    }
}

/// Starts it. `spawn` may return a moment before the new process has closed its copies of all
/// descriptors here: with the last one it closes that of a pipe.
fn start(command: &mut Command) -> Child {
    let _no_end = server::NO_COPIES.write().unwrap();
    let (mut reader, writer) = io::pipe().unwrap();
    let child = command.spawn().unwrap();
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    child
}

enum End {
    Status(ExitStatus),
    /// Where each of its threads is.
    Hangs(String),
}

fn wait(child: &mut Child, journal: &Journal, patience: Duration) -> End {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let (mut step, mut since) = (u64::MAX, Instant::now());
    loop {
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
        if poll(&mut ended, Some(&second)).is_ok_and(|count| count > 0) {
            return End::Status(child.wait().unwrap());
        }
        if journal.steps() != step {
            (step, since) = (journal.steps(), Instant::now());
        }
        if since.elapsed() > patience {
            let threads = threads(child.id());
            drop(child.kill());
            drop(child.wait());
            return End::Hangs(threads);
        }
    }
}

/// In which system call each thread is.
fn threads(pid: u32) -> String {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return String::new() };
    let lines = tasks.filter_map(Result::ok).map(|task| {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        format!("thread {:?}: {} {}\n", task.file_name(), read("wchan"), read("syscall").trim())
    });
    lines.collect()
}

fn is_a_good_end(status: ExitStatus) -> bool {
    status.success() || matches!(status.signal(), Some(libc::SIGTERM | libc::SIGKILL))
}

/// What was written, by the success of a call, and not executed.
fn lost(journal: &Journal, id: u64, counts: &Counts) -> Option<String> {
    let written = journal.written(id);
    let may_be_lost = written.may_be_lost || counts.has_died;
    let lost = counts.executed < written.requests && !may_be_lost;
    let invented = counts.executed > written.requests;
    (lost || invented).then(|| {
        format!(
            "c{id}: {} requests were written, and {} executed (moved: {})",
            written.requests, counts.executed, counts.moved
        )
    })
}

fn report(journal: &Journal, outcome: &Outcome) -> Report {
    let text = journal.text();
    let answers = text.lines().filter_map(|line| line.strip_prefix('=')?.split_once(": "));
    let all = outcome.connections.values();
    Report {
        steps: journal.steps(),
        calls: journal.calls(),
        connections: all.len() as u64,
        asked: all.clone().filter(|counts| counts.opens > 0).count() as u64,
        moved: all.filter(|counts| counts.moved).count() as u64,
        answers: answers.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    }
}

fn story(
    plan: &Plan,
    way: Way,
    errors: &str,
    journal: &Journal,
    outcome: &Outcome,
    end: &End,
) -> String {
    let mut story = String::new();
    let text = journal.text();
    let lines: Vec<&str> = text.lines().collect();
    let shown =
        if std::env::var_os("SHM_FIFO_ATTACK_TRACE").is_some() { lines.len() } else { SHOWN_LINES };
    for line in &lines[lines.len().saturating_sub(shown)..] {
        let _ = writeln!(story, "{line}");
    }
    for description in &outcome.descriptions {
        let _ = writeln!(story, "{description}");
    }
    for fault in &outcome.faults {
        let _ = writeln!(story, "server: {fault}");
    }
    match end {
        End::Status(status) => drop(writeln!(story, "{status}")),
        End::Hangs(threads) => story.push_str(threads),
    }
    let _ = writeln!(story, "{errors}");
    let _ = writeln!(
        story,
        "replay it: SHM_FIFO_ATTACK_SEED={} SHM_FIFO_ATTACK_STEPS={} SHM_FIFO_ATTACK_RUN_STEPS={} \
         SHM_FIFO_ATTACK_WITHOUT={} ({way:?})",
        plan.seed, plan.steps, plan.steps, plan.without
    );
    story
}
