//! The program that is looked at, and the server's place where it connects.

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

/// Where the program finds the server: the path of a unix socket, or host and port.
const ADDRESS: &str = "SHM_FIFO_CONFORMANCE";

#[derive(Debug)]
pub(super) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Listens in `directory`, or on a port of loopback. Returns the address, too.
    pub(super) fn bind(directory: &Path, is_tcp: bool) -> anyhow::Result<(Self, OsString)> {
        if is_tcp {
            let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
            let address = listener.local_addr()?.to_string().into();
            return Ok((Self::Tcp(listener), address));
        }
        let path = directory.join("redis.sock");
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot listen at {}", path.display()))?;
        Ok((Self::Unix(listener), path.into()))
    }

    pub(super) fn accept(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Unix(listener) => Ok(listener.accept()?.0.into()),
            Self::Tcp(listener) => {
                let (socket, _) = listener.accept()?;
                // As Redis does.
                socket.set_nodelay(true)?;
                Ok(socket.into())
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// A process that is killed, and waited for, when this value is dropped.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    life: OwnedFd,
}

impl Program {
    /// Starts it; what it says goes into the file `said`.
    pub(super) fn start(
        command: &[OsString],
        address: &OsString,
        said: &Path,
    ) -> anyhow::Result<Self> {
        let (program, arguments) = command.split_first().context("no program is named")?;
        let said = fs::File::create(said)?;
        let child = Command::new(program)
            .args(arguments)
            .env(ADDRESS, address)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .with_context(|| format!("cannot run {}", Path::new(program).display()))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let life = pidfd_open(pid.context("no such process")?, PidfdFlags::empty());
        Ok(Self { child, life: life.context("cannot watch the program")? })
    }

    /// Waits for a connection; `false` if the program ends before, or time does.
    pub(super) fn connects_to(&self, listener: &Listener, deadline: Instant) -> bool {
        let watched = [listener.as_fd(), self.life.as_fd()];
        let mut polled = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        is_ready(&mut polled, deadline) && polled[0].revents().contains(PollFlags::IN)
    }

    /// How it ends, if it does so in time.
    pub(super) fn wait(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        if is_ready(&mut [PollFd::new(&self.life, PollFlags::IN)], deadline) {
            return self.child.wait().map(Some);
        }
        Ok(None)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only where it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for one of them until the deadline. Then none is: what is ready all the time, as the end
/// of a socket, is not to be waited for without end.
pub(super) fn is_ready(polled: &mut [PollFd<'_>], deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).unwrap_or_default();
    !left.is_zero() && poll(polled, Some(&timeout)).is_ok_and(|ready| ready > 0)
}
