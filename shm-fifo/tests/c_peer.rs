//! A peer in C, `examples/peer.c`, that knows no more than `docs/layout.md`.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::fd_passing::send_with_fd;
use shm_fifo::testing::pattern;
use shm_fifo::{Channel, Interest, Region, SpinPolicy, WaitMode};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use support::{Random, Watchdog};

const RING_BYTES: usize = 4096;
/// What it exits with.
const NO_REGION: i32 = 2;
const BROKEN: i32 = 3;

/// The program, compiled once for all tests.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/peer.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peer");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let compiled = Command::new(&compiler)
            .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&program, &source])
            .status();
        let status = compiled.unwrap_or_else(|error| {
            panic!("no C compiler {compiler} ({error}): install one, for example by `apt install build-essential`")
        });
        assert!(status.success(), "{} does not compile", source.display());
        program
    })
}

/// A process that runs it. Killed when dropped.
struct Peer(Child);

impl Peer {
    /// Starts one that gets `fd`, and our end of its socket.
    fn start(fd: &OwnedFd) -> (Self, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        send_with_fd(here.as_raw_fd(), &[0], fd.as_fd()).unwrap();
        let mut command = Command::new(program());
        command.stdin(OwnedFd::from(there)).stderr(Stdio::null());
        (Self(command.spawn().unwrap()), here)
    }

    fn exit_code(mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A channel to one, and the region's file.
fn connect() -> (Channel, Peer, File) {
    let region = Region::create(RING_BYTES).unwrap();
    let fd = region.fd().unwrap();
    let (peer, socket) = Peer::start(&fd);
    (Channel::new(region.into_endpoint(), socket.into()), peer, fd.into())
}

#[test]
fn proc_a_peer_in_c_echoes_messages_of_any_length() {
    let _watchdog = Watchdog::start();
    for mode in [WaitMode::Park, WaitMode::Adaptive] {
        let (mut channel, peer, _) = connect();
        channel.set_policy(SpinPolicy::new(mode, 50_000));
        let mut random = Random::seeded(3);
        let mut position = 0;
        for _ in 0..5000 {
            // Half of them fit inline.
            let longest = [48, RING_BYTES][random.below(2)];
            let message = pattern(position, 1 + random.below(longest));
            position += message.len() as u64;
            channel.write_all(&message).unwrap();
            let mut echo = vec![0; message.len()];
            channel.read_exact(&mut echo).unwrap();
            assert!(echo == message, "at position {position}");
        }
        drop(channel);
        assert_eq!(peer.exit_code(), Some(0));
    }
}

#[test]
fn proc_a_peer_in_c_sleeps_for_data_and_for_space_and_is_woken() {
    let _watchdog = Watchdog::start();
    const TOTAL: usize = 2 * 1024 * 1024;
    let (mut channel, peer, _) = connect();
    channel.set_policy(SpinPolicy::new(WaitMode::Park, 0));
    let message = pattern(0, TOTAL);
    let (mut sent, mut echo) = (0, Vec::new());
    let mut buffer = [0; 500];
    let would_block = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
    while echo.len() < TOTAL {
        // All that fits before anything is read: it finds both of its rings full.
        match channel.try_write(&message[sent..]) {
            Ok(count) => sent += count,
            Err(error) => assert!(would_block(&error), "{error}"),
        }
        match channel.try_read(&mut buffer) {
            Ok(count) => echo.extend_from_slice(&buffer[..count]),
            Err(error) => assert!(would_block(&error), "{error}"),
        }
        let interest = Interest { readable: true, writable: sent < TOTAL };
        if echo.len() < TOTAL {
            channel.wait(interest, None).unwrap();
        }
    }
    assert!(echo == message);
    drop(channel);
    assert_eq!(peer.exit_code(), Some(0));
}

#[test]
fn proc_a_peer_in_c_sends_back_the_last_bytes_before_the_end() {
    let _watchdog = Watchdog::start();
    let (mut channel, mut peer, _) = connect();
    channel.write_all(&pattern(0, 1000)).unwrap();
    let mut echo = [0; 1000];
    channel.read_exact(&mut echo).unwrap();
    assert_eq!(echo[..], pattern(0, 1000));
    peer.0.kill().unwrap();
    assert_eq!(channel.read(&mut echo).unwrap(), 0);
}

#[test]
fn proc_a_peer_in_c_refuses_what_is_no_region() {
    let _watchdog = Watchdog::start();
    let unsealed = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let other_version = Region::create(RING_BYTES).unwrap().fd().unwrap();
    File::from(other_version.try_clone().unwrap()).write_all_at(&[1], 8).unwrap();
    let other_size = Region::create(RING_BYTES).unwrap().fd().unwrap();
    File::from(other_size.try_clone().unwrap()).write_all_at(&[0, 32], 16).unwrap();
    for fd in [unsealed, other_version, other_size] {
        let (peer, _socket) = Peer::start(&fd);
        assert_eq!(peer.exit_code(), Some(NO_REGION));
    }
}

#[test]
fn hostile_positions_end_a_peer_in_c() {
    let _watchdog = Watchdog::start();
    // The tail of what it reads.
    let (channel, peer, file) = connect();
    file.write_all_at(&(RING_BYTES as u64 + 1).to_ne_bytes(), 1536 + 56).unwrap();
    rustix::net::send(socket_of(&channel), &[0], rustix::net::SendFlags::empty()).unwrap();
    assert_eq!(peer.exit_code(), Some(BROKEN));
    // The head of what it writes.
    let (mut channel, peer, file) = connect();
    file.write_all_at(&1_u64.to_ne_bytes(), 1024 + 128).unwrap();
    channel.write_all(b"x").unwrap();
    assert_eq!(peer.exit_code(), Some(BROKEN));
    // A byte that is no doorbell.
    let (channel, peer, _) = connect();
    rustix::net::send(socket_of(&channel), b"x", rustix::net::SendFlags::empty()).unwrap();
    assert_eq!(peer.exit_code(), Some(BROKEN));
}

/// A handle of the doorbell socket, with which the harness speaks in its name.
fn socket_of(channel: &Channel) -> OwnedFd {
    // SAFETY: the channel keeps it open.
    let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(channel.as_raw_fd()) };
    socket.try_clone_to_owned().unwrap()
}
