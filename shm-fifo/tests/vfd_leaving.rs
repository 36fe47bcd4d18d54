//! The way back: a peer that has left the rings goes on over the socket, and the program does
//! not notice.
#![cfg(feature = "virtual-fd")]
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::vfd::{self, Errno};
use shm_fifo::{Region, duplex::Duplex};
use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use support::{Random, Watchdog};

const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const DATA: u64 = 0xFEED_0000_0000_0007;
const AGAIN: Errno = Errno(libc::EAGAIN);

/// A program whose calls go through `vfd`, with one connection that it watches.
struct Program {
    epoll: OwnedFd,
    socket: UnixStream,
}

impl Program {
    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn watch(&self, operation: i32, mask: u32) {
        let event = libc::epoll_event { events: mask, u64: DATA };
        vfd::epoll_ctl(self.epoll.as_raw_fd(), operation, self.fd(), Some(event)).unwrap();
    }

    /// The events of the connection, once for each report.
    fn wait(&self, timeout_ms: i32) -> Vec<u32> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        let found = vfd::epoll_wait(self.epoll.as_raw_fd(), &mut events, timeout_ms);
        let found = found.expect("a connection was watched").expect("no signal comes");
        assert!(events[..found].iter().all(|event| event.u64 == DATA));
        events[..found].iter().map(|event| event.events).collect()
    }

    /// As an interposer reads: what is none of the engine's business, the kernel does.
    fn read(&self, target: &mut [u8]) -> Result<usize, Errno> {
        let by_kernel = |target: &mut [u8]| {
            (&self.socket).read(target).map_err(|error| Errno(error.raw_os_error().unwrap()))
        };
        vfd::read(self.fd(), target).unwrap_or_else(|| by_kernel(target))
    }

    fn write(&self, source: &[u8]) -> Result<usize, Errno> {
        let by_kernel =
            || (&self.socket).write(source).map_err(|error| Errno(error.raw_os_error().unwrap()));
        vfd::write(self.fd(), &[IoSlice::new(source)]).unwrap_or_else(by_kernel)
    }

    fn read_some(&self, length: usize) -> Vec<u8> {
        let mut target = vec![0; length];
        let count = self.read(&mut target).unwrap();
        target.truncate(count);
        target
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        vfd::before_close(self.fd());
        vfd::before_close(self.epoll.as_raw_fd());
    }
}

/// Its client, in the rings and on the socket.
struct Client {
    ring: Duplex,
    socket: UnixStream,
    /// The region's, mapped or not.
    file: File,
}

impl Client {
    fn write(&self, bytes: &[u8]) {
        let written = self.ring.write(self.socket.as_raw_fd(), &[IoSlice::new(bytes)]);
        assert_eq!(written.unwrap(), bytes.len());
    }

    fn read(&self, length: usize) -> Vec<u8> {
        let mut target = vec![0; length];
        let count = self.ring.read(self.socket.as_raw_fd(), &mut target).unwrap();
        target.truncate(count);
        target
    }

    fn leave(&self) {
        self.ring.leave(self.socket.as_raw_fd()).unwrap();
    }

    fn is_back(&self) -> bool {
        self.ring.has_peer_left(self.socket.as_raw_fd()).unwrap()
    }
}

/// A connection that has moved, with rings of `ring_bytes`.
fn connection(ring_bytes: usize) -> (Program, Client) {
    vfd::prepare().unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    // SAFETY: takes no pointer; the result is a new descriptor that nobody else has.
    let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
    let program = Program { epoll, socket: here };
    program.watch(libc::EPOLL_CTL_ADD, IN);
    let region = Region::create(ring_bytes).unwrap();
    let file = File::from(region.fd().unwrap());
    let attached = Region::attach(region.fd().unwrap()).unwrap();
    vfd::start(program.fd(), region.into_endpoint(), 42, b"").unwrap();
    (program, Client { ring: Duplex::new(attached.into_endpoint()), socket: there, file })
}

/// The program goes on waiting, for nothing, until its client has come back.
fn until_back(program: &Program, client: &Client) {
    while !client.is_back() {
        assert_eq!(program.wait(0), []);
    }
}

