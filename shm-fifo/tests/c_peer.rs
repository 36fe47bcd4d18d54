//! `include/shm_fifo.h`, which knows no more than `docs/layout.md`, against this crate: each
//! test runs a process in C, `tests/c/peer.c`. `SHM_FIFO_CC` is the compiler and its options.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Signal, getpid, kill_process};
use shm_fifo::fd_passing::{recv_with_fd, send_with_fd};
use shm_fifo::testing::{is_pattern, pattern};
use shm_fifo::{
    Channel, Interest, Listener, Region, SpinPolicy, WaitMode, doorbell::EventDoorbells,
    fifo::FIFO_HEADER_BYTES,
};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use support::process::{OtherProcess, roles};
use support::{Random, Watchdog};

roles!(sender_that_is_killed, reader_that_is_killed);

const RING_BYTES: usize = 4096;
/// Where `docs/layout.md` has the headers of the two directions, and the positions in them.
const TO_CREATOR: u64 = 1024;
const TO_ATTACHER: u64 = 1536;
const TAIL: u64 = 56;
const HEAD: u64 = 128;

/// Nothing that a compiler could say of a header is said.
const WARNINGS: [&str; 7] =
    ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Werror"];

/// Compiles one of the programs in C.
fn compile(source: &str, options: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let name = source.file_stem().unwrap();
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let told = std::env::var("SHM_FIFO_CC").unwrap_or_else(|_| "cc -std=c11".to_owned());
    let mut words = told.split_whitespace();
    let compiler = words.next().expect("SHM_FIFO_CC names a compiler");
    let compiled = Command::new(compiler)
        .args(words)
        .args(["-O2", "-g", "-pthread"])
        .args(WARNINGS)
        .args(options)
        .args([Path::new("-o"), &program, &source])
        .status();
    let status = compiled.unwrap_or_else(|error| {
        panic!("no compiler {compiler} ({error}): install one, for example by `apt install build-essential clang`")
    });
    assert!(status.success(), "{} does not compile", source.display());
    program
}

/// `tests/c/peer.c`, compiled once for all tests.
fn peer() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile("tests/c/peer.c", &["-D_GNU_SOURCE"]))
}

/// What the process in C makes of the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Attach,
    Create,
}

const ROLES: [Role; 2] = [Role::Attach, Role::Create];

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Create => "create",
        }
    }

    /// The header of the direction that the process in C reads, and of the one that it writes.
    fn headers(self) -> [u64; 2] {
        match self {
            Self::Attach => [TO_ATTACHER, TO_CREATOR],
            Self::Create => [TO_CREATOR, TO_ATTACHER],
        }
    }
}

/// A process that runs it. Killed when dropped.
struct Peer(Child);

