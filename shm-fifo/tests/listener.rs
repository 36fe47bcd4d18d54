//! Two processes meet at a path, whatever else comes there.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::Timespec;
use shm_fifo::fd_passing::send_with_fd;
use shm_fifo::{Channel, Interest, Listener, Region, connect, connect_timeout};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use support::process::{OtherProcess, roles};
use support::{Watchdog, open_fds};

roles! {
    connect_and_echo,
    connect_and_stay,
    connect_in_vain,
    fork_and_talk,
    hostile_clients_come,
    listen_and_die,
    open_and_echo,
}

/// What an offer begins with, from `docs/layout.md`.
const OFFER: &[u8] = b"SHMFIFO\x01";

/// A directory of this test's own, removed with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let name = thread::current().name().unwrap_or("main").replace(':', "_");
        let path = std::env::temp_dir().join(format!("{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Where a listener of this test is, also for another process.
    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }

    fn files(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn assert_kind<T: std::fmt::Debug>(result: std::io::Result<T>, kind: ErrorKind) {
    assert_eq!(result.unwrap_err().kind(), kind);
}

fn echo(mut channel: Channel) {
    let mut frame = Vec::new();
    while channel.recv_into(&mut frame).unwrap().is_some() {
        channel.send(&frame).unwrap();
    }
}

/// Sends a frame and asserts that it comes back.
fn assert_echoes(channel: &mut Channel) {
    let mut frame = Vec::new();
    channel.send(b"hello").unwrap();
    assert_eq!(channel.recv_into(&mut frame).unwrap(), Some(5));
    assert_eq!(frame, b"hello");
}

/// A process that plays `role`, which begins by receiving the directory's socket path.
fn play_at(role: &str, directory: &Directory) -> (OtherProcess, UnixStream) {
    let (mut here, there) = UnixStream::pair().unwrap();
    let process = OtherProcess::play(role, there);
    writeln!(here, "{}", directory.socket().display()).unwrap();
    (process, here)
}

fn told_path(told: &UnixStream) -> PathBuf {
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(told), &mut line).unwrap();
    PathBuf::from(line.trim_end())
}

fn connect_and_echo(told: UnixStream) {
    echo(connect(told_path(&told)).unwrap());
}

fn connect_and_stay(told: UnixStream) {
    let mut channel = connect(told_path(&told)).unwrap();
    channel.send(b"here").unwrap();
    channel.wait(Interest::READABLE, None).unwrap();
}

/// Leaves a socket and a lock file behind.
fn listen_and_die(told: UnixStream) {
    let listener = Listener::bind(told_path(&told)).unwrap();
    (&told).write_all(b"!").unwrap();
    drop(listener.accept());
}

#[test]
fn proc_two_processes_meet_and_know_each_other() {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    let listener = Listener::bind(directory.socket()).unwrap();
    let (client, _told) = play_at("connect_and_echo", &directory);
    let mut channel = listener.accept().unwrap();
    assert_echoes(&mut channel);
    let credentials = channel.peer_credentials().unwrap();
    assert_eq!(credentials.pid, Some(client.id()));
    assert_eq!(credentials.uid, rustix::process::geteuid().as_raw());
    assert_eq!(credentials.gid, rustix::process::getegid().as_raw());
    drop(channel);
    client.assert_success();
}

#[test]
fn several_clients_have_rings_of_their_own_in_the_size_that_was_set() {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    let mut listener = Listener::bind(directory.socket()).unwrap();
    listener.set_ring_bytes(8192);
    let path = directory.socket();
    let clients: Vec<_> = (0..8_u8)
        .map(|number| {
            let path = path.clone();
            thread::spawn(move || {
                let mut channel = connect(path).unwrap();
                let written = channel.try_write(&[number; 10_000]).unwrap();
                let mut frame = Vec::new();
                assert_eq!(channel.recv_into(&mut frame).unwrap(), Some(1));
                (written, frame[0] == number)
            })
        })
        .collect();
    let mut channels: Vec<_> = clients.iter().map(|_| listener.accept().unwrap()).collect();
    for channel in &mut channels {
        let mut first = [0];
        channel.read_exact(&mut first).unwrap();
        channel.send(&first).unwrap();
    }
    for client in clients {
        assert_eq!(client.join().unwrap(), (8192, true));
    }
    listener.set_ring_bytes(8191);
    let client = thread::spawn(move || connect(path).map(drop));
    assert_kind(listener.accept(), ErrorKind::InvalidInput);
    assert_kind(client.join().unwrap(), ErrorKind::UnexpectedEof);
}

#[test]
fn an_event_loop_watches_a_listener() {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    let listener = Listener::bind(directory.socket()).unwrap();
    assert_kind(listener.try_accept(), ErrorKind::WouldBlock);
    let mut entries = [PollFd::new(&listener, PollFlags::IN)];
    assert_eq!(poll(&mut entries, Some(&Timespec::default())), Ok(0));
    let client = thread::spawn({
        let path = directory.socket();
        move || connect(path).unwrap().send(b"hello").unwrap()
    });
    assert_eq!(poll(&mut entries, None), Ok(1));
    let mut channel = listener.try_accept().unwrap();
    assert_eq!(channel.recv_into(&mut Vec::new()).unwrap(), Some(5));
    client.join().unwrap();
}

// The path.

#[test]
fn a_path_where_nobody_can_listen_is_named() {
    let directory = Directory::new();
    let names = |path: PathBuf, kind| {
        let error = Listener::bind(&path).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    };
    names(directory.0.join("missing").join("socket"), ErrorKind::NotFound);
    names(directory.0.join("x".repeat(120)), ErrorKind::InvalidFilename);
    File::create(directory.socket()).unwrap();
    names(directory.socket(), ErrorKind::AlreadyExists);
    names(directory.socket().join("socket"), ErrorKind::NotADirectory);
}

#[test]
fn a_path_belongs_to_one_listener_and_goes_with_it() {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    assert_kind(connect(directory.socket()), ErrorKind::NotFound);
    let listener = Listener::bind(directory.socket()).unwrap();
    assert_eq!(directory.files(), ["socket", "socket.lock"]);
    assert_kind(Listener::bind(directory.socket()), ErrorKind::AddrInUse);
    assert_eq!(directory.files(), ["socket", "socket.lock"]);
    drop(listener);
    assert_eq!(directory.files(), [""; 0]);
    drop(Listener::bind(directory.socket()).unwrap());
}

#[test]
fn only_the_same_user_may_connect_unless_a_mode_says_otherwise() {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    for mode in [None, Some(0o660), Some(0o666)] {
        let listener = match mode {
            None => Listener::bind(directory.socket()),
            Some(mode) => Listener::bind_with_mode(directory.socket(), mode),
        };
        let permissions = fs::metadata(directory.socket()).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, mode.unwrap_or(0o600));
        drop(listener.unwrap());
    }
}

