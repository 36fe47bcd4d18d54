//! Client libraries of other languages, unmodified, on shared memory: `make clients`
//! installs them and runs this.
//!
//! Each program in `clients/` checks its replies, most also that it really moved.
//! `SHM_FIFO_CLIENTS` names the directory with what the packages of Python and Node
//! were installed into.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{Server, run, watched};

fn packages() -> PathBuf {
    let directory = env::var_os("SHM_FIFO_CLIENTS");
    directory.expect("SHM_FIFO_CLIENTS is set; make clients installs the clients").into()
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Runs a client's program, of which at least so many connections move.
fn client(interpreter: &str, name: &'static str, moves: u64) {
    let interpreter = interpreter.to_owned();
    watched(move || {
        let server = Server::start(&[]);
        let mut command = server.exec(16);
        command.arg(interpreter).arg(program(name)).arg(server.socket());
        command.env("NODE_PATH", packages().join("node_modules"));
        assert_eq!(run(&mut command, ""), "passed\n");
        assert!(server.moved() >= moves, "only {} have moved", server.moved());
        assert_eq!((server.counter("protocol_errors"), server.counter("missed_doorbells")), (0, 0));
    });
}

#[test]
#[ignore = "needs packages: make clients"]
fn redis_py() {
    let python = packages().join("python/bin/python3");
    client(python.to_str().unwrap(), "redis_py.py", 2);
}

#[test]
#[ignore = "needs packages: make clients"]
fn node_redis() {
    client("node", "node_redis.js", 1);
}

#[test]
#[ignore = "needs packages: make clients"]
fn ioredis() {
    client("node", "ioredis.js", 1);
}

#[test]
#[ignore = "needs packages: make clients"]
fn redis_rb_and_the_pipelining_example() {
    client("ruby", "pipelining.rb", 1);
}

#[test]
#[ignore = "needs packages: make clients"]
fn phpredis() {
    client("php", "phpredis.php", 1);
}

#[test]
#[ignore = "needs packages: make clients"]
fn java_by_unix_socket_and_tcp() {
    watched(|| {
        let server = Server::start(&[]);
        let mut unix = server.exec(16);
        unix.arg("java").arg(program("Talk.java")).arg("unix").arg(server.socket());
        assert_eq!(run(&mut unix, ""), "passed\n");
        assert_eq!(server.moved(), 2);
        let mut tcp = server.exec_tcp(16);
        tcp.arg("java").arg(program("Talk.java")).args(["tcp", &server.port.to_string()]);
        assert_eq!(run(&mut tcp, ""), "passed\n");
        assert_eq!(server.moved(), 5);
    });
}

/// The line of the page on pipelining, by both ways in which nc ends: it waits for the
/// server's end, or (`-N`) tells the server of its own.
#[test]
#[ignore = "needs packages: make clients"]
fn the_pipeline_that_is_typed_into_nc() {
    watched(|| {
        for option in [None, Some("-N")] {
            let mut server = Server::start(&[]);
            let mut command = Command::new("sh");
            let line = "(printf 'PING\\r\\nPING\\r\\nPING\\r\\n'; sleep 1) | \"$@\"";
            command.args(["-c", line, "sh"]).arg(support::redis_shm());
            command.args(["exec", "--after", "1", "-s"]).arg(server.socket());
            command.args(["--", "nc", "-U"]).args(option).arg(server.socket());
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            for _ in 0..3 {
                assert_eq!(lines.next().unwrap().unwrap(), "+PONG");
            }
            server.wait_for("total_sessions", 1);
            if option.is_none() {
                server.kill();
            }
            assert!(lines.next().is_none());
            assert!(child.wait().unwrap().success());
        }
    });
}
