//! Programs in other languages, unmodified, on their socket and on shared memory: one of
//! each kind of runtime. `make clients` installs what they need and runs this;
//! `clients_all.rs` has the others.
//!
//! What each of them does is in `clients/`: some hundred commands, a pipeline, values of
//! 3 MiB, subscriptions, blocking commands, `CLIENT KILL`, another server in the place of
//! the first, a file that is opened when a connection has been closed, children, SIGTERM.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "support/both_ways.rs"]
mod both_ways;
mod support;

use both_ways::{Program, packages, source};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use support::{Server, watched};

#[test]
#[ignore = "needs packages: make clients"]
fn redis_py() {
    Program::python("redis_py.py").word("blocking").compare();
}

#[test]
#[ignore = "needs packages: make clients"]
fn redis_py_on_uvloop() {
    Program::python("redis_py_asyncio.py").word("uvloop").compare();
}

#[test]
#[ignore = "needs packages: make clients"]
fn node_redis_on_node_22() {
    Program::node(22).word("redis").by_tcp().compare();
}

#[test]
#[ignore = "needs packages: make clients"]
fn ioredis_on_node_24() {
    Program::node(24).word("ioredis").compare();
}

#[test]
#[ignore = "needs packages: make clients"]
fn redis_rs_on_tokio() {
    // Beside the tests, where the same build of the same profile puts it.
    let deps = std::env::current_exe().unwrap();
    let program = deps.parent().unwrap().with_file_name("examples").join("redis_rs");
    assert!(program.is_file(), "there is no {}; make clients builds it", program.display());
    Program::new(program).compare();
}