#[test]
fn proc_what_a_killed_server_left_is_replaced() {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    let (mut server, mut told) = play_at("listen_and_die", &directory);
    told.read_exact(&mut [0]).unwrap();
    assert_kind(Listener::bind(directory.socket()), ErrorKind::AddrInUse);
    server.kill();
    assert_eq!(directory.files(), ["socket", "socket.lock"]);
    assert_kind(connect(directory.socket()), ErrorKind::ConnectionRefused);
    let listener = Listener::bind(directory.socket()).unwrap();
    let (_client, _told) = play_at("connect_and_echo", &directory);
    assert_echoes(&mut listener.accept().unwrap());
}

#[test]
fn nothing_is_replaced_but_a_socket_on_which_nobody_listens() {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    let path = directory.socket();
    let target = directory.0.join("target");
    File::create(&target).unwrap();
    let remains = |kind| {
        assert_kind(Listener::bind(&path), kind);
        assert!(fs::symlink_metadata(&path).is_ok());
    };
    // Somebody who knows nothing of the lock.
    let other = UnixListener::bind(&path).unwrap();
    remains(ErrorKind::AddrInUse);
    // What was asked leaves no client behind that would hang anybody.
    other.set_nonblocking(true).unwrap();
    drop(other);
    drop(Listener::bind(&path).unwrap());

    let datagrams = UnixDatagram::bind(&path).unwrap();
    remains(ErrorKind::AddrInUse);
    drop(datagrams);
    fs::remove_file(&path).unwrap();
    File::create(&path).unwrap();
    remains(ErrorKind::AlreadyExists);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    remains(ErrorKind::AlreadyExists);
    fs::remove_dir(&path).unwrap();
    symlink(&target, &path).unwrap();
    remains(ErrorKind::AlreadyExists);
    assert_eq!(directory.files(), ["socket", "target"]);
}

