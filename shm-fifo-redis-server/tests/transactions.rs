//! Transactions: MULTI, EXEC, DISCARD and WATCH.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::{Commands as _, pipe, transaction};
use support::TestServer;

#[test]
fn queued_commands_run_at_exec() {
    let server = TestServer::start();
    let (mut shm, mut plain) = (server.shm(), server.plain());

    assert_eq!(shm.ask("MULTI"), "+OK\r\n");
    assert_eq!(shm.ask("SET key value"), "+QUEUED\r\n");
    assert_eq!(shm.ask("GET key"), "+QUEUED\r\n");
    assert_eq!(plain.ask("GET key"), "$-1\r\n");
    assert_eq!(shm.ask("EXEC"), "*2\r\n+OK\r\n$5\r\nvalue\r\n");
    assert_eq!(plain.ask("GET key"), "$5\r\nvalue\r\n");
}

#[test]
fn discard_forgets_them() {
    let server = TestServer::start();
    let mut shm = server.shm();

    shm.ask("MULTI");
    shm.ask("SET key value");
    assert_eq!(shm.ask("DISCARD"), "+OK\r\n");
    assert_eq!(shm.ask("GET key"), "$-1\r\n");
    assert_eq!(shm.ask("EXEC"), "-ERR EXEC without MULTI\r\n");
}

#[test]
fn a_watched_key_that_another_client_changes_stops_exec() {
    let server = TestServer::start();
    let mut watcher = server.shm();
    for mut other in [server.plain(), server.shm()] {
        watcher.ask("WATCH key");
        other.ask("SET key other");
        watcher.ask("MULTI");
        watcher.ask("SET key mine");
        assert_eq!(watcher.ask("EXEC"), "*-1\r\n");
        assert_eq!(watcher.ask("GET key"), "$5\r\nother\r\n");
    }
}

#[test]
fn a_watch_set_before_the_move_holds_after_it() {
    let server = TestServer::start();
    let mut watcher = server.plain();
    watcher.ask("WATCH key");
    let mut watcher = watcher.into_shm();

    server.ask("SET key other");

    watcher.ask("MULTI");
    watcher.ask("SET key mine");
    assert_eq!(watcher.ask("EXEC"), "*-1\r\n");
}

#[test]
fn a_command_that_cannot_be_queued_aborts_the_transaction() {
    let server = TestServer::start();
    let mut shm = server.shm();

    shm.ask("MULTI");
    assert!(shm.ask("NO-SUCH-COMMAND").starts_with("-ERR unknown command"));
    assert!(shm.ask("EXEC").starts_with("-EXECABORT"));
    shm.assert_answers();
}

#[test]
fn atomic_pipelines_and_transactions_of_redis_rs_work() {
    let server = TestServer::start();
    let mut connection = server.connection();
    let mut other = server.plain_connection();

    let (old, new): (Option<i64>, i64) =
        pipe().atomic().get("key").incr("key", 5).query(&mut connection).unwrap();
    assert_eq!((old, new), (None, 5));

    let mut disturb = true;
    let (doubled,): (i64,) = transaction(&mut connection, &["key"], |connection, pipeline| {
        let value: i64 = connection.get("key")?;
        if std::mem::take(&mut disturb) {
            let _: () = other.set("key", 21)?;
        }
        pipeline.incr("key", value).query(connection)
    })
    .unwrap();
    assert_eq!(doubled, 42);
}
