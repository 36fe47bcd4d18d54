//! A program that has no file descriptor left. The only test of its binary: the limit
//! is the whole process's.
#![cfg(feature = "virtual-fd")]
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shm_fifo::{Region, vfd};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use support::Watchdog;

fn epoll() -> OwnedFd {
    // SAFETY: takes no pointer.
    unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }
}

#[test]
fn a_connection_is_watched_by_one_epoll_and_then_another_although_no_descriptor_is_free() {
    let _watchdog = Watchdog::start();
    vfd::prepare().unwrap();
    let (socket, _client) = UnixStream::pair().unwrap();
    let region = Region::create(4096).unwrap();
    vfd::start(socket.as_raw_fd(), region.into_endpoint(), 0, b"").unwrap();
    let (one, other) = (epoll(), epoll());
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limits }).unwrap();
    assert!(socket.try_clone().is_err(), "one is free");

    let event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
    let change = |epoll: &OwnedFd, operation| {
        vfd::epoll_ctl(epoll.as_raw_fd(), operation, socket.as_raw_fd(), Some(event))
    };
    assert_eq!(change(&one, libc::EPOLL_CTL_ADD), Ok(()));
    assert_eq!(change(&one, libc::EPOLL_CTL_DEL), Ok(()));
    assert_eq!(change(&other, libc::EPOLL_CTL_ADD), Ok(()));
    vfd::before_close(socket.as_raw_fd());
    // LeakSanitizer opens files when the process ends.
    setrlimit(Resource::Nofile, limits).unwrap();
}
