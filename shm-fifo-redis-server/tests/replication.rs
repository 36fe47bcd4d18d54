//! Primaries and replicas with moved clients.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use support::{Random, TestServer, bulk, request, wait_until};

#[test]
fn what_moved_clients_write_reaches_replicas_and_their_moved_clients() {
    let (primary, replica) = (TestServer::start(), TestServer::start());
    // More replicas might come; by default they are waited for.
    primary.ask("CONFIG SET repl-diskless-sync-delay 0");
    let (mut writer, mut reader) = (primary.shm(), replica.shm());
    assert_eq!(reader.ask(&format!("REPLICAOF 127.0.0.1 {}", primary.port())), "+OK\r\n");
    wait_until("they are linked", || replica.info_text("master_link_status") == "up");
    let value = Random::seeded(10).bytes(1 << 20);

    writer.exchange(&request(&[b"SET", b"key", &value]), 1);
    assert_eq!(writer.ask("WAIT 1 0"), ":1\r\n");

    assert!(reader.exchange(&request(&[b"GET", b"key"]), 1) == [bulk(&value)]);
    assert!(reader.ask("SET key mine").starts_with("-READONLY"));
    replica.shm().assert_answers();
    assert_eq!(reader.ask("REPLICAOF NO ONE"), "+OK\r\n");
    assert_eq!(reader.ask("SET key mine"), "+OK\r\n");
}

#[test]
fn a_replica_without_its_primary_lets_clients_move_and_tells_them() {
    let server = TestServer::start();
    server.ask("CONFIG SET replica-serve-stale-data no");
    // Nobody listens there.
    server.ask("REPLICAOF 127.0.0.1 1");

    let mut shm = server.shm();

    assert!(shm.ask("GET key").starts_with("-MASTERDOWN"));
}

#[test]
fn a_server_that_loads_its_data_lets_clients_move_and_tells_them() {
    let server = TestServer::start();
    for command in [
        "CONFIG SET rdbcompression no",
        "DEBUG POPULATE 3000 key 4000",
        "SAVE",
        "CONFIG SET key-load-delay 1000",
    ] {
        assert_eq!(server.ask(command), "+OK\r\n");
    }
    // Redis 6.2 does not know this and looks up from its data every 2 MiB.
    server.ask("CONFIG SET loading-process-events-interval-bytes 1024");
    let (mut before, mut reloading) = (server.shm(), server.shm());
    reloading.send("DEBUG RELOAD NOSAVE");
    wait_until("it loads", || before.ask("PING").starts_with("-LOADING"));

    let mut meanwhile = server.shm();

    assert!(meanwhile.ask("GET key:1").starts_with("-LOADING"));
    server.ask("CONFIG SET key-load-delay 0");
    assert_eq!(reloading.reply(), "+OK\r\n");
    for shm in [&mut before, &mut meanwhile] {
        assert_eq!(shm.ask("DBSIZE"), ":3000\r\n");
    }
}
