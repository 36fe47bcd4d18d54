//! What the kernel does for a socket, exactly (`programs/kernel.c`): first as it is, for
//! control, then on shared memory.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::process::Command;
use support::{Server, program, run, tested_both_ways, watched};

tested_both_ways! {
    "kernel";
    space_is_news_after_a_reply: 40,
    nothing_comes_unnoticed: 1,
    asleep_before_it_watched_one_that_moved: 1,
    // Who sleeps there since before would not be woken: it stays on its socket.
    asleep_before_one_that_it_watched_moved: 0,
    one_shot_before_it_moved: 1,
    asleep_in_numbers: 2,
    an_end_that_nobody_waits_for: 1,
    hang_ups_are_always_told: 1,
    one_shots_with_the_same_data: 2,
    // It stays on its socket: the kernel knows a registration that nobody can change.
    watched_by_a_name_that_is_closed: 0,
    a_waiter_is_cancelled: 1,
    exclusive_for_good: 1,
    nested_by_another_number: 1,
    nested_no_more: 1,
    each_end_is_news: 1,
    an_end_alone: 1,
    a_thread_for_each_direction: 50,
    messages_in_order: 1,
    other_queues: 1,
    refused_calls: 1,
    reading_is_shut_down: 1,
    closed_by_a_signal_handler: 1000,
}

#[test]
fn thrown_away() {
    let program = program("kernel");
    watched(move || {
        let server = Server::start(&[]);
        let port = server.port.to_string();
        assert_eq!(run(Command::new(&program).args([&port, "thrown_away"]), ""), "passed\n");
        let mut command = server.exec_tcp(16);
        assert_eq!(run(command.arg(&program).args([&port, "thrown_away"]), ""), "passed\n");
        // What is thrown away is not seen, so the other one is not understood.
        assert_eq!(server.moved(), 1);
    });
}

/// Whether the server has answered in time decides how many move.
#[test]
fn last_words_before_exit() {
    let program = program("kernel");
    watched(move || {
        let server = Server::start(&[]);
        let mut command = server.exec(16);
        command.arg(&program).arg(server.socket()).arg("last_words_before_exit");
        assert_eq!(run(&mut command, ""), "passed\n");
        assert!(server.moved() > 0);
        server.wait_for("sessions", 0);
    });
}
