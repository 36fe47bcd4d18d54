//! A second process, which plays a role that this same test binary has.
//!
//! A role runs before `main`, where the test harness begins. So it is no test,
//! and the harness neither counts nor ignores it.

use shm_fifo::fd_passing::{recv_with_fd, send_with_fd};
use shm_fifo::{Channel, Region};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

/// The environment variable that names the role.
const ROLE: &str = "SHM_FIFO_ROLE";

/// What a process does whose standard input is that socket.
pub(crate) type Role = fn(UnixStream);

/// Declares the functions that [`OtherProcess::play`] may name. Once in a binary.
macro_rules! roles {
    ($($role:ident),+ $(,)?) => {
        // The section holds pointers to functions that the C library calls before
        // `main`, which is what this is.
        #[used]
        #[unsafe(link_section = ".init_array")]
        static PLAY_ROLE: extern "C" fn() = {
            extern "C" fn play_role() {
                $crate::support::process::play_if_told(&[$((stringify!($role), $role)),+]);
            }
            play_role
        };
    };
}
pub(crate) use roles;

/// Plays a role and ends the process, if the environment says so.
pub(crate) fn play_if_told(roles: &[(&str, Role)]) {
    let Ok(told) = std::env::var(ROLE) else { return };
    let role = roles.iter().find(|(name, _)| *name == told);
    let (_, play) = role.unwrap_or_else(|| panic!("{told} is no role of this binary"));
    let stdin = rustix::io::dup(std::io::stdin()).unwrap();
    play(UnixStream::from(stdin));
    std::process::exit(0);
}

/// A process that plays a role. Killed when dropped.
pub(crate) struct OtherProcess(Child);

impl OtherProcess {
    /// Starts one, with `socket` as its standard input.
    pub(crate) fn play(role: &str, socket: UnixStream) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .env(ROLE, role)
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Lets one play a role that needs no socket, and asserts that it ends well.
    pub(crate) fn assert_plays(role: &str) {
        let (_here, there) = UnixStream::pair().unwrap();
        Self::play(role, there).assert_success();
    }

    /// Kills it as `kill -9` does. It may take its time to die.
    pub(crate) fn begin_to_kill(&mut self) {
        self.0.kill().unwrap();
    }

    /// Kills it as `kill -9` does, and waits until it is dead.
    pub(crate) fn kill(&mut self) {
        self.begin_to_kill();
        self.0.wait().unwrap();
    }

    /// Waits for its end and asserts that it ended well.
    pub(crate) fn assert_success(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A channel, with rings of so many bytes, to a process that plays `role`.
pub(crate) fn channel_to_process(ring_bytes: usize, role: &str) -> (Channel, OtherProcess) {
    let region = Region::create(ring_bytes).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    send_with_fd(&here, &[0], region.fd().unwrap().as_fd()).unwrap();
    let process = OtherProcess::play(role, there);
    (Channel::new(region.into_endpoint(), here.into()), process)
}

/// The other end of [`channel_to_process`], within that process.
pub(crate) fn channel_over(socket: UnixStream) -> Channel {
    let (_, fd) = recv_with_fd(&socket, &mut [0], 0).unwrap();
    let region = Region::attach(fd.expect("the region came")).unwrap();
    Channel::new(region.into_endpoint(), socket.into())
}
