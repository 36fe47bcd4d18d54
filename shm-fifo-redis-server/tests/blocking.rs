//! Commands that wait, and clients that are made to wait or to go.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::Commands as _;
use support::{PATIENCE, TestServer, Wire, request, wait_until};

/// Waits until the client `id` waits in a blocking command.
fn wait_until_blocked(server: &TestServer, id: u64) {
    // A client of a unix socket has another flag, U.
    let is_blocked = |list: &str| list.contains(" flags=b");
    wait_until("the client is blocked", || {
        is_blocked(&server.ask(&format!("CLIENT LIST ID {id}")))
    });
}

fn blocked(server: &TestServer, command: &str) -> (Wire, u64) {
    let mut shm = server.shm();
    let id = shm.id();
    shm.send(command);
    wait_until_blocked(server, id);
    (shm, id)
}

#[test]
fn blpop_ends_with_its_timeout() {
    let server = TestServer::start();
    let mut shm = server.shm();

    assert_eq!(shm.ask("BLPOP queue 0.1"), "*-1\r\n");

    let mut connection = server.connection();
    let nothing: Option<(String, String)> = connection.blpop("queue", 0.1).unwrap();
    assert_eq!(nothing, None);
}

#[test]
fn blpop_ends_with_a_push_from_another_client() {
    let server = TestServer::start();
    for mut other in [server.plain(), server.shm()] {
        let (mut shm, _) = blocked(&server, "BLPOP queue 0");
        other.ask("RPUSH queue job");
        assert_eq!(shm.reply(), "*2\r\n$5\r\nqueue\r\n$3\r\njob\r\n");
        shm.assert_answers();
    }
}

#[test]
fn blocked_clients_are_served_in_the_order_they_came() {
    let server = TestServer::start();
    let mut waiting: Vec<Wire> = (0..10).map(|_| blocked(&server, "BLPOP queue 0").0).collect();

    for number in 0..10 {
        server.ask(&format!("RPUSH queue {number}"));
    }

    for (number, shm) in waiting.iter_mut().enumerate() {
        assert_eq!(shm.reply(), format!("*2\r\n$5\r\nqueue\r\n$1\r\n{number}\r\n"));
    }
}

#[test]
fn commands_behind_a_blocking_one_wait_for_it() {
    let server = TestServer::start();
    let (mut shm, _) = blocked(&server, "BLPOP queue 0");
    shm.send("SET after 1");
    shm.send("GET after");

    assert_eq!(server.ask("GET after"), "$-1\r\n");
    server.ask("RPUSH queue job");

    assert_eq!(shm.reply(), "*2\r\n$5\r\nqueue\r\n$3\r\njob\r\n");
    assert_eq!(shm.reply(), "+OK\r\n");
    assert_eq!(shm.reply(), "$1\r\n1\r\n");
}

#[test]
fn client_unblock_ends_a_blocking_command() {
    let server = TestServer::start();
    let (mut shm, id) = blocked(&server, "XREAD BLOCK 0 STREAMS stream $");
    assert_eq!(server.ask(&format!("CLIENT UNBLOCK {id}")), ":1\r\n");
    assert_eq!(shm.reply(), "*-1\r\n");

    let (mut shm, id) = blocked(&server, "BLPOP queue 0");
    server.ask(&format!("CLIENT UNBLOCK {id} ERROR"));
    assert!(shm.reply().starts_with("-UNBLOCKED"));
    shm.assert_answers();
}

#[test]
fn a_paused_client_waits_and_then_goes_on() {
    let server = TestServer::start();
    let mut shm = server.shm();
    let pause_ms = PATIENCE.as_millis();
    assert_eq!(server.ask(&format!("CLIENT PAUSE {pause_ms} WRITE")), "+OK\r\n");

    // Reading is allowed; a write waits, and what comes behind it as well.
    assert_eq!(shm.ask("GET key"), "$-1\r\n");
    let id = shm.id();
    shm.send("SET key value");
    shm.send("GET key");
    wait_until_blocked(&server, id);
    assert_eq!(server.ask("GET key"), "$-1\r\n");

    assert_eq!(server.ask("CLIENT UNPAUSE"), "+OK\r\n");
    assert_eq!(shm.reply(), "+OK\r\n");
    assert_eq!(shm.reply(), "$5\r\nvalue\r\n");
}

#[test]
fn a_pause_of_everything_ends_by_itself() {
    let server = TestServer::start();
    let mut shm = server.shm();

    server.ask("CLIENT PAUSE 200 ALL");

    shm.assert_answers();
}

#[test]
fn a_killed_client_sees_the_end_of_its_connection() {
    let server = TestServer::start();
    let mut bystander = server.shm();

    let mut idle = server.shm();
    let id = idle.id();
    assert_eq!(server.ask(&format!("CLIENT KILL ID {id}")), ":1\r\n");
    idle.assert_ended();

    let (mut waiting, id) = blocked(&server, "BLPOP queue 0");
    assert_eq!(server.ask(&format!("CLIENT KILL ID {id}")), ":1\r\n");
    waiting.assert_ended();

    bystander.assert_answers();
    wait_until("their sessions are gone", || server.info("shm_sessions") == 1);
}

#[test]
fn a_client_may_kill_itself_and_still_gets_the_reply() {
    let server = TestServer::start();
    let mut shm = server.shm();
    let id = shm.id();

    assert_eq!(shm.ask(&format!("CLIENT KILL ID {id} SKIPME no")), ":1\r\n");

    shm.assert_ended();
    wait_until("the session is gone", || server.holds_no_shared_memory());
}

#[test]
fn a_busy_script_lets_moved_clients_know_and_end_it() {
    let server = TestServer::start();
    server.ask("CONFIG SET busy-reply-threshold 50");
    let (mut busy, mut shm) = (server.shm(), server.shm());
    busy.send_bytes(&request(&[b"EVAL", b"while true do end", b"0"]));

    // Until the threshold the server answers nobody; then it says that it is busy.
    wait_until("the script runs", || shm.ask("PING").starts_with("-BUSY"));
    assert!(shm.ask("SET key value").starts_with("-BUSY"));
    assert_eq!(shm.ask("SCRIPT KILL"), "+OK\r\n");

    assert!(busy.reply().contains("killed by user"));
    shm.assert_answers();
    busy.assert_answers();
}

#[test]
fn shutdown_ends_moved_clients_and_the_server_cleanly() {
    let mut server = TestServer::start();
    let (mut one, mut other) = (server.shm(), server.shm());

    one.send("SHUTDOWN NOSAVE");

    one.assert_ended();
    other.assert_ended();
    assert!(server.exit_status().success());
}