#[test]
fn afterwards_it_is_the_socket_that_it_was() {
    let _watchdog = Watchdog::start();
    let (program, mut client) = connection(4096);
    client.write(b"one");
    assert_eq!(program.wait(-1), [IN]);
    assert_eq!(program.read_some(8), b"one");
    assert_eq!(program.write(b"two"), Ok(3));
    assert_eq!(program.wait(0), [], "rings for what was written");
    assert_eq!(client.read(8), b"two");

    client.leave();
    assert!(!client.is_back());

    until_back(&program, &client);
    assert!(!vfd::is_virtual(program.fd()));
    assert!(vfd::sessions().iter().all(|session| session.fd != program.fd()));
    client.socket.write_all(b"three").unwrap();
    assert_eq!(program.wait(-1), [IN]);
    assert_eq!(program.read_some(8), b"three");
    assert_eq!(program.write(b"four"), Ok(4));
    let mut answer = [0; 8];
    assert_eq!(client.socket.read(&mut answer).unwrap(), 4);
    assert_eq!(&answer[..4], b"four");
    // And it may move again.
    let region = Region::create(4096).unwrap();
    let attached = Region::attach(region.fd().unwrap()).unwrap();
    vfd::start(program.fd(), region.into_endpoint(), 42, b"").unwrap();
    client.ring = Duplex::new(attached.into_endpoint());
    client.write(b"five");
    assert_eq!(program.wait(-1), [IN]);
    assert_eq!(program.read_some(8), b"five");
}

#[test]
fn what_was_unread_comes_first_in_both_directions() {
    let _watchdog = Watchdog::start();
    let (program, client) = connection(4096);
    client.write(b"in the ring, ");
    assert_eq!(program.write(b"in the ring, "), Ok(13));
    client.leave();
    assert_eq!(program.wait(-1), [IN], "of the ring");
    assert!(client.is_back());
    assert!(vfd::is_virtual(program.fd()), "until the ring has been read");
    (&client.socket).write_all(b"on the socket").unwrap();
    assert_eq!(program.write(b"on the socket"), Ok(13));

    assert_eq!(program.read_some(7), b"in the ");
    assert_eq!(program.wait(-1), [IN]);
    assert_eq!(program.read_some(64), b"ring, ");
    assert!(!vfd::is_virtual(program.fd()));
    assert_eq!(program.wait(-1), [IN]);
    assert_eq!(program.read_some(64), b"on the socket");
    let mut all = [0; 26];
    (&client.socket).read_exact(&mut all).unwrap();
    assert_eq!(&all, b"in the ring, on the socket");
}

#[test]
fn more_than_the_socket_takes_follows_as_it_is_read() {
    let _watchdog = Watchdog::start();
    let (program, client) = connection(1 << 20);
    let unread = vec![7; 1 << 20];
    assert_eq!(program.write(&unread), Ok(unread.len()));
    client.leave();
    until_back(&program, &client);

    assert_eq!(program.write(b"behind"), Err(AGAIN));
    // What comes the other way does not wait for that.
    (&client.socket).write_all(b"request").unwrap();
    assert_eq!(program.wait(-1), [IN]);
    assert_eq!(program.read_some(64), b"request");
    program.watch(libc::EPOLL_CTL_MOD, IN | OUT);
    assert_eq!(program.wait(0), [], "the socket is full");
    // Nor does what was unread wait for a program that has nothing to say at the moment.
    program.watch(libc::EPOLL_CTL_MOD, IN);
    let mut some = vec![0; 1 << 19];
    let mut taken = 0;
    while taken < some.len() {
        taken += (&client.socket).read(&mut some[taken..]).unwrap();
        assert_eq!(program.wait(0), []);
    }
    program.watch(libc::EPOLL_CTL_MOD, IN | OUT);
    let unread = &unread[taken..];
    client.socket.set_nonblocking(true).unwrap();
    let mut received = Vec::new();
    while received.len() < unread.len() + 6 {
        let mut chunk = [0; 4096];
        while let Ok(count) = (&client.socket).read(&mut chunk) {
            received.extend_from_slice(&chunk[..count]);
        }
        if program.wait(0).first().is_some_and(|events| events & OUT != 0) {
            match program.write(b"behind") {
                Ok(count) => {
                    assert_eq!(count, 6);
                    program.watch(libc::EPOLL_CTL_MOD, IN);
                }
                error => assert_eq!(error, Err(AGAIN)),
            }
        }
    }
    assert_eq!(&received[..unread.len()], unread);
    assert_eq!(&received[unread.len()..], b"behind");
    assert!(!vfd::is_virtual(program.fd()));
}

#[test]
fn it_happens_although_the_program_waits_for_nothing_at_the_moment() {
    let _watchdog = Watchdog::start();
    let (program, client) = connection(4096);
    program.watch(libc::EPOLL_CTL_MOD, 0);
    client.leave();
    until_back(&program, &client);
    assert!(!vfd::is_virtual(program.fd()));
    (&client.socket).write_all(b"x").unwrap();
    assert_eq!(program.wait(0), []);
    program.watch(libc::EPOLL_CTL_MOD, IN);
    assert_eq!(program.wait(-1), [IN]);
    assert_eq!(program.read_some(8), b"x");
}

