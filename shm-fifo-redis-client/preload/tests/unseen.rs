//! What an interposer overlooks easily (`programs/unseen.c`), and signal handlers beside it
//! (`programs/handlers.c`), and programs that have functions of the same names themselves
//! (`programs/own_names.c`): by unix socket and by TCP, first as it is, for control, then on
//! shared memory.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use support::{Kind, Libc, Server, both_ways_by, program, run, watched};

/// A test for each of a program's, by either kind of socket, and how many of its connections
/// move: for glibc and, in a module of that name, for musl.
macro_rules! tested_by_both_kinds {
    ($program:literal, $musl:ident; $($name:ident: $moves:literal),+ $(,)?) => {
        tested_by_both_kinds!(Glibc: $program; $($name: $moves),+);

        mod $musl {
            use super::*;

            tested_by_both_kinds!(Musl: $program; $($name: $moves),+);
        }
    };
    ($libc:ident: $program:literal; $($name:ident: $moves:literal),+ $(,)?) => {$(
        #[test]
        fn $name() {
            let program = Libc::$libc.program($program);
            watched(move || {
                for kind in [Kind::Unix, Kind::Tcp] {
                    let server = Server::start(&[]);
                    both_ways_by(kind, &server, &program, stringify!($name), $moves);
                }
            });
        }
    )+};
}

tested_by_both_kinds! {
    "unseen", musl;
    waited_for_by_a_duplicate: 6,
    another_thread_fills_the_ring: 2,
    added_before_it_connects: 1,
    changed_once_it_is_connected: 1,
    shared_exclusively: 1,
    deleted_and_added_around_each_event: 1,
    two_thousand_are_idle: 2000,
    // Nobody has seen how it waits: it stays on its socket.
    waited_for_unseen: 0,
    read_after_unseen_polls: 1,
    closed_unseen: 9,
    closed_unseen_and_watched: 1,
    ended_and_closed_unseen: 4,
    number_of_something_watched: 1,
    space_after_reading_has_ended: 2,
    unread_when_reading_ends: 1,
    space_for_each_instance: 2,
    sent_beside_the_question: 400,
    looked_at_meanwhile: 1,
    closed_by_syscall: 1,
    closed_in_a_loop: 6,
    closed_by_fclose: 1,
    talks_by_a_stream: 6,
    other_names: 1,
    other_names_of_calls: 1,
    waited_for_by_syscall: 1,
    polled_by_syscall: 1,
    spliced: 1,
    spliced_into_a_full_pipe: 1,
    children_ask_for_a_number: 0,
    sent_from_a_file: 1,
    // The C library's own threads read it: it stays on its socket.
    aio_before_it_moves: 0,
    aio_after_it_moved: 1,
    passed_on: 1,
    passed_on_meanwhile: 1,
    passed_on_asleep: 1,
    told_to_an_unseen_instance: 1,
    told_to_an_instance_of_several: 1,
    standard_input_of_a_child: 1,
    reads_no_fewer: 2,
}

tested_by_both_kinds! {
    "handlers", musl_handlers;
    while_a_thread_allocates: 2,
    while_two_threads_allocate: 2,
    while_it_forks: 2,
    what_was_installed_is_told: 1,
    reset_after_one_call: 1,
    told_of_its_sender: 1,
    deferred_or_not: 1,
    ready_before_signals: 1,
    interrupts_a_read: 1,
    restarts_a_read: 1,
    ends_a_read_of_all: 1,
    signalled_by_fcntl: 1,
    signalled_by_ioctl: 1,
    // The kernel is to say when something comes: it stays on its socket.
    signalled_from_the_start: 0,
    while_it_talks: 3,
}

tested_by_both_kinds! {
    Glibc: "own_names";
    stands_before_handlers: 3,
    has_nothing_to_do_with_them: 4,
}

/// Linux heeds `SO_RCVLOWAT` when it is asked what is readable by TCP alone.
#[test]
fn least_bytes() {
    let program = program("unseen");
    watched(move || both_ways_by(Kind::Tcp, &Server::start(&[]), &program, "least_bytes", 1));
}

#[test]
fn replaced_unseen() {
    let program = program("unseen");
    watched(move || {
        let server = Server::start(&[]);
        let mut command = server.exec(16);
        command.arg(&program).arg(server.socket()).arg("replaced_unseen");
        let output = support::output(command.env("SHM_FIFO_REPORT", "stderr"), "");
        let report = String::from_utf8(output.stderr).unwrap();
        assert!(report.contains("1 stayed: closed by calls that are not seen"), "{report}");
        assert!(output.status.success() && !report.contains("forked"), "{report}");
    });
}

/// How much TCP takes of a peer that does not read is not certain.
#[test]
fn spliced_and_interrupted() {
    let program = program("unseen");
    watched(move || {
        both_ways_by(Kind::Unix, &Server::start(&[]), &program, "spliced_and_interrupted", 1);
    });
}

/// What was sent is executed; whether the server has answered in time decides how many of its
/// senders move before.
fn sent(name: &'static str) {
    let program = program("unseen");
    watched(move || {
        for kind in [Kind::Unix, Kind::Tcp] {
            let server = Server::start(&[]);
            let address = server.address(kind);
            assert_eq!(run(Command::new(&program).arg(&address).arg(name), ""), "passed\n");
            assert_eq!(server.command(&["FLUSHALL"]), "+OK");
            let mut command = server.exec_by(kind, 16);
            assert_eq!(run(command.arg(&program).arg(&address).arg(name), ""), "passed\n");
            assert!(server.moved() > 0);
            server.wait_for("sessions", 0);
            server.wait_for("offers", 0);
            assert_eq!(server.counter("protocol_errors"), 0);
        }
    });
}

macro_rules! sent {
    ($($name:ident),+ $(,)?) => {$(
        #[test]
        fn $name() {
            sent(stringify!($name));
        }
    )+};
}

sent! {
    sent_before_a_sleep,
    sent_before_exec,
    sent_before_exit,
    sent_before_sigterm,
    sent_before_sigkill,
}

/// The program looks at its connections once the server's process has ended, as `end` does
/// it: each looks as that kind of socket does then.
fn the_server_is_gone(end: fn(&mut Server)) {
    let program = program("unseen");
    watched(move || {
        for kind in [Kind::Unix, Kind::Tcp] {
            for preloaded in [false, true] {
                let mut server = Server::start(&[]);
                let mut command =
                    if preloaded { server.exec_by(kind, 16) } else { Command::new(&program) };
                if preloaded {
                    command.arg(&program);
                }
                command.arg(server.address(kind)).arg("the_server_is_gone");
                let mut child =
                    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
                assert_eq!(lines.next().unwrap().unwrap(), "waiting");
                assert_eq!(server.moved(), if preloaded { 5 } else { 0 });
                end(&mut server);
                child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
                assert!(child.wait().unwrap().success(), "{kind:?}, preloaded: {preloaded}");
                assert_eq!(lines.next().unwrap().unwrap(), "passed");
            }
        }
    });
}

#[test]
fn the_server_is_killed() {
    the_server_is_gone(Server::kill);
}

#[test]
fn the_server_is_terminated() {
    the_server_is_gone(Server::terminate);
}
