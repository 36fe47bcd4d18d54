//! Limits of memory and of buffers: who is refused, and who has to go.

use crate::stage::compare;
use crate::support::{needs, request, wait_until};

const MEGABYTE: usize = 1 << 20;

/// The first half of a request with `bytes` bytes. The server has room for all of it.
fn half(bytes: usize) -> Vec<u8> {
    let mut request = format!("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n${bytes}\r\n").into_bytes();
    request.resize(bytes / 2, b'x');
    request
}

#[test]
fn out_of_memory() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.ask("SET x 1");
        a.ask("CONFIG SET maxmemory 1");
        for command in ["GET x", "SET y 1", "DEL x", "MULTI", "GET x", "SET y 1", "EXEC", "PING"] {
            a.ask(command);
        }
        a.ask("MULTI");
        a.ask("GET x");
        a.ask("EXEC");
        a.ask_words(&["EVAL", "return redis.call('SET', KEYS[1], '1')", "1", "y"]);
        a.ask_words(&["EVAL", "return redis.call('GET', KEYS[1])", "1", "x"]);
        a.ask("SUBSCRIBE news");
        a.ask("UNSUBSCRIBE news");
        a.ask("CONFIG SET maxmemory 0");
        a.ask("SET y 1");
    });
}

#[test]
fn keys_are_evicted() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.ask("SET forever 1");
        a.ask("SET mortal 1 EX 100000");
        a.ask("CONFIG SET maxmemory-policy volatile-lru");
        a.ask("CONFIG SET maxmemory 1");
        a.ask("SET y 1");
        a.ask("EXISTS forever mortal y");
    });
}

#[test]
fn a_client_that_does_not_read_its_replies() {
    compare(|stage| {
        stage.server.ask_words(&[
            b"CONFIG",
            b"SET",
            b"client-output-buffer-limit",
            b"normal 1mb 0 0",
        ]);
        stage.aside("SETRANGE large 9000000 x");
        let mut a = stage.client("a");
        for _ in 0..4 {
            a.send("GET large");
        }
        a.wait_until_gone();
        a.take_end_only();
    });
}

#[test]
fn a_subscriber_that_does_not_read_its_messages() {
    compare(|stage| {
        for limit in [&b"pubsub 1mb 0 0"[..], b"pubsub 1gb 100kb 1"] {
            stage.server.ask_words(&[b"CONFIG", b"SET", b"client-output-buffer-limit", limit]);
            let mut a = stage.client("a");
            a.ask("SUBSCRIBE news");
            // Valkey 9 does not count large messages, of which it keeps no copy. A soft
            // limit is looked at when something is added.
            let messages = request(&[b"PUBLISH", b"news", &[b'x'; 1000]]).repeat(100);
            let mut publisher = stage.server.plain();
            wait_until("it is gone", || {
                publisher.exchange(&messages, 100).last().is_some_and(|count| count == b":0\r\n")
            });
            a.take_end_only();
        }
    });
}

#[test]
fn requests_larger_than_allowed() {
    compare(|stage| {
        stage.aside("CONFIG SET client-query-buffer-limit 1mb");
        let (mut a, mut b) = (stage.client("a"), stage.client("b"));
        a.ask("PING");
        a.send_in_vain(&half(8 * MEGABYTE));
        a.take_end();
        stage.aside("CONFIG SET proto-max-bulk-len 1mb");
        let value = vec![b'x'; MEGABYTE / 2];
        b.exchange(&request(&[b"APPEND", b"key", &value]), 1);
        b.ask("SETRANGE key 1048575 xx");
        b.send_bytes(b"*2\r\n$4\r\nECHO\r\n$1048577\r\n");
        b.take_end();
    });
}

#[test]
fn clients_are_evicted_but_for_those_that_are_spared() {
    needs!(ClientEviction);
    compare(|stage| {
        let (mut spared, mut large) = (stage.client("spared"), stage.client("large"));
        let mut small = stage.client("small");
        spared.ask("CLIENT NO-EVICT ON");
        spared.send_bytes(&half(4 * MEGABYTE));
        large.send_bytes(&half(30 * MEGABYTE));
        stage.aside("CONFIG SET maxmemory-clients 16mb");
        large.take_end();
        small.ask("PING");
        stage.server.ask(&format!("CLIENT KILL ID {}", spared.id));
        spared.take_end();
        assert_eq!(stage.server.info("evicted_clients"), 1);
    });
}
