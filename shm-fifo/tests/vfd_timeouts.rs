//! A wait ends at its timeout, however long it may spin and whatever a peer does.
#![cfg(feature = "virtual-fd")]
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::vfd::{self, WaitSettings};
use shm_fifo::{Region, WaitMode};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use support::{Watchdog, alone};

/// Longer than the timeouts here.
const SPIN_US: u32 = 1_000_000;

/// A program's epoll instance, with one connection that has moved and is silent.
struct Program {
    epoll: OwnedFd,
    socket: UnixStream,
    client: UnixStream,
}

impl Program {
    fn new() -> Self {
        vfd::prepare().unwrap();
        vfd::configure(WaitSettings {
            mode: WaitMode::Spin,
            spin_us: SPIN_US,
            notify_at_next_wait: false,
        });
        // SAFETY: takes no pointer.
        let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
        let (socket, client) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let program = Self { epoll, socket, client };
        let input = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
        let (epfd, fd) = (program.epoll.as_raw_fd(), program.socket.as_raw_fd());
        vfd::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, Some(input)).unwrap();
        let region = Region::create(4096).unwrap();
        vfd::start(fd, region.into_endpoint(), 0, b"").unwrap();
        program
    }

    /// How many events there are within `timeout_ms`.
    fn wait(&self, timeout_ms: i32) -> usize {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
        vfd::epoll_wait(self.epoll.as_raw_fd(), &mut events, timeout_ms).unwrap().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        vfd::before_close(self.socket.as_raw_fd());
        vfd::before_close(self.epoll.as_raw_fd());
    }
}

#[test]
fn a_spin_does_not_outlast_the_timeout() {
    let _alone = alone();
    let _watchdog = Watchdog::start();
    let mut program = Program::new();
    // A scheduler that takes the CPU away ends a spin as well. It does not do so in
    // every millisecond.
    let ended_at_its_timeout = |_| {
        // Active again, and so a reason to spin.
        program.client.write_all(&[0]).unwrap();
        let before = vfd::stats();
        assert_eq!(program.wait(1), 0);
        let after = vfd::stats();
        let other_ends = |stats: vfd::Stats| stats.spins_expired + stats.spins_preempted;
        after.spin_ns > before.spin_ns && other_ends(after) == other_ends(before)
    };
    assert!((0..1000).any(ended_at_its_timeout));
}

#[test]
fn doorbells_without_end_do_not_outlast_the_timeout() {
    let _alone = alone();
    let _watchdog = Watchdog::start();
    let mut program = Program::new();
    for _ in 0..50 {
        // As good as without end: they are taken in many looks, some time apart, which
        // last for more than twice the timeout.
        program.client.write_all(&[0; 64 * 1024]).unwrap();

        assert_eq!(program.wait(1), 0);

        let left = program.socket.read(&mut [1; 64 * 1024]).map_err(|error| error.kind());
        assert_ne!(left, Err(ErrorKind::WouldBlock), "it took them all");
    }
}
