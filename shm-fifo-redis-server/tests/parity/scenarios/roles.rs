//! Servers that cannot do everything just now: replicas, loading, in a cluster.

use crate::stage::{compare, compare_on};
use crate::support::{ServerOptions, TestServer, wait_until};

#[test]
fn a_replica_refuses_writes() {
    compare(|stage| {
        let primary = TestServer::start();
        primary.ask("CONFIG SET repl-diskless-sync-delay 0");
        let (mut a, mut waiting) = (stage.client("a"), stage.client("waiting"));
        waiting.send_and_block("BLPOP list 0");
        a.ask(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
        waiting.take();
        wait_until("they are linked", || stage.server.info_text("master_link_status") == "up");
        primary.ask("SET x 1");
        primary.ask("WAIT 1 0");
        for command in [
            "GET x",
            "SET x 2",
            "MULTI",
            "GET x",
            "SET x 2",
            "EXEC",
            "WAIT 1 10",
            "PUBLISH c m",
            "BLPOP list 0.01",
            "REPLICAOF NO ONE",
            "SET x 2",
            "READONLY",
        ] {
            a.ask(command);
        }
        a.ask_words(&["EVAL", "return redis.call('SET', 'x', '3')", "0"]);
    });
}

#[test]
fn a_replica_without_its_primary() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.ask("SET x 1");
        a.ask("CONFIG SET replica-serve-stale-data no");
        // Nobody listens there.
        a.ask("REPLICAOF 127.0.0.1 1");
        for command in ["GET x", "SET x 2", "PING", "MULTI", "GET x", "EXEC", "HELLO x"] {
            a.ask(command);
        }
        a.ask("REPLICAOF NO ONE");
        a.ask("GET x");
    });
}

#[test]
fn a_server_that_loads_its_data() {
    compare(|stage| {
        for command in ["CONFIG SET rdbcompression no", "DEBUG POPULATE 3000 key 4000", "SAVE"] {
            stage.aside(command);
        }
        stage.aside("CONFIG SET key-load-delay 1000");
        // Not in Redis 6.2, which looks up from its data every 2 MiB.
        stage.server.ask("CONFIG SET loading-process-events-interval-bytes 1024");
        let (mut reloading, mut a) = (stage.client("reloading"), stage.client("a"));
        a.ask("MULTI");
        a.ask("GET key:1");
        reloading.send("DEBUG RELOAD NOSAVE");
        wait_until("it loads", || stage.server.ask("PING").starts_with("-LOADING"));
        for command in ["EXEC", "GET key:1", "SET x 1", "SUBSCRIBE news", "UNSUBSCRIBE news"] {
            a.ask(command);
        }
        stage.server.ask("CONFIG SET key-load-delay 0");
        reloading.take();
        a.ask("DBSIZE");
    });
}

#[test]
fn a_client_that_becomes_a_replica() {
    compare(|stage| {
        stage.aside("CONFIG SET repl-diskless-sync-delay 0");
        for diskless in ["no", "yes"] {
            stage.aside(&format!("CONFIG SET repl-diskless-sync {diskless}"));
            stage.aside("SET before 1");
            let mut a = stage.client("a");
            a.send("SYNC");
            // Newlines keep the connection alive until there is something to send.
            a.read_through(b"$");
            let header = a.read_through(b"\r\n");
            let header = header.trim_ascii_end();
            // The data of the server, with times and a checksum in it.
            match header.strip_prefix(b"EOF:") {
                Some(mark) => drop(a.read_through(mark)),
                None => a.skip(std::str::from_utf8(header).unwrap().parse().unwrap()),
            }
            for command in ["SET x 1", "INCR x", "DEL before", "PUBLISH news hello"] {
                // A replica gets what follows once the server knows that it is up to date.
                a.send("REPLCONF ACK 0");
                stage.aside(command);
            }
            stage.record("a", &a.read_through(b"hello\r\n"));
            stage.server.ask(&format!("CLIENT KILL ID {}", a.id));
            a.take_end_only();
        }
    });
}

#[test]
fn a_node_of_a_cluster() {
    compare_on(&ServerOptions::default().args(&["--cluster-enabled", "yes"]), |stage| {
        let mut a = stage.client("a");
        a.ask("GET x");
        a.ask("CONFIG SET cluster-require-full-coverage no");
        a.ask("CLUSTER ADDSLOTS 16287 5061");
        wait_until("it serves", || stage.server.ask("CLUSTER INFO").contains("cluster_state:ok"));
        for command in [
            "SET x 1",
            "GET x",
            "GET y",
            "MGET x y",
            "CLUSTER KEYSLOT x",
            "CLUSTER COUNTKEYSINSLOT 16287",
            "SELECT 1",
            "ASKING",
            "GET y",
            "READONLY",
            "GET y",
            "MULTI",
            "GET y",
            "EXEC",
            "SSUBSCRIBE y",
            "SSUBSCRIBE x",
            "CLUSTER NOSUCH",
        ] {
            a.ask(command);
        }
        for aside in ["SPUBLISH x hello", "CLUSTER DELSLOTS 16287"] {
            stage.aside(aside);
            a.send("PING end");
            while !a.take().contains("end") {}
        }
    });
}