#[test]
fn what_lies_in_the_lock_s_place_is_no_reason_to_wait() {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    let lock = directory.0.join("socket.lock");
    rustix::fs::mknodat(CWD, &lock, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    Listener::bind(directory.socket()).unwrap_err();
    fs::remove_file(&lock).unwrap();
    symlink(directory.0.join("target"), &lock).unwrap();
    Listener::bind(directory.socket()).unwrap_err();
    assert_eq!(directory.files(), ["socket.lock"]);
}

/// Somebody who listens at the directory's path, and a client who waits: there is room for no
/// other.
fn full_queue(directory: &Directory) -> (OwnedFd, UnixStream) {
    let busy = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let address = rustix::net::SocketAddrUnix::new(directory.socket()).unwrap();
    rustix::net::bind(&busy, &address).unwrap();
    rustix::net::listen(&busy, 0).unwrap();
    (busy, UnixStream::connect(directory.socket()).unwrap())
}

#[test]
fn a_full_queue_is_somebody_who_listens_and_times_out() {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    let _busy = full_queue(&directory);
    assert_kind(Listener::bind(directory.socket()), ErrorKind::AddrInUse);
    let soon = Duration::from_millis(1);
    assert_kind(connect_timeout(directory.socket(), soon), ErrorKind::TimedOut);
}

fn connect_in_vain(mut told: UnixStream) {
    let soon = Duration::from_millis(50);
    assert_kind(connect_timeout(told_path(&told), soon), ErrorKind::TimedOut);
    told.write_all(b"!").unwrap();
}

#[test]
fn proc_signals_do_not_begin_the_time_anew() {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    let _busy = full_queue(&directory);
    let (client, mut told) = play_at("connect_in_vain", &directory);
    let pid = Pid::from_raw(client.id().try_into().unwrap()).unwrap();
    told.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    // What is stopped in a call with a timeout is interrupted (signal(7)).
    while told.read(&mut [0]).is_err() {
        kill_process(pid, Signal::STOP).unwrap();
        kill_process(pid, Signal::CONT).unwrap();
    }
    client.assert_success();
}

#[test]
fn what_replaced_a_listener_stays_when_that_is_dropped() {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    let listener = Listener::bind(directory.socket()).unwrap();
    fs::remove_file(directory.socket()).unwrap();
    let _other = UnixListener::bind(directory.socket()).unwrap();
    drop(listener);
    assert_eq!(directory.files(), ["socket"]);
}

#[test]
fn a_socket_of_somebody_else_is_listened_on_and_left() {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    let bound = UnixListener::bind(directory.socket()).unwrap();
    let listener = Listener::from_socket(bound).unwrap();
    let path = directory.socket();
    let client = thread::spawn(move || connect(path).unwrap().send(b"hello").unwrap());
    assert_eq!(listener.accept().unwrap().recv_into(&mut Vec::new()).unwrap(), Some(5));
    client.join().unwrap();
    drop(listener);
    assert_eq!(directory.files(), ["socket"]);
}

// Clients that are no good.

#[test]
fn proc_hostile_clients_do_not_keep_the_listener_from_others() {
    let _watchdog = Watchdog::start();
    OtherProcess::assert_plays("hostile_clients_come");
}

/// In a process whose descriptors can be counted.
fn hostile_clients_come(_: UnixStream) {
    let directory = Directory::new();
    let listener = Listener::bind(directory.socket()).unwrap();
    let before = open_fds();
    // Silent, talkative, passing descriptors, and gone: none is waited for.
    let silent = UnixStream::connect(directory.socket()).unwrap();
    let mut talkative = UnixStream::connect(directory.socket()).unwrap();
    talkative.write_all(&[0xFF; 10_000]).unwrap();
    let passing = UnixStream::connect(directory.socket()).unwrap();
    send_with_fd(&passing, OFFER, Region::create(4096).unwrap().as_fd()).unwrap();
    for _ in 0..40 {
        drop(UnixStream::connect(directory.socket()).unwrap());
    }
    let good = thread::spawn({
        let path = directory.socket();
        move || echo(connect(path).unwrap())
    });
    let mut accepted: Vec<_> = (0..4).map(|_| listener.accept().unwrap()).collect();
    assert_echoes(&mut accepted[3]);
    for channel in &mut accepted[1..3] {
        channel.wait(Interest::READABLE, None).unwrap_err();
        assert_kind(channel.send(b"x"), ErrorKind::InvalidData);
    }
    drop((silent, talkative, passing, accepted));
    good.join().unwrap();
    assert_eq!(open_fds(), before);
}

#[test]
fn proc_a_client_that_is_killed_ends_its_own_channel() {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    let listener = Listener::bind(directory.socket()).unwrap();
    for _ in 0..5 {
        let (mut client, _told) = play_at("connect_and_stay", &directory);
        let mut channel = listener.accept().unwrap();
        let mut frame = Vec::new();
        assert_eq!(channel.recv_into(&mut frame).unwrap(), Some(4));
        client.begin_to_kill();
        assert_eq!(channel.recv_into(&mut frame).unwrap(), None);
        assert_kind(channel.send(b"x"), ErrorKind::BrokenPipe);
    }
}

// Servers that are no good.

/// What a client says of a server that does this with it.
fn connecting_to(serve: impl FnOnce(UnixStream) + Send + 'static) -> ErrorKind {
    let _watchdog = Watchdog::start();
    let directory = Directory::new();
    let socket = UnixListener::bind(directory.socket()).unwrap();
    let serving = thread::spawn(move || serve(socket.accept().unwrap().0));
    let kind = connect_timeout(directory.socket(), Duration::from_secs(1)).unwrap_err().kind();
    serving.join().unwrap();
    kind
}

#[test]
fn hostile_servers_are_refused() {
    fn offer(socket: &UnixStream, bytes: &[u8], fd: impl AsFd) {
        send_with_fd(socket, bytes, fd.as_fd()).unwrap();
    }
    fn memfd(bytes: u64) -> File {
        let flags = rustix::fs::MemfdFlags::ALLOW_SEALING | rustix::fs::MemfdFlags::CLOEXEC;
        let file = File::from(rustix::fs::memfd_create("region", flags).unwrap());
        file.set_len(bytes).unwrap();
        file
    }
    let region = || Region::create(4096).unwrap();
    assert_eq!(connecting_to(drop), ErrorKind::UnexpectedEof);
    assert_eq!(
        connecting_to(|mut socket| socket.write_all(b"-ERR unknown command\r\n").unwrap()),
        ErrorKind::InvalidData
    );
    assert_eq!(
        connecting_to(|mut socket| socket.write_all(OFFER).unwrap()),
        ErrorKind::InvalidData
    );
    assert_eq!(
        connecting_to(move |socket| offer(&socket, b"SHMFIFO\x02", region())),
        ErrorKind::InvalidData
    );
    assert_eq!(
        connecting_to(move |socket| offer(&socket, &OFFER[..7], region())),
        ErrorKind::InvalidData
    );
    // Not sealed, no region inside, of no region's size, no memory at all.
    for file in [memfd(12_288), memfd(0), File::open("/dev/zero").unwrap()] {
        assert_eq!(
            connecting_to(move |socket| offer(&socket, OFFER, file)),
            ErrorKind::InvalidData
        );
    }
    let sealed = memfd(12_288);
    rustix::fs::fcntl_add_seals(&sealed, rustix::fs::SealFlags::SHRINK).unwrap();
    assert_eq!(connecting_to(move |socket| offer(&socket, OFFER, sealed)), ErrorKind::InvalidData);
}

#[test]
fn a_silent_server_is_waited_for_no_longer_than_was_said() {
    let _watchdog = Watchdog::start();
    let (silence, end) = std::sync::mpsc::channel::<()>();
    let directory = Directory::new();
    let socket = UnixListener::bind(directory.socket()).unwrap();
    let silent = thread::spawn(move || {
        let _client = socket.accept().unwrap();
        end.recv().unwrap_err();
    });
    let soon = Duration::from_millis(1);
    assert_kind(connect_timeout(directory.socket(), soon), ErrorKind::TimedOut);
    drop(silence);
    silent.join().unwrap();
}

// Parent and child.

fn open_and_echo(socket: UnixStream) {
    echo(Channel::open(socket).unwrap());
}

fn fork_and_talk(_: UnixStream) {
    let directory = Directory::new();
    let listener = Listener::bind(directory.socket()).unwrap();
    let (mut channel, childs) = Channel::for_child(4096).unwrap();
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // Neither is this process's own.
        drop((channel, listener));
        echo(Channel::open(childs).unwrap());
        std::process::exit(0);
    }
    drop(childs);
    assert_echoes(&mut channel);
    drop(channel);
    let mut status = 0;
    // SAFETY: writes one integer.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(directory.files(), ["socket", "socket.lock"], "they are still listened on");
    drop(listener);
    assert_eq!(directory.files(), [""; 0]);
}

#[test]
fn proc_a_child_opens_what_it_was_given() {
    let _watchdog = Watchdog::start();
    let (mut channel, childs) = Channel::for_child(4096).unwrap();
    // It may be written to before anybody opens it.
    channel.send(b"early").unwrap();
    let child = OtherProcess::play("open_and_echo", UnixStream::from(childs));
    let mut frame = Vec::new();
    assert_eq!(channel.recv_into(&mut frame).unwrap(), Some(5));
    assert_echoes(&mut channel);
    drop(channel);
    child.assert_success();
}

#[test]
fn proc_a_forked_child_opens_its_end_and_leaves_the_listener() {
    let _watchdog = Watchdog::start();
    OtherProcess::assert_plays("fork_and_talk");
}

#[test]
fn a_child_that_never_opens_is_heard_of_when_it_is_gone() {
    let _watchdog = Watchdog::start();
    let (mut channel, childs) = Channel::for_child(4096).unwrap();
    channel.set_timeout(Some(Duration::from_millis(1)));
    assert_kind(channel.recv_into(&mut Vec::new()), ErrorKind::TimedOut);
    drop::<OwnedFd>(childs);
    assert_eq!(channel.recv_into(&mut Vec::new()).unwrap(), None);
}
