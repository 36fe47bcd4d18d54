//! Processes that end in the middle of things: killed, or forked.
//!
//! Kills are counted in hundreds, so each series runs in a process of its own,
//! which then counts what it was left with.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::fd_passing::{recv_with_fd, send_with_fd};
use shm_fifo::testing::{is_pattern, pattern};
use shm_fifo::{Channel, Interest, Region, duplex::Duplex};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use support::process::{OtherProcess, roles};
use support::{Random, Watchdog, mappings_of, open_fds};

roles! {
    echo_for_ever,
    forked_children_come_and_go,
    hundreds_of_echoers_are_killed,
    hundreds_of_writers_are_killed,
    write_for_ever,
    write_fork_and_wait,
}

const RING_BYTES: usize = 4096;
/// Places of shared words in the file, from `docs/layout.md`: what the attacher
/// has published to the creator, and what it has taken of the creator's bytes.
const ATTACHERS_TAIL: u64 = 1024 + 56;
const ATTACHERS_HEAD: u64 = 1536 + 128;

/// One side of a connection to a process that will be killed.
struct Victim {
    channel: Channel,
    process: OtherProcess,
    /// The region, to look at what the victim has left in it.
    file: File,
    received: u64,
    sent: u64,
}

impl Victim {
    fn playing(role: &str) -> Self {
        let region = Region::create(RING_BYTES).unwrap();
        let file = File::from(region.fd().unwrap());
        let (here, there) = UnixStream::pair().unwrap();
        send_with_fd(&here, &[0], file.as_fd()).unwrap();
        let process = OtherProcess::play(role, there);
        let channel = Channel::new(region.into_endpoint(), here.into());
        Self { channel, process, file, received: 0, sent: 0 }
    }

    /// Reads what there is and asserts that it is what comes next.
    fn read(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 3000];
        let count = self.channel.read(&mut buffer)?;
        assert!(is_pattern(self.received, &buffer[..count]), "at {}", self.received);
        self.received += count as u64;
        Ok(count)
    }

    /// Kills it and reads what is left. Everything that it published must come,
    /// and nothing else.
    fn kill_and_drain(&mut self) {
        self.process.begin_to_kill();
        while self.read().unwrap() > 0 {}
        self.process.kill();
        assert_eq!(self.received, self.word(ATTACHERS_TAIL), "up to the last published byte");
        assert!(self.word(ATTACHERS_HEAD) <= self.sent);
        assert_eq!(self.channel.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    fn word(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, offset).unwrap();
        u64::from_ne_bytes(bytes)
    }
}

/// The victim's end.
fn channel_over(socket: UnixStream) -> Channel {
    let (_, fd) = recv_with_fd(&socket, &mut [0], 0).unwrap();
    let region = Region::attach(fd.expect("the region came")).unwrap();
    Channel::new(region.into_endpoint(), socket.into())
}

