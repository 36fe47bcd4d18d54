//! Primaries and replicas with moved clients.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::{ErrorKind, ServerErrorKind};
use shm_fifo_redis_client::Connection;
use support::{
    OwnKey, Random, ServerVersion, TestServer, Wire, beside_busy, beside_busy_clients_of, bulk,
    needs, request, wait_until,
};

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

    beside_busy_clients_of(&primary, || {
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
    // What the clients write is enough for a rewrite that nobody asked for.
    set(&[&server], "auto-aof-rewrite-percentage 0");

    beside_busy_clients_of(&server, || {
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

/// A client of two servers, of which one is the primary.
struct Alternating {
    connections: [Connection; 2],
    now: usize,
    key: OwnKey,
}

impl Alternating {
    /// Writes to the primary; `false` if that is the other by now.
    fn round(&mut self) -> bool {
        let connection = &mut self.connections[self.now];
        let readonly = ErrorKind::Server(ServerErrorKind::ReadOnly);
        match self.key.write(connection) {
            Ok(()) => self.key.keep(),
            Err(error) if error.kind() == readonly => {
                self.now = 1 - self.now;
                return false;
            }
            Err(error) => panic!("{error}"),
        }
        self.key.check(connection).unwrap();
        true
    }
}

#[test]
fn a_failover_to_a_named_replica_loses_nothing_of_busy_clients() {
    let (first, second) = (TestServer::start(), TestServer::start());
    set(&[&first, &second], "repl-diskless-sync-delay 0");
    assert_eq!(second.ask(&format!("REPLICAOF 127.0.0.1 {}", first.port())), "+OK\r\n");
    let clients = [0, 1, 2].map(|number| Alternating {
        connections: [first.connection(), second.connection()],
        now: 0,
        key: OwnKey::new(number, &format!("own:{number}")),
    });

    beside_busy(clients, Alternating::round, |busy| {
        for (from, to) in [(&first, &second), (&second, &first)] {
            wait_until("they are linked", || from.ask("INFO replication").contains("state=online"));
            assert_eq!(from.ask(&format!("FAILOVER TO 127.0.0.1 {}", to.port())), "+OK\r\n");
            wait_until("the roles are exchanged", || {
                from.info_text("role") == "slave" && to.info_text("role") == "master"
            });
            busy.get_on("at the other primary");
        }
    });

    for server in [&first, &second] {
        assert_eq!(server.info("shm_total_sessions"), 3);
        assert_eq!(server.info("shm_protocol_errors"), 0);
        assert_eq!(server.info("shm_missed_doorbells"), 0);
    }
}

#[test]
fn a_replica_that_loads_new_data_serves_its_old_to_moved_clients() {
    needs!(AsyncLoading);
    const KEYS: usize = 2000;
    let (primary, replica) = (TestServer::start(), TestServer::start());
    set(&[&primary], "repl-diskless-sync-delay 0");
    set(&[&primary, &replica], "repl-diskless-sync yes");
    set(&[&replica], "repl-diskless-load swapdb");
    set(&[&replica], "loading-process-events-interval-bytes 1024");
    assert_eq!(primary.ask(&format!("DEBUG POPULATE {KEYS} key 1000")), "+OK\r\n");
    assert_eq!(replica.ask(&format!("REPLICAOF 127.0.0.1 {}", primary.port())), "+OK\r\n");
    let is_linked = || replica.info_text("master_link_status") == "up";
    wait_until("they are linked", is_linked);
    let readers = [0, 1, 2].map(|number| (replica.shm(), Random::seeded(number)));
    let read = |(shm, random): &mut (Wire, Random)| {
        let number = random.below(KEYS);
        let value = shm.ask(&format!("GET key:{number}"));
        value.starts_with(&format!("$1000\r\nvalue:{number}\0"))
    };

    beside_busy(readers, read, |busy| {
        // Long enough to see it, even where nothing else makes it slow.
        set(&[&replica], "key-load-delay 10000");
        lose_the_thread(&primary, &replica);
        wait_until("it loads", || replica.info("async_loading") == 1);
        busy.get_on("while it loads");
        assert!(replica.ask("GET new").starts_with("$-1"));
        assert_eq!(replica.info("async_loading"), 1);
        set(&[&replica], "key-load-delay 0");
        wait_until("they are linked again", is_linked);
        busy.get_on("with the new data");
    });

    assert!(replica.ask("GET new").starts_with("$100000"));
    assert_eq!(replica.ask("DEBUG DIGEST"), primary.ask("DEBUG DIGEST"));
}

/// Lets a replica miss more than its primary remembers: only a full synchronisation, of
/// the same history, helps.
fn lose_the_thread(primary: &TestServer, replica: &TestServer) {
    set(&[primary], "repl-backlog-size 16384");
    replica.process().stop();
    assert_eq!(primary.ask("CLIENT KILL TYPE replica"), ":1\r\n");
    let value = vec![b'x'; 100_000];
    for _ in 0..10 {
        assert_eq!(primary.ask_words(&[b"SET", b"new", &value]), "+OK\r\n");
    }
    replica.process().go_on();
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