impl Peer {
    /// Starts one whose socket is `socket`.
    fn start(socket: UnixStream, arguments: &[&str]) -> Self {
        let mut command = Command::new(peer());
        command.args(arguments).stdin(OwnedFd::from(socket)).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Waits for its end, which was `error`.
    #[track_caller]
    fn assert_ends_with(mut self, error: Option<Errno>) {
        let expected = error.map_or(0, Errno::raw_os_error);
        assert_eq!(self.0.wait().unwrap().code(), Some(expected), "{error:?}");
    }

    /// Waits for the good end of one that takes the pattern. Returns how much of it came.
    fn taken_bytes(mut self) -> usize {
        let mut said = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        self.assert_ends_with(None);
        said.trim().parse().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// This side of a region that a process in C creates or attaches to, over `socket`.
fn region_with(role: Role, socket: &UnixStream) -> Region {
    match role {
        Role::Attach => {
            let region = Region::create(RING_BYTES).unwrap();
            send_with_fd(socket, b"region", region.fd().unwrap().as_fd()).unwrap();
            region
        }
        Role::Create => {
            let (_, fd) = recv_with_fd(socket, &mut [0; 16], 0).unwrap();
            Region::attach(fd.expect("a descriptor came")).unwrap()
        }
    }
}

/// A channel to a process in C that does `task`, and the region's file.
fn connect(role: Role, task: &str) -> (Channel, Peer, File) {
    let (here, there) = UnixStream::pair().unwrap();
    let peer = Peer::start(there, &[role.name(), "socket", task]);
    let region = region_with(role, &here);
    let file = File::from(region.fd().unwrap());
    (Channel::new(region.into_endpoint(), here.into()), peer, file)
}

/// Sends messages of many lengths, and gets each back.
fn exchange(channel: &mut Channel, messages: usize) {
    let mut random = Random::seeded(3);
    let mut position = 0;
    for _ in 0..messages {
        // Half of them fit inline.
        let longest = [48, RING_BYTES][random.below(2)];
        let message = pattern(position, 1 + random.below(longest));
        position += message.len() as u64;
        channel.write_all(&message).unwrap();
        let mut echo = vec![0; message.len()];
        channel.read_exact(&mut echo).unwrap();
        assert!(echo == message, "at position {position}");
    }
}

/// A handle of the doorbell socket, with which the harness speaks in its name.
fn socket_of(channel: &Channel) -> OwnedFd {
    // SAFETY: the channel keeps it open.
    let socket = unsafe { BorrowedFd::borrow_raw(channel.as_raw_fd()) };
    socket.try_clone_to_owned().unwrap()
}

fn ring(channel: &Channel, byte: u8) {
    rustix::net::send(socket_of(channel), &[byte], rustix::net::SendFlags::NOSIGNAL).unwrap();
}

#[test]
fn proc_messages_of_any_length_come_back() {
    let _watchdog = Watchdog::start();
    for role in ROLES {
        for mode in [WaitMode::Park, WaitMode::Adaptive] {
            let (mut channel, peer, _) = connect(role, "echo");
            channel.set_policy(SpinPolicy::new(mode, 50_000));
            exchange(&mut channel, 3000);
            drop(channel);
            peer.assert_ends_with(None);
        }
    }
}

#[test]
fn proc_either_language_opens_what_the_other_offers() {
    let _watchdog = Watchdog::start();
    for role in ROLES {
        let (here, there) = UnixStream::pair().unwrap();
        let peer = Peer::start(there, &[role.name(), "socket", "echo"]);
        let mut channel = match role {
            Role::Attach => Channel::offer(here, RING_BYTES).unwrap(),
            Role::Create => Channel::open(here).unwrap(),
        };
        exchange(&mut channel, 10);
        drop(channel);
        peer.assert_ends_with(None);
    }
}

#[test]
fn proc_doorbells_of_ones_own_serve_as_well() {
    let _watchdog = Watchdog::start();
    for role in ROLES {
        let (here, there) = UnixStream::pair().unwrap();
        let [own, theirs] = EventDoorbells::pair().unwrap();
        let inherited = [theirs.own, theirs.peer, theirs.life];
        let mut arguments = vec![role.name().to_owned(), "eventfds".to_owned(), "echo".to_owned()];
        for fd in &inherited {
            fcntl_setfd(fd, FdFlags::empty()).unwrap();
            arguments.push(fd.as_raw_fd().to_string());
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let peer = Peer::start(there, &arguments);
        drop(inherited);
        let mut channel = Channel::with_events(region_with(role, &here).into_endpoint(), own);
        exchange(&mut channel, 1000);
        drop(channel);
        peer.assert_ends_with(None);
    }
}

#[test]
fn proc_streams_arrive_whole_in_both_directions() {
    let _watchdog = Watchdog::start();
    const TOTAL: usize = 8 << 20;
    let mut buffer = vec![0; 3 * RING_BYTES];
    for role in ROLES {
        let (mut channel, peer, _) = connect(role, "take");
        channel.write_all(&pattern(0, TOTAL)).unwrap();
        drop(channel);
        assert_eq!(peer.taken_bytes(), TOTAL);

        let (mut channel, peer, _) = connect(role, "send");
        let mut random = Random::seeded(4);
        let mut position = 0;
        while position < TOTAL as u64 {
            let longest = [50, RING_BYTES, buffer.len()][random.below(3)];
            let room = 1 + random.below(longest);
            let count = channel.read(&mut buffer[..room]).unwrap();
            assert!(count > 0 && is_pattern(position, &buffer[..count]), "at {position}");
            position += count as u64;
        }
        drop(channel);
        peer.assert_ends_with(Some(Errno::PIPE));
    }
}

#[test]
fn proc_a_peer_sleeps_for_data_and_for_space_and_is_woken() {
    let _watchdog = Watchdog::start();
    const TOTAL: usize = 2 << 20;
    let (mut channel, peer, _) = connect(Role::Attach, "echo");
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
    peer.assert_ends_with(None);
}

#[test]
fn proc_what_a_killed_peer_in_c_wrote_is_read_to_its_end() {
    let _watchdog = Watchdog::start();
    for role in ROLES {
        let (mut channel, mut peer, _) = connect(role, "send");
        let mut received = vec![0; 100_000];
        channel.read_exact(&mut received).unwrap();
        peer.0.kill().unwrap();
        channel.read_to_end(&mut received).unwrap();
        assert!(is_pattern(0, &received));
    }
}

/// What the process writes that is killed then, and what the one reads that is.
const LAST_WORDS_BYTES: usize = 100_003;

/// Plays the side of a region that a process in C attaches to.
fn channel_over(socket: UnixStream) -> Channel {
    let region = region_with(Role::Attach, &socket);
    Channel::new(region.into_endpoint(), socket.into())
}

fn sender_that_is_killed(socket: UnixStream) {
    let mut channel = channel_over(socket);
    channel.write_all(&pattern(0, LAST_WORDS_BYTES)).unwrap();
    kill_process(getpid(), Signal::KILL).unwrap();
}

fn reader_that_is_killed(socket: UnixStream) {
    let mut channel = channel_over(socket);
    channel.read_exact(&mut vec![0; LAST_WORDS_BYTES]).unwrap();
    kill_process(getpid(), Signal::KILL).unwrap();
}

#[test]
fn proc_a_peer_that_is_killed_is_heard_of_in_c() {
    let _watchdog = Watchdog::start();
    let (one, other) = UnixStream::pair().unwrap();
    let _killed = OtherProcess::play("sender_that_is_killed", one);
    let taken = Peer::start(other, &["attach", "socket", "take"]).taken_bytes();
    assert_eq!(taken, LAST_WORDS_BYTES);

    let (one, other) = UnixStream::pair().unwrap();
    let _killed = OtherProcess::play("reader_that_is_killed", one);
    Peer::start(other, &["attach", "socket", "send"]).assert_ends_with(Some(Errno::PIPE));
}

#[test]
fn proc_what_is_no_region_is_refused() {
    let _watchdog = Watchdog::start();
    let changed = |offset, bytes: &[u8]| {
        let fd = Region::create(RING_BYTES).unwrap().fd().unwrap();
        File::from(fd.try_clone().unwrap()).write_all_at(bytes, offset).unwrap();
        fd
    };
    let sized = |bytes| {
        let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("test", flags).unwrap();
        rustix::fs::ftruncate(&fd, bytes).unwrap();
        rustix::fs::fcntl_add_seals(&fd, rustix::fs::SealFlags::SHRINK).unwrap();
        fd
    };
    let refusals = [
        (rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap(), Errno::PERM),
        (File::open("/dev/null").unwrap().into(), Errno::PERM),
        (sized(0), Errno::INVAL),
        (sized(4096 + 2 * 2048), Errno::INVAL),
        (sized(4096 + 2 * 4096 + 1), Errno::INVAL),
        (sized(4096 + 2 * 4096), Errno::INVAL),
        (changed(0, b"R"), Errno::INVAL),
        (changed(8, &[1]), Errno::PROTONOSUPPORT),
        (changed(16, &[0, 32]), Errno::PROTO),
        (changed(16, &[0, 0]), Errno::PROTO),
        (changed(23, &[0x80]), Errno::PROTO),
    ];
    for (fd, error) in refusals {
        let (here, there) = UnixStream::pair().unwrap();
        send_with_fd(&here, &[0], fd.as_fd()).unwrap();
        Peer::start(there, &["attach", "socket", "echo"]).assert_ends_with(Some(error));
    }
    // A message that brings no descriptor, and the end of the socket.
    let (mut here, there) = UnixStream::pair().unwrap();
    here.write_all(b"region").unwrap();
    Peer::start(there, &["attach", "socket", "echo"]).assert_ends_with(Some(Errno::PROTO));
    let (_, there) = UnixStream::pair().unwrap();
    Peer::start(there, &["attach", "socket", "echo"]).assert_ends_with(Some(Errno::PIPE));
}

#[test]
fn hostile_positions_and_doorbells_end_a_peer_in_c() {
    let _watchdog = Watchdog::start();
    for role in ROLES {
        let [reads, writes] = role.headers();
        // The tail of what it reads.
        for tail in [RING_BYTES as u64 + 1, u64::MAX] {
            let (channel, peer, file) = connect(role, "echo");
            file.write_all_at(&tail.to_ne_bytes(), reads + TAIL).unwrap();
            ring(&channel, 0);
            peer.assert_ends_with(Some(Errno::PROTO));
        }
        // The head of what it writes.
        let (mut channel, peer, file) = connect(role, "echo");
        file.write_all_at(&(RING_BYTES as u64 + 9).to_ne_bytes(), writes + HEAD).unwrap();
        channel.write_all(&[7; RING_BYTES]).unwrap();
        drop(channel.write_all(&[7; RING_BYTES]));
        peer.assert_ends_with(Some(Errno::PROTO));
        // A byte that is no doorbell. The peer says that it ends.
        let (mut channel, peer, _) = connect(role, "echo");
        ring(&channel, b'x');
        assert_eq!(channel.read(&mut [0]).unwrap(), 0);
        peer.assert_ends_with(Some(Errno::PROTO));
    }
}

#[test]
fn hostile_scribbles_over_the_region_never_crash_a_peer_in_c() {
    let _watchdog = Watchdog::start();
    let mut random = Random::seeded(0x5EED);
    for round in 0..60 {
        let task = ["echo", "send"][round / 2 % 2];
        let (mut channel, mut peer, file) = connect(ROLES[round % 2], task);
        for _ in 0..100 {
            let extremes = [0, 1, u64::MAX, 4096, 4097, random.next(), random.next() % 8192];
            let value = extremes[random.below(extremes.len())].to_ne_bytes();
            // The headers of both directions, one behind the other.
            let offset = TO_CREATOR + 8 * random.below(2 * FIFO_HEADER_BYTES / 8) as u64;
            file.write_all_at(&value, offset).unwrap();
            // This side suffers as well; what it says is of no interest here.
            let mut buffer = [0; 100];
            drop(channel.try_write(&buffer[..random.below(100)]));
            drop(channel.try_read(&mut buffer));
        }
        drop(channel);
        let code = peer.0.wait().unwrap().code();
        // By the end, by an error, or by a stream that is not what was written; not by a signal.
        let ends = [Errno::PROTO, Errno::PIPE].map(|error| Some(error.raw_os_error()));
        assert!(code == Some(0) || ends.contains(&code), "{code:?}");
    }
}

/// Runs a program in C of its own.
fn assert_runs(source: &str, options: &[&str]) -> String {
    let output = Command::new(compile(source, options)).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{source}: {}\n{said}{errors}", output.status);
    said
}

#[test]
fn two_threads_in_c_share_a_fifo() {
    let _watchdog = Watchdog::start();
    assert_runs("tests/c/threads.c", &[]);
}

#[test]
fn hostile_words_end_in_bytes_or_an_error_in_c() {
    let _watchdog = Watchdog::start();
    // A header for a kernel of any kind: no extension of the C library is asked for.
    assert_runs("tests/c/hostile.c", &[]);
}

#[test]
fn who_has_closed_in_c_has_ended_both_ways() {
    let _watchdog = Watchdog::start();
    assert_runs("tests/c/ended.c", &["-D_GNU_SOURCE"]);
}

#[test]
fn hostile_messages_leave_no_descriptor_in_c() {
    let _watchdog = Watchdog::start();
    assert_runs("tests/c/descriptors.c", &["-D_GNU_SOURCE"]);
}

#[test]
fn proc_the_example_in_c_does_what_it_says() {
    let _watchdog = Watchdog::start();
    let include = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include");
    let said = assert_runs("examples/two_process.c", &["-D_GNU_SOURCE", include]);
    assert!(said.ends_with(" says: HELLO THROUGH SHARED MEMORY\n"), "{said}");
}

#[test]
fn proc_a_client_in_c_calls_a_server_in_rust() {
    let _watchdog = Watchdog::start();
    let include = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include");
    let program = compile("examples/client.c", &["-D_GNU_SOURCE", include]);
    let path = std::env::temp_dir().join(format!("shm-fifo-client-c-{}", std::process::id()));
    let listener = Listener::bind(&path).unwrap();

    let mut client = Command::new(program);
    client.arg(&path).args(["hello", "", "again"]).stdout(Stdio::piped());
    let client = client.spawn().unwrap();
    let mut channel = listener.accept().unwrap();
    let mut request = Vec::new();
    while channel.recv_into(&mut request).unwrap().is_some() {
        channel.send(&request).unwrap();
    }
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "hello\n\nagain\n");
}
