//! Virtual file descriptors behave as sockets do under epoll.
#![cfg(feature = "virtual-fd")]
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::vfd::{self, Errno};
use shm_fifo::{Channel, Duplex, Region};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use support::{Random, Watchdog};

const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const RING_BYTES: usize = 4096;
/// What the program registered beside its file descriptors: any number is its right.
const DATA: u64 = 0xFEED_0000_0000_0007;

/// An epoll instance of a program that makes its calls through `vfd`.
struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> Self {
        vfd::prepare().unwrap();
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: just made, nobody else has it.
        Self(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn control(&self, operation: i32, fd: RawFd, mask: u32, data: u64) -> Result<(), Errno> {
        let event = libc::epoll_event { events: mask, u64: data };
        vfd::epoll_ctl(self.0.as_raw_fd(), operation, fd, Some(event))
    }

    /// As an interposer's `epoll_wait`, with room for `room` events.
    fn wait_with_room(&self, room: usize, timeout_ms: i32) -> Vec<(u32, u64)> {
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; room];
        let epfd = self.0.as_raw_fd();
        let found = match vfd::epoll_wait(epfd, &mut events, timeout_ms) {
            Some(result) => result.expect("no signal comes"),
            None => {
                let capacity = i32::try_from(room).unwrap();
                // SAFETY: room for that many events.
                let found =
                    unsafe { libc::epoll_wait(epfd, events.as_mut_ptr(), capacity, timeout_ms) };
                vfd::filter_events(epfd, &mut events, usize::try_from(found).unwrap())
            }
        };
        events[..found].iter().map(|event| (event.events, event.u64)).collect()
    }

    fn wait(&self, timeout_ms: i32) -> Vec<(u32, u64)> {
        self.wait_with_room(16, timeout_ms)
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        vfd::before_close(self.0.as_raw_fd());
    }
}

/// The program's file descriptor. Closed the way an interposed program closes it.
struct Moved(UnixStream);

impl Moved {
    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn read(&self, length: usize) -> Result<Vec<u8>, Errno> {
        let mut target = vec![0; length];
        let count = vfd::read(self.fd(), &mut target).expect("it is virtual")?;
        target.truncate(count);
        Ok(target)
    }

    fn write(&self, source: &[u8]) -> Result<usize, Errno> {
        vfd::write(self.fd(), &[IoSlice::new(source)]).expect("it is virtual")
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        vfd::before_close(self.0.as_raw_fd());
    }
}

/// A connection whose server side has moved, and the client's end of it. `watch`
/// runs before the move.
fn connection(watch: impl FnOnce(RawFd)) -> (Moved, Channel) {
    let (here, there) = UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    watch(here.as_raw_fd());
    let region = Region::create(RING_BYTES).unwrap();
    region.park_both_ends();
    let attached = Region::attach(region.fd().unwrap()).unwrap();
    vfd::start(here.as_raw_fd(), region.into_endpoint(), 42, b"").unwrap();
    (Moved(here), Channel::new(attached.into_endpoint(), there.into()))
}

/// A program closes its socket where nobody sees that, and goes on looking into the rings.
#[test]
fn who_still_looks_when_its_socket_has_ended_sees_the_end() {
    let _watchdog = Watchdog::start();
    let (here, there) = UnixStream::pair().unwrap();
    let epoll = Epoll::new();
    epoll.control(libc::EPOLL_CTL_ADD, here.as_raw_fd(), IN, DATA).unwrap();
    let region = Region::create(RING_BYTES).unwrap();
    let peer = Duplex::new(Region::attach(region.fd().unwrap()).unwrap().into_endpoint());
    vfd::start(here.as_raw_fd(), region.into_endpoint(), 42, b"").unwrap();
    let moved = Moved(here);
    moved.write(b"unread").unwrap();
    drop(there);
    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(moved.read(8), Ok(vec![]));

    drop(moved);

    assert!(peer.peer_closed());
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

/// A connection that `epoll` watches for input.
fn watched_connection(epoll: &Epoll) -> (Moved, Channel) {
    connection(|fd| epoll.control(libc::EPOLL_CTL_ADD, fd, IN, DATA).unwrap())
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
fn bytes_go_both_ways_and_an_empty_ring_is_eagain() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);

    assert_eq!(moved.read(10), Err(Errno(libc::EAGAIN)));
    client.write_all(b"ping").unwrap();
    assert_eq!(moved.read(10), Ok(b"ping".to_vec()));
    assert_eq!(moved.write(b"pong"), Ok(4));
    let mut reply = [0; 4];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"pong");
}

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
fn what_was_sent_before_the_peers_end_is_read_before_the_end() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);

    client.write_all(b"last words").unwrap();
    drop(client);

    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(moved.read(100), Ok(b"last words".to_vec()));
    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(moved.read(100), Ok(Vec::new()));
    assert_eq!(moved.write(b"x"), Err(Errno(libc::EPIPE)));
}

#[test]
fn a_byte_that_is_no_doorbell_ends_the_connection() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, client) = watched_connection(&epoll);
    let before = vfd::stats().protocol_violations;

    // SAFETY: one byte of a static string.
    let sent = unsafe { libc::send(client.as_raw_fd(), c"P".as_ptr().cast(), 1, 0) };
    assert_eq!(sent, 1);

    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(moved.read(10), Ok(Vec::new()));
    assert_eq!(moved.write(b"x"), Err(Errno(libc::EPIPE)));
    assert!(vfd::stats().protocol_violations > before);
}