#[test]
fn a_descriptor_in_blocking_mode_comes_back_while_it_waits() {
    let _watchdog = Watchdog::start();
    let (program, client) = connection(4096);
    program.socket.set_nonblocking(false).unwrap();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| program.read_some(8));
        client.leave();
        while !client.is_back() {
            std::thread::yield_now();
        }
        (&client.socket).write_all(b"request").unwrap();
        assert_eq!(reading.join().unwrap(), b"request");
    });
    assert_eq!(program.write(b"reply"), Ok(5));
    assert_eq!((&client.socket).read(&mut [0; 8]).unwrap(), 5);
}

#[test]
fn who_has_left_neither_reads_nor_writes_nor_leaves_again() {
    let _watchdog = Watchdog::start();
    let (program, client) = connection(4096);
    assert_eq!(program.write(b"unread"), Ok(6));
    client.leave();
    let fd = client.socket.as_raw_fd();
    let not_connected = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::NotConnected);
    not_connected(client.ring.read(fd, &mut [0; 8]).unwrap_err());
    not_connected(client.ring.peek(fd, &mut [0; 8]).unwrap_err());
    not_connected(client.ring.write(fd, &[IoSlice::new(b"x")]).unwrap_err());
    assert_eq!(client.ring.leave(fd).unwrap_err().kind(), ErrorKind::BrokenPipe);
    client.ring.close_writing(fd);
    until_back(&program, &client);
    let mut rest = [0; 8];
    assert_eq!((&client.socket).read(&mut rest).unwrap(), 6);
    assert_eq!(&rest[..6], b"unread");
}

#[test]
fn a_client_that_keeps_the_region_keeps_no_more_than_its_first_page() {
    let _watchdog = Watchdog::start();
    let (program, client) = connection(1 << 20);
    assert_eq!(program.write(&vec![7; 1 << 16]), Ok(1 << 16));
    client.write(&[7; 1 << 16]);
    client.leave();
    assert_eq!(program.wait(-1), [IN]);
    assert_eq!(program.read_some(1 << 16).len(), 1 << 16);
    assert!(!vfd::is_virtual(program.fd()));
    assert_eq!(client.file.metadata().unwrap().blocks() * 512, 4096);
}

#[test]
fn one_that_has_ended_does_not_come_back() {
    let _watchdog = Watchdog::start();
    let (program, client) = connection(4096);
    vfd::before_close(program.fd());
    let refused = client.ring.leave(client.socket.as_raw_fd()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn bytes_behind_the_leave_before_it_is_answered_end_the_connection() {
    let _watchdog = Watchdog::start();
    let (program, client) = connection(4096);
    let before = vfd::stats().protocol_violations;
    (&client.socket).write_all(&[0, 1, b'x']).unwrap();
    assert_eq!(program.wait(-1), [IN]);
    assert_eq!(program.read_some(8), b"");
    assert!(vfd::stats().protocol_violations > before);
    assert_eq!((&client.socket).read(&mut [0; 8]).unwrap(), 0);
}

/// As it is ended there, before that was heard or after.
#[test]
fn where_the_program_closes_it_first_the_last_words_are_in_the_ring() {
    let _watchdog = Watchdog::start();
    for is_heard in [false, true] {
        let (program, client) = connection(4096);
        assert_eq!(program.write(&[7; 100]), Ok(100));
        client.leave();
        if is_heard {
            // While the kernel has an event for the program, too, it is answered later.
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
            let epfd = program.epoll.as_raw_fd();
            // SAFETY: room for that many events.
            let found = unsafe { libc::epoll_wait(epfd, events.as_mut_ptr(), 8, -1) };
            let found = usize::try_from(found).unwrap();
            assert_eq!(vfd::filter_events(epfd, &mut events, found), 0);
        }
        drop(program);
        let fd = client.socket.as_raw_fd();
        client.ring.has_peer_left(fd).unwrap_err();
        assert_eq!(client.read(200), [7; 100]);
        assert_eq!(client.read(200), []);
        let refused = client.ring.write(fd, &[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
    }
}

/// Both streams are numbers that count up, whichever way they go, while the connection moves
/// and comes back again and again, and the program runs in a thread of its own.
#[test]
fn nothing_is_lost_doubled_or_out_of_order_whenever_the_client_leaves() {
    const ROUNDS: usize = if cfg!(debug_assertions) { 300 } else { 2000 };
    let _watchdog = Watchdog::start();
    let mut random = Random::seeded(3);
    for round in 0..ROUNDS {
        let (program, client) = connection(4096);
        client.socket.set_nonblocking(true).unwrap();
        let total = 1000 + random.below(9000);
        let leave_at = random.below(total);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // A server that returns what it is sent.
            scope.spawn(|| echo(&program, &is_over));
            let (mut sent, mut received) = (0, 0);
            let (mut has_left, mut is_back) = (false, false);
            while received < total {
                if has_left && !is_back {
                    is_back = client.is_back();
                    continue;
                }
                let next = &numbers(sent, (sent + 1 + random.below(700)).min(total));
                let fd = client.socket.as_raw_fd();
                let mut answer = [0; 600];
                let (written, read) = if is_back {
                    ((&client.socket).write(next), (&client.socket).read(&mut answer))
                } else {
                    let next = IoSlice::new(next);
                    client.ring.listen(fd);
                    (client.ring.write(fd, &[next]), client.ring.read(fd, &mut answer))
                };
                sent += written.unwrap_or(0);
                let count = read.unwrap_or(0);
                assert_eq!(answer[..count], numbers(received, received + count), "round {round}");
                received += count;
                if sent >= leave_at && !has_left {
                    client.leave();
                    has_left = true;
                }
            }
            is_over.store(true, Relaxed);
        });
    }
}

/// Another thread than the one that sees it off writes all the time.
#[test]
fn what_other_threads_write_meanwhile_is_neither_lost_nor_out_of_order() {
    const ROUNDS: usize = if cfg!(debug_assertions) { 100 } else { 1000 };
    const TOTAL: usize = 20_000;
    let _watchdog = Watchdog::start();
    let mut random = Random::seeded(5);
    for round in 0..ROUNDS {
        let (program, client) = connection(1 << 16);
        let leave_at = random.below(TOTAL / 2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..TOTAL {
                    while program.write(&numbers(number, number + 1)) == Err(AGAIN) {
                        std::thread::yield_now();
                    }
                }
            });
            scope.spawn(|| {
                while vfd::is_virtual(program.fd()) {
                    assert_eq!(program.wait(1), []);
                }
            });
            let mut received = Vec::new();
            while received.len() < leave_at {
                let mut answer = [0; 100];
                client.ring.listen(client.socket.as_raw_fd());
                let count = client.ring.read(client.socket.as_raw_fd(), &mut answer).unwrap_or(0);
                received.extend_from_slice(&answer[..count]);
            }
            client.leave();
            while !client.is_back() {
                std::hint::spin_loop();
            }
            let there = received.len();
            received.resize(TOTAL, 0);
            (&client.socket).read_exact(&mut received[there..]).unwrap();
            assert!(received == numbers(0, TOTAL), "round {round}");
        });
    }
}

