//! The Lua debugger, which takes its client away from the event loop.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use support::{TestServer, Wire, request, wait_until};

/// A client at the first line of a script that sets `key` to 1 and returns 42.
fn stopped_in_a_script(server: &TestServer) -> Wire {
    let mut shm = server.shm();
    assert_eq!(shm.ask("SCRIPT DEBUG SYNC"), "+OK\r\n");
    let script = b"local one = redis.call('incr', 'key')\nreturn one + 41";
    shm.send_bytes(&request(&[b"EVAL", script, b"0"]));
    let stopped = shm.reply();
    assert!(stopped.contains("Stopped at 1"), "{stopped}");
    shm
}

#[test]
fn the_debugger_that_stops_the_server_talks_to_a_moved_client() {
    let server = TestServer::with_rings_of(4096);
    server.ask(&format!("SET large {}", "x".repeat(100_000)));
    let mut shm = stopped_in_a_script(&server);

    assert!(shm.ask("step").contains("Stopped at 2"));
    assert!(shm.ask("print one").contains("<value> 1"));
    // More than the ring holds: the server must wait for its reader, too.
    let without_limit = shm.ask("maxlen 0");
    // The second is Valkey 9.1's.
    let said = ["unlimited", "replies are not truncated"];
    assert!(said.iter().any(|words| without_limit.contains(words)), "{without_limit}");
    assert!(shm.ask("redis get large").contains(&"x".repeat(100_000)));
    assert!(shm.ask("continue").contains("<endsession>"));

    assert_eq!(shm.reply(), ":42\r\n");
    shm.assert_ended();
    assert_eq!(server.ask("GET key"), "$1\r\n1\r\n");
    wait_until("nothing is left", || server.holds_no_shared_memory());
}

#[test]
fn a_client_that_vanishes_from_the_debugger_lets_the_server_go_on() {
    let mut server = TestServer::start();
    let shm = stopped_in_a_script(&server);

    drop(shm);

    server.assert_alive();
    assert_eq!(server.ask("GET key"), "$1\r\n1\r\n");
    wait_until("nothing is left", || server.holds_no_shared_memory());
}

#[test]
fn a_debugger_in_a_forked_child_ends_its_moved_client_and_changes_nothing() {
    let mut server = TestServer::start();
    let mut shm = server.shm();
    assert_eq!(shm.ask("SCRIPT DEBUG YES"), "+OK\r\n");

    shm.send_bytes(&request(&[b"EVAL", b"return redis.call('incr', 'key')", b"0"]));

    shm.assert_ended();
    server.assert_alive();
    assert_eq!(server.ask("GET key"), "$-1\r\n");
    wait_until("the child is gone", || server.process().children().is_empty());
    wait_until("nothing is left", || server.holds_no_shared_memory());
}