/// Another process that has the socket, too, writes to it.
#[test]
fn what_was_unread_is_not_overwritten_where_the_socket_was_misused() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);
    moved.write(&[7; 100]).unwrap();
    // SAFETY: one byte of a static string.
    let sent = unsafe { libc::send(client.as_raw_fd(), c"P".as_ptr().cast(), 1, 0) };
    assert_eq!(sent, 1);
    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(moved.read(10), Ok(Vec::new()));

    drop(moved);

    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [7; 100]);
}

#[test]
fn a_closed_file_descriptor_is_virtual_no_more_and_its_peer_reads_the_end() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);
    let fd = moved.fd();

    moved.write(b"bye").unwrap();
    drop(moved);

    assert!(!vfd::is_virtual(fd));
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"bye");
    assert_eq!(client.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

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

#[test]
fn a_connection_moves_once() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);

    let again = vfd::start(moved.fd(), Region::create(RING_BYTES).unwrap().into_endpoint(), 1, b"");

    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    client.write_all(b"still here").unwrap();
    assert_eq!(moved.read(100), Ok(b"still here".to_vec()));
}

#[test]
fn sessions_are_listed_with_the_bytes_that_passed() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);
    client.write_all(b"four").unwrap();
    moved.read(100).unwrap();
    moved.write(b"seven77").unwrap();

    let listed = vfd::sessions().into_iter().find(|session| session.fd == moved.fd()).unwrap();

    assert_eq!((listed.owner, listed.bytes_in, listed.bytes_out), (42, 4, 7));
    assert!(listed.region_bytes > 2 * RING_BYTES);
}

#[test]
fn errno_is_left_alone_on_success_and_set_on_failure() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);
    // SAFETY: this thread's own errno.
    let errno = || unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *errno() = libc::EDOM };

    client.write_all(b"x").unwrap();
    moved.read(1).unwrap();
    epoll.wait(0);
    // SAFETY: as above.
    assert_eq!(unsafe { *errno() }, libc::EDOM);
    moved.read(1).unwrap_err();
    // SAFETY: as above.
    assert_eq!(unsafe { *errno() }, libc::EAGAIN);
}

#[test]
fn a_forked_child_cannot_touch_the_connection_and_the_parent_goes_on() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);
    client.write_all(b"x").unwrap();

    // SAFETY: the child only makes calls that allocate nothing, and ends itself.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut byte = [0];
        let refused = vfd::read(moved.fd(), &mut byte) == Some(Err(Errno(libc::EPIPE)))
            && vfd::write(moved.fd(), &[IoSlice::new(b"y")]) == Some(Err(Errno(libc::EPIPE)))
            && client.try_read(&mut byte).is_err();
        vfd::before_close(moved.fd());
        drop(client);
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(i32::from(!refused)) };
    }
    let mut status = -1;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(moved.read(10), Ok(b"x".to_vec()));
    moved.write(b"z").unwrap();
    let mut reply = [0];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"z");
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
fn a_descriptor_in_blocking_mode_waits_for_bytes_and_for_space() {
    let _watchdog = Watchdog::start();
    let (moved, mut client) = connection(|_| ());
    moved.0.set_nonblocking(false).unwrap();
    let large = vec![b'x'; 10 * RING_BYTES];
    let sent = large.clone();

    let peer = std::thread::spawn(move || {
        client.write_all(b"ping").unwrap();
        let mut reply = vec![0; 10 * RING_BYTES];
        client.read_exact(&mut reply).unwrap();
        (client, reply)
    });
    assert_eq!(moved.read(10), Ok(b"ping".to_vec()));
    assert_eq!(moved.write(&sent), Ok(large.len()));

    let (client, reply) = peer.join().unwrap();
    assert!(reply == large);
    drop(client);
    assert_eq!(moved.read(10), Ok(Vec::new()));
}

#[test]
fn a_blocking_call_ends_at_the_sockets_timeout() {
    let _watchdog = Watchdog::start();
    let (moved, _client) = connection(|_| ());
    moved.0.set_nonblocking(false).unwrap();
    let timeout = Some(Duration::from_millis(1));
    moved.0.set_read_timeout(timeout).unwrap();
    moved.0.set_write_timeout(timeout).unwrap();

    assert_eq!(moved.read(10), Err(Errno(libc::EAGAIN)));
    assert_eq!(moved.write(&[b'x'; 2 * RING_BYTES]), Ok(RING_BYTES));
    assert_eq!(moved.write(b"more"), Err(Errno(libc::EAGAIN)));
}

/// What is level-triggered is told again; who wants an edge would not expect that.
#[test]
fn who_asks_for_edges_or_to_be_told_alone_or_once_is_refused() {
    const NOT_SERVED: [i32; 3] = [libc::EPOLLET, libc::EPOLLONESHOT, libc::EPOLLEXCLUSIVE];
    let _watchdog = Watchdog::start();
    for flag in NOT_SERVED.map(i32::cast_unsigned) {
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
    for flag in NOT_SERVED.map(i32::cast_unsigned) {
        let epoll = Epoll::new();
        let (here, mut there) = UnixStream::pair().unwrap();
        epoll.control(libc::EPOLL_CTL_ADD, here.as_raw_fd(), IN | flag, DATA).unwrap();
        let endpoint = Region::create(RING_BYTES).unwrap().into_endpoint();

        let refused = vfd::start(here.as_raw_fd(), endpoint, 42, b"hello").unwrap_err();

        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert!(!vfd::is_virtual(here.as_raw_fd()));
        there.write_all(b"x").unwrap();
        assert_eq!(epoll.wait(-1), [(IN, DATA)]);
        let told_again = !matches!(flag.cast_signed(), libc::EPOLLET | libc::EPOLLONESHOT);
        assert_eq!(epoll.wait(0).len(), usize::from(told_again));
        vfd::before_close(here.as_raw_fd());
    }
}
