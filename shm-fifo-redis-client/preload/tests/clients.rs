//! Programs of other languages, unmodified, on their socket and on shared memory: one of
//! each kind of runtime. `make clients` installs what they need and runs this;
//! `clients_all.rs` has more of each kind.
//!
//! What they do is in `clients/`: some hundred commands, a pipeline, values of 3 MiB,
//! subscriptions, blocking commands, `CLIENT KILL`, another server in the place of the
//! first, a file that is opened when a connection has been closed, children, SIGTERM.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "support/both_ways.rs"]
mod both_ways;
mod support;

use both_ways::{Program, source};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use support::{Server, watched};

#[test]
#[ignore = "needs packages: make clients"]
fn redis_py_that_blocks_and_forks() {
    Program::python("redis_py.py").word("blocking").compare();
}

#[test]
#[ignore = "needs packages: make clients"]
fn redis_py_on_uvloop() {
    Program::python("redis_py_asyncio.py").word("uvloop").compare();
}

#[test]
#[ignore = "needs packages: make clients"]
fn node_redis_on_node_22_by_tcp() {
    Program::node("node22").word("redis").by_tcp().compare();
}

#[test]
#[ignore = "needs packages: make clients"]
fn ioredis_on_node_24() {
    Program::node("node24").word("ioredis").compare();
}

#[test]
#[ignore = "needs packages: make clients"]
fn redis_rs_on_tokio() {
    Program::redis_rs().compare();
}

#[test]
#[ignore = "needs packages: make clients"]
fn phpredis() {
    Program::new("php").word(source("phpredis.php")).compare();
}

#[test]
#[ignore = "needs packages: make clients"]
fn redis_rb_by_tcp() {
    Program::new("ruby").word(source("redis_rb.rb")).by_tcp().compare();
}

#[test]
#[ignore = "needs packages: make clients"]
fn java() {
    Program::new("java").word(source("Jdk.java")).compare();
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
