//! What `epoll_wait` tells, when, and in which order.

use crate::program::{DATA, Epoll, IN, OUT, RING_BYTES, connection, watched_connection};
use crate::support::{Random, Watchdog};
use shm_fifo::vfd::{self, Errno};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[test]
fn readiness_is_reported_with_the_programs_data_until_it_is_read() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);

    assert_eq!(epoll.wait(0), []);
    client.write_all(b"x").unwrap();
    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    moved.read(1).unwrap();
    assert_eq!(epoll.wait(0), []);
}

#[test]
fn a_sleeping_loop_is_woken_by_the_doorbell() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (_moved, mut client) = watched_connection(&epoll);

    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| epoll.wait(-1));
        // Parked, as the words say, or about to be: both are right.
        client.write_all(b"x").unwrap();
        assert_eq!(sleeper.join().unwrap(), [(IN, DATA)]);
    });
}

#[test]
fn a_wait_ends_at_its_timeout_without_an_event() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (_moved, _client) = watched_connection(&epoll);
    assert_eq!(epoll.wait(30), []);
}

#[test]
fn an_idle_connection_is_parked_and_still_served() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);
    let is_hot = || vfd::sessions().iter().any(|session| session.fd == moved.fd() && session.hot);

    assert!(is_hot());
    // Longer than a connection may be silent and stay hot.
    assert_eq!(epoll.wait(20), []);
    assert!(!is_hot());
    client.write_all(b"x").unwrap();
    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert!(is_hot());
}

#[test]
fn writability_is_space_in_the_ring_and_a_stalled_reader_costs_no_wakeup() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);

    assert_eq!(moved.write(&[7; RING_BYTES + 1]), Ok(RING_BYTES));
    assert_eq!(moved.write(b"x"), Err(Errno(libc::EAGAIN)));
    epoll.control(libc::EPOLL_CTL_MOD, moved.fd(), IN | OUT, DATA).unwrap();
    // A real socket would be writable here, and the loop would never sleep.
    assert_eq!(epoll.wait(20), []);
    let mut target = [0; RING_BYTES];
    client.read_exact(&mut target).unwrap();
    assert_eq!(epoll.wait(-1), [(OUT, DATA)]);
}

#[test]
fn a_sleeping_writer_is_woken_when_its_reader_reads() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);
    moved.write(&[7; RING_BYTES]).unwrap();
    epoll.control(libc::EPOLL_CTL_MOD, moved.fd(), OUT, DATA).unwrap();

    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| epoll.wait(-1));
        client.read_exact(&mut [0; RING_BYTES]).unwrap();
        assert_eq!(sleeper.join().unwrap(), [(OUT, DATA)]);
    });
}

#[test]
fn a_loop_sleeps_although_a_peer_has_ended_that_nobody_listens_to() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (_moved, client) = connection(|fd| epoll.control(libc::EPOLL_CTL_ADD, fd, 0, 0).unwrap());
    drop(client);

    let before = cpu_time_of_this_thread();
    let events = epoll.wait(300);
    let used = cpu_time_of_this_thread() - before;

    assert_eq!(events, []);
    assert!(used < Duration::from_millis(30), "{used:?}");
}

fn cpu_time_of_this_thread() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap()
}

#[test]
fn the_kernels_own_events_come_through_while_a_ring_is_busy() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (_moved, mut client) = watched_connection(&epoll);
    let (plain, mut plain_peer) = UnixStream::pair().unwrap();
    epoll.control(libc::EPOLL_CTL_ADD, plain.as_raw_fd(), IN, 5).unwrap();

    client.write_all(b"never read").unwrap();
    plain_peer.write_all(b"x").unwrap();

    let seen = (0..).map(|_| epoll.wait(-1)).find(|events| events.contains(&(IN, 5)));
    assert_eq!(seen, Some(vec![(IN, 5), (IN, DATA)]));
}

