//! What programs do seldom, or at an awkward moment (`programs/corners.c`): first as it
//! is, for control, then on shared memory. And every way to wait, while the server is
//! killed.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use support::{Server, both_ways, program, tested_both_ways, watched};

tested_both_ways! {
    "corners";
    quiet_between_commands: 1,
    one_byte_at_a_time: 1,
    inline_commands: 1,
    outstanding_pipelines: 1,
    silenced_replies: 0,
    full_ring_and_poll: 2,
    full_ring_and_select: 2,
    full_ring_and_epoll_level: 2,
    full_ring_and_epoll_edge: 2,
    full_ring_and_epoll_one_shot: 2,
    restarted_calls: 2,
    numbers_are_used_again: 301,
    epoll_exclusive: 1,
    one_event_at_a_time: 1,
    duplicated_epoll: 2,
    // The one that came to be watched through two instances stays on its socket.
    nested_later: 1,
    files: 0,
    closed_behind_our_back: 1,
    closes_from: 1,
    children: 1,
    inherited_epoll: 1,
    selects_of_many: 1,
    odd_flags: 1,
}

/// Whether the server has answered in time decides how many move.
fn at_the_moment_of_the_move(name: &'static str) {
    let program = program("corners");
    watched(move || {
        let server = Server::start(&[]);
        let mut command = server.exec(16);
        command.arg(&program).arg(server.socket()).arg(name);
        assert_eq!(support::run(&mut command, ""), "passed\n");
        assert!(server.moved() > 0);
        server.wait_for("sessions", 0);
        assert_eq!(server.counter("protocol_errors"), 0);
    });
}

#[test]
fn pushes() {
    at_the_moment_of_the_move("pushes");
}

#[test]
fn last_words_before_close() {
    at_the_moment_of_the_move("last_words_before_close");
}

#[test]
fn last_words_before_shutdown() {
    at_the_moment_of_the_move("last_words_before_shutdown");
}

#[test]
fn a_refusal_is_not_seen() {
    let program = program("corners");
    watched(move || {
        let server = Server::start(&[]);
        assert_eq!(server.command(&["ACL", "SETUSER", "default", "-shm.open"]), "+OK");
        both_ways(&server, &program, "quiet_between_commands", 0);
    });
}

#[test]
fn what_one_server_refuses_another_is_asked_for() {
    let program = program("corners");
    watched(move || {
        let (refuses, server) = (Server::start(&[]), Server::start(&[]));
        assert_eq!(refuses.command(&["ACL", "SETUSER", "default", "-shm.open"]), "+OK");
        let mut command = refuses.exec(16);
        command.arg(support::redis_shm()).args(["exec", "--after", "16", "-s"]);
        command.arg(server.socket()).arg("--").arg(&program);
        command.arg(server.socket()).arg("after_another_server");
        command.env("ANOTHER_SERVER", refuses.socket());
        assert_eq!(support::run(&mut command, ""), "passed\n");
        assert_eq!((refuses.moved(), server.moved()), (0, 1));
    });
}

#[test]
fn without_the_module_nothing_is_seen_either() {
    let program = program("corners");
    watched(move || {
        let server = Server::start_plain();
        for name in ["quiet_between_commands", "pushes", "last_words_before_close"] {
            assert_eq!(server.command(&["FLUSHALL"]), "+OK");
            let mut command = server.exec(16);
            command.arg(&program).arg(server.socket()).arg(name);
            assert_eq!(support::run(&mut command, ""), "passed\n", "{name}");
        }
    });
}

/// Kills the server while the program waits, as `name` does, in the ways that are given.
fn killed(name: &'static str, stopped: bool) {
    let program = program("corners");
    watched(move || {
        for preloaded in [false, true] {
            let mut server = Server::start(&[]);
            let mut command = if preloaded { server.exec(16) } else { Command::new(&program) };
            if preloaded {
                command.arg(&program);
            }
            command.arg(server.socket()).arg(name).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert_eq!(lines.next().unwrap().unwrap(), "waiting");
            if preloaded {
                server.wait_for("total_sessions", 1);
            }
            if stopped {
                server.stop();
                child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            }
            support::wait_until_asleep(child.id());
            server.kill();
            // It waits for ever if it does not hear of it.
            assert_eq!(lines.next().unwrap().unwrap(), "passed", "preloaded: {preloaded}");
            assert!(child.wait().unwrap().success());
        }
    });
}

macro_rules! killed {
    ($($name:ident: $stopped:literal),+ $(,)?) => {$(
        #[test]
        fn $name() {
            killed(stringify!($name), $stopped);
        }
    )+};
}

killed! {
    killed_recv: false,
    killed_timeout: false,
    killed_poll: false,
    killed_poll_of_hang_ups: false,
    killed_select: false,
    killed_epoll_level: false,
    killed_epoll_edge: false,
    killed_epoll_one_shot: false,
    killed_epoll_of_nothing: false,
    killed_send: true,
    killed_full_ring: true,
}
