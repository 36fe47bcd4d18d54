//! The examples do what they say.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use support::Watchdog;

/// The example that was built beside this test.
fn program(example: &str) -> PathBuf {
    let directory = std::env::current_exe().unwrap();
    directory.parent().unwrap().join("../examples").join(example)
}

/// Runs the example that was built beside this test.
fn run(example: &str, arguments: &[&str]) -> String {
    let program = program(example);
    let Output { status, stdout, stderr } =
        Command::new(&program).args(arguments).output().unwrap_or_else(|error| {
            panic!("{}: {error}; `cargo build --examples` makes it", program.display())
        });
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{example}: {status}\n{stdout}{stderr}");
    assert_eq!(stderr, "", "{example}");
    stdout
}

#[test]
fn proc_two_processes_talk() {
    let _watchdog = Watchdog::start();
    let said = run("two_process", &[]);
    assert!(said.ends_with(" says: HELLO THROUGH SHARED MEMORY\n"), "{said}");
}

#[test]
fn proc_a_child_that_inherited_its_descriptors_answers() {
    let _watchdog = Watchdog::start();
    let said = run("fork_exec", &[]);
    // 1 to 100,000, four bytes each.
    assert!(said.contains(" says: the sum is 5000050000\n"), "{said}");
    assert!(said.contains("bytes_sent: 400000,"), "{said}");
}

#[test]
fn proc_a_server_answers_requests() {
    let _watchdog = Watchdog::start();
    let said = run("request_response", &[]);
    assert_eq!(said, "a man -> nam a\na plan -> nalp a\na canal -> lanac a\n");
}

/// Killed when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn proc_a_server_without_descriptors_goes_on_once_clients_have_gone() {
    let _watchdog = Watchdog::start();
    let path = std::env::temp_dir().join(format!("few-descriptors-{}", std::process::id()));
    let mut server = Command::new("sh")
        .args(["-c", "ulimit -n 8 && exec \"$0\" serve \"$1\""])
        .args([program("request_response"), path.clone()])
        .stderr(Stdio::piped())
        .spawn()
        .map(Server)
        .unwrap();
    let mut said = BufReader::new(server.0.stderr.take().unwrap()).lines();
    let mut clients = Vec::new();
    // Until it listens, and then until it is out of descriptors, however many are queued.
    while clients.len() < 20 {
        clients.extend(UnixStream::connect(&path));
    }
    let first = said.next().unwrap().unwrap();
    assert!(first.starts_with("a client has to wait: "), "{first}");

    drop(clients);

    let said = run("request_response", &["call", path.to_str().unwrap(), "shout", "still here"]);
    assert_eq!(said, "still here -> STILL HERE\n");
    drop(server);
    for left in [path.with_extension("lock"), path] {
        drop(std::fs::remove_file(left));
    }
}

#[test]
fn proc_a_file_goes_to_a_child_by_copies_and_without() {
    let _watchdog = Watchdog::start();
    let directory = std::env::temp_dir().join(format!("pour-test-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let [from, to] = ["from", "to"].map(|name| directory.join(name));
    let bytes = shm_fifo::testing::pattern(0, 1_000_000);
    std::fs::write(&from, &bytes).unwrap();
    let said = run("pour", &[from.to_str().unwrap(), to.to_str().unwrap()]);
    let copy = std::fs::read(&to).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(copy == bytes);
    assert!(said.starts_with("copied: 1000000 bytes, "), "{said}");
    assert!(said.contains("\nspliced: 1000000 bytes, "), "{said}");
}

#[test]
fn round_trips_are_measured_for_each_way_to_wait() {
    let _watchdog = Watchdog::start();
    let said = run("ping_pong", &["40", "200", "0", "0"]);
    for way in ["unix socket", "park", "events", "adaptive", "spin"] {
        assert!(said.lines().any(|line| line.starts_with(way)), "{said}");
    }
}

#[test]
fn round_trips_of_tasks_are_measured_for_each_way_to_wait() {
    let _watchdog = Watchdog::start();
    let said = run("async_ping_pong", &["40", "200"]);
    for way in ["unix socket", "park", "adaptive", "spin", "turns of a neighbour"] {
        assert!(said.lines().any(|line| line.starts_with(way)), "{said}");
    }
}