#[test]
fn rings_and_sockets_get_their_turns_when_there_is_room_for_one_event() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (_moved, mut client) = watched_connection(&epoll);
    let (plain, _plain_peer) = UnixStream::pair().unwrap();
    epoll.control(libc::EPOLL_CTL_ADD, plain.as_raw_fd(), OUT, 5).unwrap();
    client.write_all(b"never read").unwrap();

    // Each again and again, as long as both are ready.
    for awaited in [(IN, DATA), (OUT, 5), (IN, DATA), (OUT, 5)] {
        while epoll.wait_with_room(1, -1) != [awaited] {}
    }
}

#[test]
fn every_ready_ring_gets_its_turn_when_there_is_room_for_one_event() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let connections: Vec<_> = (0..3)
        .map(|data| connection(|fd| epoll.control(libc::EPOLL_CTL_ADD, fd, IN, data).unwrap()))
        .map(|(moved, mut client)| {
            client.write_all(b"x").unwrap();
            (moved, client)
        })
        .collect();

    let mut seen: Vec<u64> =
        (0..3).flat_map(|_| epoll.wait_with_room(1, -1)).map(|e| e.1).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
    drop(connections);
}

#[test]
fn ended_peers_get_their_turn_too_when_there_is_room_for_one_event() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let connections: Vec<_> = (0..2)
        .map(|data| connection(|fd| epoll.control(libc::EPOLL_CTL_ADD, fd, IN, data).unwrap()).0)
        .collect();

    // More than once: the first reports come with the end of their sockets.
    for _ in 0..3 {
        let mut seen: Vec<u64> =
            (0..6).flat_map(|_| epoll.wait_with_room(1, -1)).map(|e| e.1).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [0, 1]);
    }
    drop(connections);
}

#[test]
fn connections_that_were_silent_are_reported_in_the_order_in_which_they_rang() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let watched = |data| connection(|fd| epoll.control(libc::EPOLL_CTL_ADD, fd, IN, data).unwrap());
    let mut connections: Vec<_> = (0..4).map(watched).collect();
    let fds: Vec<RawFd> = connections.iter().map(|(here, _)| here.fd()).collect();
    let mut random = Random::seeded(9);
    for _ in 0..50 {
        while vfd::sessions().iter().any(|session| session.hot && fds.contains(&session.fd)) {
            assert_eq!(epoll.wait(3), []);
        }
        let mut left: Vec<usize> = (0..connections.len()).collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            let index = left.swap_remove(random.below(left.len()));
            connections[index].1.write_all(b"x").unwrap();
            order.push((IN, index as u64));
        }

        assert_eq!(epoll.wait(1000), order);

        for (here, _) in &connections {
            assert_eq!(here.read(8), Ok(b"x".to_vec()));
        }
    }
}

#[test]
fn what_is_sent_on_a_silent_connection_is_not_overtaken_by_what_is_sent_on_a_busy_one() {
    const SILENT: u64 = 1;
    const BUSY: u64 = 2;
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let watched = |data| connection(|fd| epoll.control(libc::EPOLL_CTL_ADD, fd, IN, data).unwrap());
    let (mut silent, mut busy) = (watched(SILENT), watched(BUSY));
    let is_hot = |fd| vfd::sessions().iter().any(|session| session.fd == fd && session.hot);
    for _ in 0..50 {
        while is_hot(silent.0.fd()) || !is_hot(busy.0.fd()) {
            busy.1.write_all(b"x").unwrap();
            assert_eq!(epoll.wait(1000), [(IN, BUSY)]);
            busy.0.read(8).unwrap();
        }

        silent.1.write_all(b"x").unwrap();
        busy.1.write_all(b"x").unwrap();

        assert_eq!(epoll.wait(1000), [(IN, SILENT), (IN, BUSY)]);
        silent.0.read(8).unwrap();
        busy.0.read(8).unwrap();
    }
}
