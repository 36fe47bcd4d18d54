//! Who watches a connection, and how.

use crate::program::{DATA, Epoll, IN, OUT, RING_BYTES, connection, watched_connection};
use crate::support::Watchdog;
use shm_fifo::Region;
use shm_fifo::vfd::{self, Errno};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

#[test]
fn a_connection_that_nobody_watched_is_served_once_it_is_added() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = connection(|_| ());
    client.write_all(b"x").unwrap();

    epoll.control(libc::EPOLL_CTL_ADD, moved.fd(), IN, DATA).unwrap();

    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
}

#[test]
fn a_connection_whose_watcher_was_closed_before_it_moved_is_watched_by_nobody() {
    let _watchdog = Watchdog::start();
    let (moved, mut client) = connection(|fd| {
        let closed = Epoll::new();
        closed.control(libc::EPOLL_CTL_ADD, fd, IN, 1).unwrap();
    });
    client.write_all(b"x").unwrap();

    let epoll = Epoll::new();
    epoll.control(libc::EPOLL_CTL_ADD, moved.fd(), IN, DATA).unwrap();

    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
}

#[test]
fn a_registration_made_before_the_engine_was_there_is_found() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (_moved, mut client) = connection(|fd| {
        let mut event = libc::epoll_event { events: IN, u64: DATA };
        // SAFETY: a live event.
        let added = unsafe {
            libc::epoll_ctl(epoll.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event)
        };
        assert_eq!(added, 0);
    });

    client.write_all(b"x").unwrap();

    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
}

#[test]
fn another_thread_may_add_a_ready_connection_while_the_loop_sleeps() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    // Its poller exists, so that the loop sleeps inside the engine.
    let (_quiet, _quiet_client) =
        connection(|fd| epoll.control(libc::EPOLL_CTL_ADD, fd, IN, 1).unwrap());
    // Awake elsewhere, so that its bytes come without a doorbell.
    let elsewhere = Epoll::new();
    let (moved, mut client) = watched_connection(&elsewhere);
    client.write_all(b"x").unwrap();
    elsewhere.control(libc::EPOLL_CTL_DEL, moved.fd(), 0, 0).unwrap();
    let (tell_id, id) = std::sync::mpsc::channel();

    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            tell_id.send(rustix::thread::gettid()).unwrap();
            epoll.wait(-1)
        });
        wait_until_asleep(id.recv().unwrap());
        epoll.control(libc::EPOLL_CTL_ADD, moved.fd(), IN, DATA).unwrap();
        assert_eq!(sleeper.join().unwrap(), [(IN, DATA)]);
    });
}

/// Waits until the thread `id` of this process blocks in epoll_wait.
fn wait_until_asleep(id: rustix::process::Pid) {
    let path = format!("/proc/self/task/{id}/syscall");
    let number = libc::SYS_epoll_pwait.to_string();
    while std::fs::read_to_string(&path).unwrap().split(' ').next() != Some(&number) {
        std::thread::yield_now();
    }
}

#[test]
fn removed_connections_are_silent_and_may_move_to_another_epoll() {
    let _watchdog = Watchdog::start();
    let (first, second) = (Epoll::new(), Epoll::new());
    let (moved, mut client) = watched_connection(&first);
    client.write_all(b"x").unwrap();

    first.control(libc::EPOLL_CTL_DEL, moved.fd(), 0, 0).unwrap();
    assert_eq!(first.wait(0), []);
    second.control(libc::EPOLL_CTL_ADD, moved.fd(), IN, DATA).unwrap();
    assert_eq!(second.wait(-1), [(IN, DATA)]);
    assert_eq!(first.wait(0), []);
}

#[test]
fn a_failed_change_in_another_epoll_changes_nothing() {
    let _watchdog = Watchdog::start();
    let (watching, other) = (Epoll::new(), Epoll::new());
    let (moved, mut client) = watched_connection(&watching);
    // Somebody is watched there, so that the engine looks after it.
    let (_quiet, _quiet_client) = watched_connection(&other);

    let refused = other.control(libc::EPOLL_CTL_MOD, moved.fd(), IN, 1);
    client.write_all(b"x").unwrap();

    assert_eq!(refused, Err(Errno(libc::ENOENT)));
    assert_eq!(watching.wait(2000), [(IN, DATA)]);
}

#[test]
fn epoll_ctl_fails_as_the_kernel_does() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, _client) = watched_connection(&epoll);
    let add = |fd| epoll.control(libc::EPOLL_CTL_ADD, fd, IN, 0);

    assert_eq!(add(moved.fd()), Err(Errno(libc::EEXIST)));
    assert_eq!(add(-1), Err(Errno(libc::EBADF)));
    assert_eq!(add(epoll.0.as_raw_fd()), Err(Errno(libc::EINVAL)));
}

/// What is level-triggered is told again; who wants an edge would not expect that.
#[test]
fn who_asks_for_edges_or_to_be_told_alone_or_once_is_refused() {
    const NOT_SERVED: [i32; 3] = [libc::EPOLLET, libc::EPOLLONESHOT, libc::EPOLLEXCLUSIVE];
    let _watchdog = Watchdog::start();
    for flag in NOT_SERVED.map(|flag| u32::from_ne_bytes(flag.to_ne_bytes())) {
        let epoll = Epoll::new();
        let (moved, mut client) = connection(|_| {});
        let invalid = Err(Errno(libc::EINVAL));
        assert_eq!(epoll.control(libc::EPOLL_CTL_ADD, moved.fd(), IN | flag, DATA), invalid);
        epoll.control(libc::EPOLL_CTL_ADD, moved.fd(), IN, DATA).unwrap();
        assert_eq!(epoll.control(libc::EPOLL_CTL_MOD, moved.fd(), IN | OUT | flag, 1), invalid);
        // As it was before.
        client.write_all(b"x").unwrap();
        assert_eq!(epoll.wait(-1), [(IN, DATA)]);
        assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    }
}

#[test]
fn who_has_edges_or_is_told_alone_or_once_stays_a_socket() {
    const NOT_SERVED: [i32; 3] = [libc::EPOLLET, libc::EPOLLONESHOT, libc::EPOLLEXCLUSIVE];
    let _watchdog = Watchdog::start();
    for flag in NOT_SERVED.map(|flag| u32::from_ne_bytes(flag.to_ne_bytes())) {
        let epoll = Epoll::new();
        let (here, mut there) = UnixStream::pair().unwrap();
        epoll.control(libc::EPOLL_CTL_ADD, here.as_raw_fd(), IN | flag, DATA).unwrap();
        let endpoint = Region::create(RING_BYTES).unwrap().into_endpoint();

        let refused = vfd::start(here.as_raw_fd(), endpoint, 42, b"hello").unwrap_err();

        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert!(!vfd::is_virtual(here.as_raw_fd()));
        there.write_all(b"x").unwrap();
        assert_eq!(epoll.wait(-1), [(IN, DATA)]);
        let told_again =
            !matches!(i32::from_ne_bytes(flag.to_ne_bytes()), libc::EPOLLET | libc::EPOLLONESHOT);
        assert_eq!(epoll.wait(0).len(), usize::from(told_again));
        vfd::before_close(here.as_raw_fd());
    }
}
