//! Ctrl-C, whatever `redis-shm` waits for. Needs redis-server and the module.
#![cfg(feature = "measure")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use support::cli::redis_shm;
use support::fake::{FakeServer, read_command};
use support::latency::{figure, interrupt};
use support::redis_server::RedisServer;
use support::watchdog::watched;
use tempfile::TempDir;

/// Until a program that waits for a reply gives up by itself it is a second longer.
const GIVES_UP: Duration = Duration::from_secs(9);
const WATCHDOG: Duration = Duration::from_secs(60);

fn wait_until<T>(what: &str, watchdog: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + watchdog;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        thread::sleep(Duration::from_millis(5));
    }
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Its exit code and what it printed, if it ends before it would by itself.
fn end_of(line: &str, mut child: Child) -> (Option<i32>, String, String) {
    let status = wait_until(&format!("the end of {line}"), GIVES_UP, || child.try_wait().unwrap());
    let stdout = child.stdout.take().map(|pipe| io::read_to_string(pipe).unwrap());
    let stderr = io::read_to_string(child.stderr.take().unwrap()).unwrap();
    (status.code(), stdout.unwrap_or_default(), stderr)
}

/// A server that answers `most` PINGs, and then tells `silent` and waits for the end.
fn answering(most: usize, silent: mpsc::Sender<()>) -> FakeServer {
    FakeServer::unix(move |mut peer| {
        for _ in 0..most {
            let _ = read_command(&mut peer).unwrap();
            peer.say(b"+PONG\r\n");
        }
        let _ = read_command(&mut peer).unwrap();
        silent.send(()).unwrap();
        while read_command(&mut peer).is_ok_and(|command| command.is_some()) {}
    })
}

