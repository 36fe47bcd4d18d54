//! The processes that take part in a measurement.

use crate::child::{Confinement, Guard, command, talk_to};
use crate::interrupt::Interrupts;
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

impl Confinement {
    pub(crate) fn to_cpu(cpu: usize) -> Self {
        Self { cpus: vec![cpu], cgroup: None }
    }
}

impl Interrupts {
    /// Signals do what they do by default; the flag is never set.
    pub(crate) fn ignore() -> Self {
        Self::default()
    }
}

impl Guard {
    /// A process that takes all of `cpu` that it can get.
    pub(crate) fn busy(cpu: usize) -> anyhow::Result<Self> {
        let mut command = command(&std::env::current_exe()?, &Confinement::to_cpu(cpu));
        command.arg("busy").stdin(Stdio::null()).stdout(Stdio::null());
        Self::start(command)
    }

    /// A worker with `arguments`, and the other end of its stdin and stdout.
    pub(crate) fn worker(
        confinement: &Confinement,
        arguments: &[OsString],
    ) -> anyhow::Result<(Self, UnixStream)> {
        let mut command = command(&std::env::current_exe()?, confinement);
        command.arg("worker").args(arguments);
        let [ours, _] = talk_to(&mut command)?;
        Ok((Self::start(command)?, ours))
    }
}
