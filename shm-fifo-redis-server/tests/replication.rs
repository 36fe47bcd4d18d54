//! Primaries and replicas with moved clients.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use support::{Random, ServerVersion, TestServer, bulk, needs, request, wait_until};

/// Clients in shared memory that work all the time.
const CLIENTS: usize = 3;

/// Does `something` while moved clients write and read their own keys, each reply
/// checked; every one of them must get on before, during and after it.
fn beside_active_clients(server: &TestServer, something: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let rounds: [AtomicU64; CLIENTS] = Default::default();
    let all_get_on = |when: &str| {
        let before = rounds.each_ref().map(|round| round.load(Relaxed));
        wait_until(when, || rounds.iter().zip(before).all(|(now, then)| now.load(Relaxed) > then));
    };
    thread::scope(|scope| {
        for (number, round) in (0..).zip(&rounds) {
            let over = &over;
            scope.spawn(move || {
                let (mut shm, mut random) = (server.shm(), Random::seeded(number));
                let key = format!("own:{number}");
                while !over.load(Relaxed) {
                    let length = random.below(300_000);
                    let value = random.bytes(length);
                    let set = request(&[b"SET", key.as_bytes(), &value]);
                    assert_eq!(shm.exchange(&set, 1), [b"+OK\r\n"]);
                    let get = request(&[b"GET", key.as_bytes()]);
                    assert!(shm.exchange(&get, 1) == [bulk(&value)], "{length} bytes");
                    round.fetch_add(1, Relaxed);
                }
            });
        }
        // However this ends, the clients do.
        let stop = Stop(&over);
        all_get_on("all clients work");
        something();
        all_get_on("all clients work on");
        drop(stop);
    });
    assert_eq!(server.info("shm_protocol_errors"), 0);
}

/// Raises its flag when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn set(servers: &[&TestServer], setting: &str) {
    for server in servers {
        assert_eq!(server.ask(&format!("CONFIG SET {setting}")), "+OK\r\n", "{setting}");
    }
}

/// A full synchronisation of a replica whose primary has active moved clients. Returns
/// the replica's log.
fn synchronise(settings: &[&str]) -> String {
    let (primary, replica) = (TestServer::start(), TestServer::start());
    set(&[&primary], "repl-diskless-sync-delay 0");
    settings.iter().for_each(|setting| set(&[&primary, &replica], setting));
    assert_eq!(primary.ask("DEBUG POPULATE 5000 key 2000"), "+OK\r\n");
    let mut reader = replica.shm();

    beside_active_clients(&primary, || {
        assert_eq!(reader.ask(&format!("REPLICAOF 127.0.0.1 {}", primary.port())), "+OK\r\n");
        wait_until("they are linked", || replica.info_text("master_link_status") == "up");
    });

    // More than one where the clients write more meanwhile than a replica's buffer holds.
    assert!(primary.info("sync_full") >= 1);
    let mut writer = primary.shm();
    assert_eq!(writer.ask("SET last one"), "+OK\r\n");
    assert_eq!(writer.ask("WAIT 1 0"), ":1\r\n");
    assert_eq!(reader.ask("GET last"), "$3\r\none\r\n");
    assert_eq!(reader.ask("DBSIZE"), writer.ask("DBSIZE"));
    replica.log()
}

#[test]
fn a_full_synchronisation_by_disk_goes_on_beside_moved_clients() {
    synchronise(&["repl-diskless-sync no", "repl-diskless-load disabled"]);
}

#[test]
fn a_full_synchronisation_without_disk_goes_on_beside_moved_clients() {
    synchronise(&["repl-diskless-sync yes", "repl-diskless-load swapdb"]);
}

#[test]
fn a_full_synchronisation_by_a_channel_of_its_own_goes_on_beside_moved_clients() {
    needs!(RdbChannel);
    let channel = if ServerVersion::of_tested_server().is_valkey() {
        "dual-channel-replication-enabled yes"
    } else {
        "repl-rdb-channel yes"
    };
    let log = synchronise(&["repl-diskless-sync yes", channel]).to_lowercase();
    assert!(log.contains("dual channel") || log.contains("rdb channel"), "{log}");
}

#[test]
fn a_log_that_is_written_and_rewritten_goes_on_beside_moved_clients() {
    let server = TestServer::start();

    beside_active_clients(&server, || {
        set(&[&server], "appendonly yes");
        wait_until("it is written", || server.info("aof_rewrite_in_progress") == 0);
        for _ in 0..3 {
            assert!(server.ask("BGREWRITEAOF").starts_with('+'));
            wait_until("it is rewritten", || {
                server.info("aof_rewrite_scheduled") + server.info("aof_rewrite_in_progress") == 0
            });
            assert_eq!(server.info_text("aof_last_bgrewrite_status"), "ok");
        }
    });

    // What the clients wrote is what the log says.
    let before = server.ask("DEBUG DIGEST");
    assert_eq!(server.ask("DEBUG LOADAOF"), "+OK\r\n");
    assert_eq!(server.ask("DEBUG DIGEST"), before);
}

#[test]
fn a_failover_exchanges_the_roles_and_moved_clients_stay() {
    let (first, second) = (TestServer::start(), TestServer::start());
    set(&[&first], "repl-diskless-sync-delay 0");
    let (mut on_first, mut on_second) = (first.shm(), second.shm());
    assert_eq!(on_second.ask(&format!("REPLICAOF 127.0.0.1 {}", first.port())), "+OK\r\n");
    wait_until("they are linked", || {
        second.info_text("master_link_status") == "up"
            && first.info_text("slave0").contains("state=online")
    });
    assert_eq!(on_first.ask("SET key before"), "+OK\r\n");
    let mut blocked = first.shm();
    blocked.send("BLPOP queue 0");
    wait_until("it is blocked", || first.info("blocked_clients") == 1);

    assert_eq!(on_first.ask("FAILOVER"), "+OK\r\n");

    wait_until("the roles are exchanged", || {
        first.info_text("role") == "slave" && second.info_text("role") == "master"
    });
    // Whoever is blocked is told, and disconnected.
    assert!(blocked.reply().starts_with("-UNBLOCKED"));
    blocked.assert_ended();
    assert!(on_first.ask("SET key mine").starts_with("-READONLY"));
    assert_eq!(on_second.ask("SET key after"), "+OK\r\n");
    wait_until("they are linked again", || on_first.ask("GET key") == "$5\r\nafter\r\n");
}

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