#[test]
fn a_server_that_does_not_answer_holds_nobody() {
    watched(|| {
        let directory = TempDir::new().unwrap();
        for line in ["latency", "latency --compare", "stat", "doctor", "bench", "report"] {
            let (silent, is_silent) = mpsc::channel();
            let server = answering(0, silent);
            let mut command = redis_shm(&line.split(' ').collect::<Vec<_>>());
            let child = spawn(command.args(["-s", &server.place]).current_dir(directory.path()));
            is_silent.recv().unwrap();
            interrupt(&child);
            let (code, _, stderr) = end_of(line, child);
            assert_eq!((code, stderr.as_str()), (Some(130), "redis-shm: interrupted\n"), "{line}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "a report of nothing");
    });
}

#[test]
fn a_client_that_does_not_connect_holds_nobody() {
    watched(|| {
        let directory = TempDir::new().unwrap();
        let mut command = redis_shm(&["conformance", "--timeout", "600", "--", "sh", "-c"]);
        let child = spawn(command.arg("touch runs; exec sleep 600").current_dir(directory.path()));
        let runs = directory.path().join("runs");
        wait_until("the program's beginning", WATCHDOG, || runs.exists().then_some(()));
        interrupt(&child);
        let (code, stdout, stderr) = end_of("conformance", child);
        assert_eq!((code, stdout.as_str()), (Some(130), ""));
        assert_eq!(stderr, "redis-shm: interrupted\n");
    });
}

#[test]
fn what_was_measured_before_the_server_fell_silent_is_shown() {
    watched(|| {
        let (silent, is_silent) = mpsc::channel();
        // One to see that it answers.
        let server = answering(1 + 7, silent);
        let words = ["latency", "--transport", "unix", "--sample-rate", "1", "-s", &server.place];
        let child = spawn(&mut redis_shm(&words));
        is_silent.recv().unwrap();
        interrupt(&child);
        let (code, stdout, stderr) = end_of("latency", child);
        assert_eq!((code, stderr.as_str()), (Some(130), "redis-shm: interrupted\n"));
        assert!((figure(stdout.trim(), "samples") - 7.0).abs() < 1e-9, "{stdout}");
    });
}

#[test]
fn redis_whatever_it_does_its_server_ends_with_it_and_nothing_is_left() {
    // While it starts, and then at whatever it is waiting for.
    for commands in [0, 10_000, 20_000, 30_000, 40_000, 50_000] {
        interrupt_after(commands, "demo --requests 100000000 --output results", false);
    }
}

#[test]
fn redis_a_server_of_its_own_that_hangs_ends_with_it_and_nothing_is_left() {
    let lines = [
        "demo --requests 100000000 --output results",
        "bench -q -n 1000000 -t ping --rounds 1000",
        "bench -q --conditions two-cores,one-core --rounds 1000",
        "report -n 1000000 -o results",
    ];
    for line in lines {
        interrupt_after(20_000, line, true);
    }
}

/// Once its server has run so many commands, and then perhaps hangs.
fn interrupt_after(commands: u64, line: &str, hangs: bool) {
    let (temporary, directory) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut command = redis_shm(&line.split(' ').collect::<Vec<_>>());
    command.current_dir(directory.path()).env("TMPDIR", temporary.path());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let server_pid = wait_until(&format!("the measuring of {line}"), WATCHDOG, || {
        let directory = fs::read_dir(temporary.path()).unwrap().next()?.unwrap().path();
        server_pid(&directory.join("redis.sock"), commands)
    });
    if hangs {
        let stopped = Command::new("kill").args(["-STOP", &server_pid.to_string()]).status();
        assert!(stopped.unwrap().success());
    }
    interrupt(&child);
    let (code, _, stderr) = end_of(line, child);
    assert_eq!((code, stderr.as_str()), (Some(130), "redis-shm: interrupted\n"), "{line}");
    assert!(!process_lives(server_pid), "the server outlived {line}");
    let left = fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "{line} left something behind");
}

/// The server's process id, once it has run so many commands.
fn server_pid(socket: &Path, commands: u64) -> Option<u32> {
    let client = redis::Client::open(format!("unix://{}", socket.display())).unwrap();
    let info: redis::InfoDict =
        redis::cmd("INFO").arg("all").query(&mut client.get_connection().ok()?).ok()?;
    (info.get::<u64>("total_commands_processed")? >= commands).then(|| info.get("process_id"))?
}

fn process_lives(pid: u32) -> bool {
    // A process that ended and was not yet waited for is "Z".
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// `redis-shm stat` that cannot print, for nobody reads its pipe, which is full.
fn stuck(server: &RedisServer) -> (Child, impl Read) {
    let (unread, mut pipe) = io::pipe().unwrap();
    // As much as a pipe holds.
    pipe.write_all(&[b'\n'; 1 << 16]).unwrap();
    let mut command = redis_shm(&["stat", "-s", &server.path()]);
    let child = command.stdout(pipe).stderr(Stdio::piped()).spawn().unwrap();
    let mut own = 0;
    wait_until("the last question of stat", WATCHDOG, || {
        let text: String = redis::from_redis_value(server.ask("INFO commandstats")).unwrap();
        let calls = text.split_once("cmdstat_info:calls=").map_or("0", |(_, rest)| rest);
        let calls: u32 = calls.split(',').next().unwrap().parse().unwrap();
        // It asks three times before it prints.
        let has_asked = calls >= own + 3;
        own += 1;
        has_asked.then_some(())
    });
    (child, unread)
}

#[test]
fn redis_ctrl_c_ends_it_where_it_waits_for_no_server() {
    watched(|| {
        let server = RedisServer::with_module(&[]);
        let (child, _unread) = stuck(&server);
        interrupt(&child);
        let (code, _, stderr) = end_of("stat", child);
        assert_eq!((code, stderr.as_str()), (Some(130), "redis-shm: interrupted\n"));
    });
}

#[test]
fn redis_a_second_ctrl_c_ends_it_at_once() {
    watched(|| {
        let server = RedisServer::with_module(&[]);
        let (mut child, _unread) = stuck(&server);
        wait_until("the end of stat", GIVES_UP, || {
            interrupt(&child);
            child.try_wait().unwrap()
        });
        let (code, _, stderr) = end_of("stat", child);
        // With no word: that is the way of one that still tries to end in order.
        assert_eq!((code, stderr.as_str()), (Some(130), ""));
    });
}
