//! Processes that a measurement, or doctor, needs beside itself: this program again, in
//! another part. None outlives us: the kernel kills it when we end, however.

use crate::Answer;
use crate::doctor::program;
#[cfg(feature = "measure")]
use crate::measure::bench::worker::{self, WorkerArgs};
use crate::running::RunningServer;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Where a process may run.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Confinement {
    /// The only CPUs; none named are all.
    #[arg(long, value_delimiter = ',')]
    pub(crate) cpus: Vec<usize>,
    /// The control group's directory.
    #[arg(long)]
    pub(crate) cgroup: Option<PathBuf>,
}

impl Confinement {
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        for cpu in &self.cpus {
            arguments.extend(["--cpus".into(), cpu.to_string().into()]);
        }
        if let Some(cgroup) = &self.cgroup {
            arguments.extend(["--cgroup".into(), cgroup.into()]);
        }
        arguments
    }

    /// Confines this process.
    fn enter(&self) -> anyhow::Result<()> {
        if !self.cpus.is_empty() {
            run_on(&self.cpus)?;
        }
        if let Some(cgroup) = &self.cgroup {
            fs::write(cgroup.join("cgroup.procs"), "0").context("cannot join the control group")?;
        }
        Ok(())
    }
}

/// Lets this process, and the threads it starts from now on, run on `cpus` alone.
pub(crate) fn run_on(cpus: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            bail!("there is no CPU {cpu}");
        }
        set.set(cpu);
    }
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on the CPUs {cpus:?}"))
}

#[derive(Debug, clap::Args)]
pub(crate) struct ChildArgs {
    /// Who started it.
    #[arg(long)]
    parent: i32,
    #[command(flatten)]
    confinement: Confinement,
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Becomes another program.
    Run {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        words: Vec<OsString>,
    },
    #[cfg(feature = "measure")]
    /// Uses the CPU, and nothing else, for ever.
    Busy,
    #[cfg(feature = "measure")]
    /// Measures when told to.
    Worker(WorkerArgs),
    /// Talks to a server over a socket, as far as it knows.
    #[command(disable_help_flag = true)]
    Talk(RunningServer),
}

pub(crate) fn run(args: &ChildArgs) -> anyhow::Result<Answer> {
    end_with_parent(args.parent)?;
    args.confinement.enter()?;
    match &args.part {
        Part::Run { words } => {
            let [program, arguments @ ..] = words.as_slice() else { bail!("no program") };
            let error = Command::new(program).args(arguments).exec();
            Err(error).with_context(|| format!("cannot start {}", program.display()))
        }
        #[cfg(feature = "measure")]
        Part::Busy => loop {
            std::hint::spin_loop();
        },
        #[cfg(feature = "measure")]
        Part::Worker(args) => worker::run(args),
        Part::Talk(server) => program::run(server),
    }
}

fn end_with_parent(parent: i32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before the kernel knew of us.
    if getppid().map(Pid::as_raw_pid) != Some(parent) {
        bail!("this is a part of redis-shm bench, which has ended");
    }
    Ok(())
}

/// `own` in the part of a child.
pub(crate) fn command(own: &Path, confinement: &Confinement) -> Command {
    let mut command = Command::new(own);
    command.arg("child").arg("--parent").arg(std::process::id().to_string());
    command.args(confinement.arguments());
    command
}

/// A command that becomes `program`; its arguments may follow.
pub(crate) fn command_running(own: &Path, confinement: &Confinement, program: &Path) -> Command {
    let mut command = command(own, confinement);
    command.args(["run", "--"]).arg(program);
    command
}

/// A process that is killed, and waited for, when this value is dropped.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        // Ctrl-C is for us alone; we end them.
        let child = command.process_group(0).spawn().context("cannot start a process")?;
        Ok(Self(child))
    }

    /// Somebody who talks to a server, with the library that `preload` lets in, and the
    /// other end of its stdin, stdout and stderr.
    pub(crate) fn talker(
        server: &RunningServer,
        preload: impl FnOnce(&mut Command) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Self, UnixStream)> {
        let mut command = command(&std::env::current_exe()?, &Confinement::default());
        command.arg("talk");
        server.name_to(&mut command);
        preload(&mut command)?;
        let [ours, theirs] = talk_to(&mut command)?;
        command.stderr(OwnedFd::from(theirs));
        Ok((Self::start(command)?, ours))
    }
}

/// Sockets, so that Ctrl-C ends our waiting for it: our end and the other, which is its
/// stdin and stdout.
pub(crate) fn talk_to(command: &mut Command) -> anyhow::Result<[UnixStream; 2]> {
    let (ours, theirs) = UnixStream::pair().context("no socket")?;
    let [stdin, stdout] = [theirs.try_clone()?, theirs.try_clone()?].map(OwnedFd::from);
    command.stdin(stdin).stdout(stdout);
    Ok([ours, theirs])
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only where it has ended already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
