//! What the server tells about its clients and about the past.

use crate::normalise::{CLIENT_LINE, COMMAND_STATS, LATENCY, MONITOR, SLOWLOG};
use crate::stage::compare;

#[test]
fn client_info_and_list() {
    compare(|stage| {
        let (mut a, mut b) = (stage.client("a"), stage.client("b"));
        a.ask_as(&CLIENT_LINE, "CLIENT INFO");
        for command in ["CLIENT SETNAME me", "SELECT 3", "CLIENT NO-EVICT ON", "CLIENT NO-TOUCH ON"]
        {
            a.ask(command);
        }
        a.ask_as(&CLIENT_LINE, "CLIENT INFO");
        b.ask("SUBSCRIBE news");
        b.ask("PSUBSCRIBE n*");
        a.ask_as(&CLIENT_LINE, &format!("CLIENT LIST ID {} {}", a.id, b.id));
        b.ask("RESET");
        b.ask("CLIENT TRACKING ON BCAST");
        b.ask("AUTH nobody nothing");
        a.ask_as(&CLIENT_LINE, &format!("CLIENT LIST ID {}", b.id));
        b.ask("CLIENT TRACKING OFF");
        b.ask("WATCH x y");
        b.ask("MULTI");
        b.ask("SET x 1");
        a.ask_as(&CLIENT_LINE, &format!("CLIENT LIST ID {}", b.id));
        b.ask("DISCARD");
        b.send_and_block("BLPOP list 0");
        a.ask_as(&CLIENT_LINE, &format!("CLIENT LIST ID {}", b.id));
        a.ask_as(&CLIENT_LINE, "CLIENT LIST TYPE replica");
        a.ask("CLIENT LIST TYPE x");
    });
}

#[test]
fn the_log_of_slow_commands() {
    compare(|stage| {
        let mut a = stage.client("a");
        stage.aside("CONFIG SET slowlog-log-slower-than 0");
        a.ask("CLIENT SETNAME me");
        for command in ["SLOWLOG RESET", "SET x 1", "GET x", "NOSUCH x", "SLOWLOG LEN"] {
            a.ask(command);
        }
        a.ask_words(&["EVAL", "return redis.call('GET', 'x')", "0"]);
        a.ask(&format!("LPUSH list {}", "element ".repeat(40).trim()));
        a.ask_as(&SLOWLOG, "SLOWLOG GET 20");
        a.ask("SLOWLOG GET x");
        a.ask("SLOWLOG NOSUCH");
    });
}

#[test]
fn the_history_of_latencies() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.ask("CONFIG SET latency-monitor-threshold 200");
        a.ask("LATENCY RESET command");
        a.ask("DEBUG SLEEP 0.25");
        a.ask_as(&LATENCY, "LATENCY HISTORY command");
        a.ask("LATENCY RESET command");
        a.ask("LATENCY HISTORY command");
        a.ask("LATENCY NOSUCH");
    });
}

#[test]
fn a_monitor_sees_everything() {
    compare(|stage| {
        let (mut monitor, mut a) = (stage.client("monitor"), stage.client("a"));
        monitor.ask("MONITOR");
        for command in ["SET x 1", "SELECT 2", "GET x", "AUTH secret", "NOSUCH"] {
            a.ask(command);
        }
        a.ask_words(&["EVAL", "return redis.call('GET', 'x y')", "0"]);
        a.ask_words(&["ECHO", "a\r\n\0\"\\b"]);
        for _ in 0..6 {
            monitor.take_as(&MONITOR);
        }
        monitor.send("RESET");
        // The last of what it monitored comes before.
        for _ in 0..2 {
            monitor.take_as(&MONITOR);
        }
        monitor.ask("PING");
    });
}

#[test]
fn counts_of_commands_and_errors() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.ask("CONFIG RESETSTAT");
        for command in
            ["SET x 1", "GET x", "GET", "LPUSH x 1", "NOSUCH", "MULTI", "EXEC", "CONFIG GET x"]
        {
            a.ask(command);
        }
        a.ask_as(&COMMAND_STATS, "INFO commandstats");
        a.ask("INFO errorstats");
        a.ask("INFO keyspace");
        a.ask("INFO nosuch");
    });
}