fn spin_for(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Runs `kill` so often, and asserts that nothing is left of it in this process.
fn assert_leaves_nothing(kills: usize, mut kill: impl FnMut(&mut Random)) {
    let mut random = Random::seeded(9);
    // The first few make what the process keeps, such as its heap.
    (0..10).for_each(|_| kill(&mut random));
    // A sanitizer's heap goes on mapping memory as it likes.
    let watched = if cfg!(portable_copies) { "memfd" } else { "" };
    let before = (open_fds(), mappings_of(watched));
    (0..kills).for_each(|_| kill(&mut random));
    assert_eq!((open_fds(), mappings_of(watched)), before, "descriptors and mappings");
    assert_eq!(mappings_of("memfd"), 0);
}

fn write_for_ever(socket: UnixStream) {
    let mut channel = channel_over(socket);
    let mut random = Random::seeded(std::process::id().into());
    let mut sent = 0;
    loop {
        // Half of the messages fit inline.
        let longest = [48, 6000][random.below(2)];
        let message = pattern(sent, 1 + random.below(longest));
        let (header, body) = message.split_at(message.len() / 3);
        let sources = [IoSlice::new(header), IoSlice::new(body)];
        let written = match random.below(2) {
            0 => channel.write(&message),
            _ => channel.write_vectored(&sources),
        };
        sent += written.unwrap() as u64;
    }
}

fn hundreds_of_writers_are_killed(_: UnixStream) {
    assert_leaves_nothing(800, |random| {
        let mut victim = Victim::playing("write_for_ever");
        match random.below(4) {
            // Wherever it is: before it has attached, likely.
            0 => spin_for(Duration::from_micros(random.next() % 3000)),
            // While it sleeps or is about to, the ring being full.
            1 => {
                victim.channel.wait(Interest::READABLE, None).unwrap();
                spin_for(Duration::from_micros(random.next() % 200));
            }
            // While it writes and is read.
            _ => {
                let enough = random.next() % 100_000;
                while victim.received < enough {
                    victim.read().unwrap();
                }
            }
        }
        victim.kill_and_drain();
    });
}

#[test]
fn proc_what_killed_writers_published_is_read_to_the_last_byte() {
    let _watchdog = Watchdog::start();
    OtherProcess::assert_plays("hundreds_of_writers_are_killed");
}

fn echo_for_ever(socket: UnixStream) {
    let mut channel = channel_over(socket);
    let mut buffer = [0; 1000];
    loop {
        let count = channel.read(&mut buffer).unwrap();
        channel.write_all(&buffer[..count]).unwrap();
    }
}

fn hundreds_of_echoers_are_killed(_: UnixStream) {
    assert_leaves_nothing(400, |random| {
        let mut victim = Victim::playing("echo_for_ever");
        let enough = random.next() % 50_000;
        while victim.received < enough {
            let message = pattern(victim.sent, 1 + random.below(2000));
            match victim.channel.try_write(&message) {
                Ok(count) => victim.sent += count as u64,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            victim.read().unwrap();
        }
        victim.kill_and_drain();
    });
}

#[test]
fn proc_what_killed_echoers_sent_back_is_read_to_the_last_byte() {
    let _watchdog = Watchdog::start();
    OtherProcess::assert_plays("hundreds_of_echoers_are_killed");
}

/// Forks; `child` runs in the child, which ends well if it says so.
fn fork(child: impl FnOnce() -> bool) -> libc::pid_t {
    // SAFETY: roles have one thread, so the child is as whole as its parent.
    let forked = unsafe { libc::fork() };
    assert!(forked >= 0);
    if forked == 0 {
        let well = child();
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(i32::from(!well)) };
    }
    forked
}

/// Waits for a child's end and returns its status, as `waitpid` gives it.
fn status_of(child: libc::pid_t) -> libc::c_int {
    let mut status = -1;
    // SAFETY: our own child, and a live integer.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

fn end_of_a_socket() -> OwnedFd {
    UnixStream::pair().unwrap().0.into()
}

fn forked_children_come_and_go(_: UnixStream) {
    let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
    for round in 0..100 {
        let message = pattern(round, 100);
        here.write_all(&message).unwrap();
        let not_yet_used = Region::create(RING_BYTES).unwrap().into_endpoint();
        let duplex = Duplex::new(Region::create(RING_BYTES).unwrap().into_endpoint());

        let refused = fork(|| {
            let is_refused = |result: io::Result<usize>| matches!(result, Err(e) if e.kind() == ErrorKind::BrokenPipe);
            let all_refused = is_refused(here.try_write(b"x"))
                && is_refused(there.try_read(&mut [0; 10]))
                && is_refused(there.read(&mut [0; 10]))
                && here.is_ready(Interest::BOTH)
                && !there.listen()
                && is_refused(Channel::new(not_yet_used, end_of_a_socket()).try_read(&mut [0; 10]))
                && !duplex.is_at_end();
            // As if the child cleaned up.
            drop(std::mem::replace(&mut here, Channel::pair(RING_BYTES).unwrap().0));
            all_refused
        });
        assert_eq!(status_of(refused), 0);
        let killed = fork(|| {
            // SAFETY: ends this process.
            unsafe { libc::raise(libc::SIGKILL) };
            false
        });
        assert_eq!(status_of(killed), libc::SIGKILL);

        let mut received = [0; 100];
        there.read_exact(&mut received).unwrap();
        assert_eq!(received[..], message);
    }
}

#[test]
fn proc_a_forked_child_is_refused_and_harms_neither_end() {
    let _watchdog = Watchdog::start();
    OtherProcess::assert_plays("forked_children_come_and_go");
}

/// Leaves a child behind that holds the socket until the peer ends it.
fn write_fork_and_wait(socket: UnixStream) {
    let mut held = socket.try_clone().unwrap();
    let mut channel = channel_over(socket);
    fork(|| {
        drop(io::copy(&mut held, &mut io::sink()));
        true
    });
    channel.write_all(&pattern(0, 1000)).unwrap();
    drop(channel.read(&mut [0]));
}

#[test]
fn proc_a_killed_peer_whose_child_holds_the_socket_is_met_by_the_timeout() {
    let _watchdog = Watchdog::start();
    let mut victim = Victim::playing("write_fork_and_wait");
    while victim.received < 1000 {
        victim.read().unwrap();
    }

    victim.process.kill();
    victim.channel.set_timeout(Some(Duration::from_millis(20)));
    let read = victim.read();

    // The end of the socket would say more, but it has not ended.
    assert_eq!(read.unwrap_err().kind(), ErrorKind::TimedOut);
}
