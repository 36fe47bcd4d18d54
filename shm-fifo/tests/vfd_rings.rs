//! Doorbells of a program that collects its replies: at its next wait.
#![cfg(feature = "virtual-fd")]
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::vfd::{self, WaitSettings};
use shm_fifo::{Channel, Region, SpinPolicy, WaitMode};
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Barrier;
use std::thread;
use support::Watchdog;

const RING_BYTES: usize = 4096;

/// A program's epoll instance, with one connection that has moved and spoken.
struct Program {
    epoll: OwnedFd,
    socket: UnixStream,
}

impl Program {
    /// The program, which has just read `ping`, and the client, which sleeps for
    /// its reply or is about to.
    fn with_sleeping_client() -> (Self, Sleeper) {
        vfd::prepare().unwrap();
        vfd::configure(WaitSettings {
            mode: WaitMode::Park,
            spin_us: 0,
            notify_at_next_wait: true,
        });
        // SAFETY: takes no pointer.
        let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
        let (socket, there) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let program = Self { epoll, socket };
        let input = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
        vfd::epoll_ctl(program.epfd(), libc::EPOLL_CTL_ADD, program.fd(), Some(input)).unwrap();
        let region = Region::create(RING_BYTES).unwrap();
        region.park_both_ends();
        let attached = Region::attach(region.fd().unwrap()).unwrap();
        vfd::start(program.fd(), region.into_endpoint(), 0, b"").unwrap();

        let mut channel = Channel::new(attached.into_endpoint(), there.into());
        channel.set_policy(SpinPolicy::new(WaitMode::Park, 0));
        channel.write_all(b"ping").unwrap();
        assert_eq!(program.wait(-1), 1);
        assert_eq!(vfd::read(program.fd(), &mut [0; 16]), Some(Ok(4)));
        (program, Sleeper(channel))
    }

    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn epfd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    fn wait(&self, timeout_ms: i32) -> usize {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
        vfd::epoll_wait(self.epfd(), &mut events, timeout_ms).expect("it has a ring").unwrap()
    }

    fn reply(&self) {
        assert_eq!(vfd::write(self.fd(), &[IoSlice::new(b"pong")]), Some(Ok(4)));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        vfd::before_close(self.fd());
        vfd::before_close(self.epfd());
    }
}

/// A client that only a doorbell wakes.
struct Sleeper(Channel);

impl Sleeper {
    fn reads_the_reply(mut self) {
        let mut reply = [0; 4];
        self.0.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"pong");
    }
}

/// Waits until `thread` of this process blocks in a receive from its socket.
fn wait_until_asleep(id: rustix::process::Pid) {
    let path = format!("/proc/self/task/{id}/syscall");
    let number = libc::SYS_recvfrom.to_string();
    while std::fs::read_to_string(&path).unwrap().split(' ').next() != Some(&number) {
        thread::yield_now();
    }
}

/// Runs `act` while the client sleeps; the client must wake with the reply.
fn wakes_the_client(client: Sleeper, act: impl FnOnce()) {
    let (tell, told) = std::sync::mpsc::channel();
    let sleeper = thread::spawn(move || {
        tell.send(rustix::thread::gettid()).unwrap();
        client.reads_the_reply();
    });
    wait_until_asleep(told.recv().unwrap());
    act();
    sleeper.join().unwrap();
}

#[test]
fn the_next_wait_rings_a_peer_that_sleeps_over_a_reply() {
    let _watchdog = Watchdog::start();
    let (program, client) = Program::with_sleeping_client();
    wakes_the_client(client, || {
        program.reply();
        program.wait(0);
    });
}

#[test]
fn a_thread_that_does_not_wait_rings_at_once() {
    let _watchdog = Watchdog::start();
    let (program, client) = Program::with_sleeping_client();
    wakes_the_client(client, || {
        thread::scope(|scope| scope.spawn(|| program.reply()).join()).unwrap();
    });
}

#[test]
fn a_connection_that_is_watched_no_more_rings_at_once() {
    let _watchdog = Watchdog::start();
    let (program, client) = Program::with_sleeping_client();
    wakes_the_client(client, || {
        program.reply();
        vfd::epoll_ctl(program.epfd(), libc::EPOLL_CTL_DEL, program.fd(), None).unwrap();
    });
}

#[test]
fn a_program_that_blocks_rings_before_it_does() {
    let _watchdog = Watchdog::start();
    let (program, client) = Program::with_sleeping_client();
    program.socket.set_nonblocking(false).unwrap();
    wakes_the_client(client, || {
        program.reply();
        // Until the client, having read the reply, ends.
        assert_eq!(vfd::read(program.fd(), &mut [0; 16]), Some(Ok(0)));
    });
}

#[test]
fn the_parts_of_what_the_ring_cannot_hold_ring_at_once() {
    let _watchdog = Watchdog::start();
    let (program, client) = Program::with_sleeping_client();
    wakes_the_client(client, || {
        let long = [b"pong", &[0; RING_BYTES][..]].concat();
        assert_eq!(vfd::write(program.fd(), &[IoSlice::new(&long)]), Some(Ok(RING_BYTES)));
    });
}

/// The program's threads take turns at waiting, as Valkey's io-threads do.
#[test]
fn where_two_threads_wait_in_turns_each_rings_at_once() {
    let _watchdog = Watchdog::start();
    let (program, client) = Program::with_sleeping_client();
    wakes_the_client(client, || {
        thread::scope(|scope| scope.spawn(|| program.wait(0)).join()).unwrap();
        program.wait(0);
        program.reply();
    });
}

#[test]
fn a_second_thread_that_comes_to_wait_rings_for_the_first_at_whatever_moment() {
    const ROUNDS: usize = 300;
    /// Longer than a connection stays hot: who falls silent is announced as parked.
    const SLEEP_MS: i32 = 4;
    let _watchdog = Watchdog::start();
    for _ in 0..ROUNDS {
        let (program, client) = Program::with_sleeping_client();
        wakes_the_client(client, || {
            let together = Barrier::new(2);
            thread::scope(|scope| {
                scope.spawn(|| {
                    together.wait();
                    program.wait(SLEEP_MS);
                });
                together.wait();
                program.reply();
            });
        });
    }
}