#[test]
fn it_can_be_registered_at_any_moment_of_it() {
    const ROUNDS: usize = if cfg!(debug_assertions) { 100 } else { 500 };
    let _watchdog = Watchdog::start();
    for _ in 0..ROUNDS {
        let (program, client) = connection(4096);
        let is_registering = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while vfd::is_virtual(program.fd()) {
                    program.watch(libc::EPOLL_CTL_MOD, IN);
                    is_registering.store(true, Relaxed);
                }
            });
            while !is_registering.load(Relaxed) {
                std::hint::spin_loop();
            }
            client.leave();
            until_back(&program, &client);
        });
        (&client.socket).write_all(b"x").unwrap();
        assert_eq!(program.wait(-1), [IN]);
    }
}

/// A thread that sleeps in a read, as another one sees the connection off, finds requests on the
/// socket which are no doorbells.
#[test]
fn a_thread_that_sleeps_in_a_read_takes_what_follows_for_what_it_is() {
    const ROUNDS: usize = if cfg!(debug_assertions) { 2000 } else { 10_000 };
    let _watchdog = Watchdog::start();
    for round in 0..ROUNDS {
        let (program, client) = connection(4096);
        program.socket.set_nonblocking(false).unwrap();
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| program.read_some(8));
            scope.spawn(|| {
                while vfd::is_virtual(program.fd()) {
                    program.wait(1);
                }
            });
            client.leave();
            while !client.is_back() {
                std::hint::spin_loop();
            }
            (&client.socket).write_all(b"request").unwrap();
            assert_eq!(reading.join().unwrap(), b"request", "round {round}");
        });
    }
}

fn numbers(from: usize, to: usize) -> Vec<u8> {
    (from..to).map(|number| u8::try_from(number % 251).unwrap()).collect()
}

/// Writes back what it reads, as an event loop does.
fn echo(program: &Program, is_over: &AtomicBool) {
    let mut pending = Vec::new();
    while !is_over.load(Relaxed) {
        for events in program.wait(1) {
            if events & IN != 0 && pending.len() < 3000 {
                let mut request = [0; 1000];
                match program.read(&mut request) {
                    Ok(count) => pending.extend_from_slice(&request[..count]),
                    error => assert_eq!(error, Err(AGAIN)),
                }
            }
        }
        if !pending.is_empty() {
            match program.write(&pending) {
                Ok(count) => drop(pending.drain(..count)),
                Err(error) => assert_eq!(error, AGAIN),
            }
        }
        program.watch(libc::EPOLL_CTL_MOD, if pending.is_empty() { IN } else { IN | OUT });
    }
}
