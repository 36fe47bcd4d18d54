//! Every call by which a program talks to a server, made by a C program
//! (`programs/calls.c`): first as it is, for control, then on shared memory.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use support::{Server, program, run, tested_both_ways, watched};

tested_both_ways! {
    "calls";
    reads: 1,
    peeks: 1,
    writes: 1,
    errno_is_kept: 1,
    large_values: 1,
    nonblocking: 1,
    nonblocking_from_the_start: 1,
    timeouts: 1,
    signals: 1,
    polls: 1,
    selects: 1,
    epoll_level: 1,
    epoll_edge: 1,
    epoll_one_shot: 1,
    epoll_from_another_thread: 2,
    // The one whose epoll instance is watched by another stays on its socket.
    epoll_nested: 1,
    duplicates: 4,
    shutdowns: 2,
    ends: 1,
    // The parent's, and one of the child's own.
    forks: 2,
    threads: 9,
    pipelines: 1,
}

/// `CYCLES=100000` runs more of them.
#[test]
fn nothing_leaks_over_many_connections() {
    let program = program("calls");
    watched(move || {
        let server = Server::start(&[]);
        let mut command = server.exec(2);
        let socket = server.socket();
        assert_eq!(run(command.arg(&program).arg(socket).arg("cycles"), ""), "passed\n");
        let cycles = std::env::var("CYCLES").map_or(10_000, |count| count.parse().unwrap());
        assert!(server.moved() > cycles / 2, "only {} have moved", server.moved());
        server.wait_for("sessions", 0);
        server.wait_for("offers", 0);
        assert_eq!(server.counter("region_bytes"), 0);
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
        assert!(open < 30, "the server has {open} open files");
    });
}
