//! Keys, values and errors are the same in shared memory as over a socket.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::{Commands as _, RedisResult, Value};
use shm_fifo_redis_client::{Client, Refusal, Transport};
use std::collections::{BTreeMap, BTreeSet};
use support::{Random, ServerOptions, TestServer, bulk};

#[test]
fn any_bytes_survive_set_and_get() {
    let server = TestServer::start();
    let mut connection = server.connection();
    let all_bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let awkward: [&[u8]; 6] = [b"", b"\0", b"\r\n", b"$5\r\nhello\r\n", b"\0\0\0\0", &all_bytes];

    for (key, value) in awkward.iter().zip(awkward.iter().rev()) {
        let _: () = connection.set(key, value).unwrap();
        assert_eq!(connection.get::<_, Vec<u8>>(key).unwrap(), *value);
    }

    let count: usize = redis::cmd("DBSIZE").query(&mut connection).unwrap();
    assert_eq!(count, awkward.len());
}

#[test]
fn values_of_every_length_around_the_ring_size_arrive_whole() {
    const RING_BYTES: usize = 4096;
    let server = TestServer::with_rings_of(RING_BYTES);
    let mut shm = server.shm();
    let mut random = Random::seeded(1);
    let around = |middle: usize| middle - 70..middle + 70;

    let lengths = (0..130).chain(around(RING_BYTES)).chain(around(3 * RING_BYTES));
    for length in lengths {
        let value = random.bytes(length);
        assert_eq!(shm.ask_words(&[b"SET", b"key", &value]), b"+OK\r\n");
        assert!(shm.ask_words(&[b"GET", b"key"]) == bulk(&value), "{length} bytes");
    }
}

/// One command of each kind of reply: all types, errors, nothing, nested arrays.
const COMMANDS: [&str; 40] = [
    "PING",
    "PING hello",
    "ECHO hello",
    "SET text value",
    "GET text",
    "GET nothing",
    "APPEND text more",
    "STRLEN text",
    "SETRANGE text 3 xyz",
    "INCR number",
    "INCRBYFLOAT number 0.5",
    "INCR text",
    "LPUSH text element",
    "RPUSH list a b c d",
    "LRANGE list 0 -1",
    "LPOP list 2",
    "HSET hash field value other 1",
    "HGETALL hash",
    "HINCRBYFLOAT hash other 1.25",
    "SADD set one",
    "SMEMBERS set",
    "ZADD sorted 1 one 2.5 two inf three",
    "ZRANGE sorted 0 -1 WITHSCORES",
    "ZSCORE sorted two",
    "XADD stream 1-1 field value",
    "XRANGE stream - +",
    "GEOADD places 13.361389 38.115556 Palermo",
    "GEOPOS places Palermo nowhere",
    "SETBIT bits 7 1",
    "BITCOUNT bits",
    "PFADD estimate a b c",
    "PFCOUNT estimate",
    "TYPE hash",
    "EXISTS text nothing",
    "EVAL return{1,'two',{3},false} 0",
    "EVAL return{err='MINE'} 0",
    "NO-SUCH-COMMAND at all",
    "GET",
    "COMMAND DOCS get",
    "DBSIZE",
];

#[test]
fn the_same_commands_give_the_same_bytes_as_over_a_socket() {
    for greeting in ["HELLO 2", "HELLO 3"] {
        let server = TestServer::start();
        let (mut plain, mut shm) = (server.plain(), server.shm());
        // Each in a database of its own, so that both do the same to the same.
        assert_eq!(shm.ask("SELECT 1"), "+OK\r\n");
        for wire in [&mut plain, &mut shm] {
            wire.ask(greeting);
        }
        for command in COMMANDS {
            assert_eq!(shm.ask(command), plain.ask(command), "{command} after {greeting}");
        }
    }
}

#[test]
fn bytes_that_are_no_protocol_end_the_connection_as_over_a_socket() {
    let server = TestServer::start();
    for nonsense in ["*1\r\n+PING\r\n", "*1\r\n$-5\r\n", "*99999999999\r\n"] {
        let (mut plain, mut shm) = (server.plain(), server.shm());
        for wire in [&mut plain, &mut shm] {
            wire.send_bytes(nonsense.as_bytes());
        }
        let (over_a_socket, reply) = (plain.reply(), shm.reply());
        assert_eq!(reply, over_a_socket, "{nonsense:?}");
        assert!(reply.starts_with("-ERR Protocol error"), "{reply}");
        shm.assert_ended();
    }
    assert_eq!(server.info("shm_protocol_errors"), 0, "that is not the shared memory's protocol");
}

#[test]
fn inline_commands_and_telnet_habits_work() {
    let server = TestServer::start();
    let mut shm = server.shm();

    shm.send_bytes(b"PING\r\nSET key 'a value'\r\n\r\nGET key\n");

    assert_eq!(shm.reply(), "+PONG\r\n");
    assert_eq!(shm.reply(), "+OK\r\n");
    assert_eq!(shm.reply(), "$7\r\na value\r\n");
}

#[test]
fn redis_rs_commands_work_on_every_type() {
    let server = TestServer::start();
    let mut connection = server.connection();

    let _: () = connection.hset_multiple("hash", &[("one", 1), ("two", 2)]).unwrap();
    let hash: BTreeMap<String, i64> = connection.hgetall("hash").unwrap();
    assert_eq!(hash, BTreeMap::from([("one".into(), 1), ("two".into(), 2)]));

    let _: () = connection.rpush("list", &["a", "b", "c"]).unwrap();
    let list: Vec<String> = connection.lrange("list", 0, -1).unwrap();
    assert_eq!(list, ["a", "b", "c"]);

    let _: () = connection.zadd("sorted", "two", 2.5).unwrap();
    let score: f64 = connection.zscore("sorted", "two").unwrap();
    assert!((score - 2.5).abs() < f64::EPSILON);

    let nothing: Option<String> = connection.get("nothing").unwrap();
    assert_eq!(nothing, None);
    let wrong_type: RedisResult<Value> = connection.incr("list", 1);
    assert!(wrong_type.unwrap_err().to_string().contains("WRONGTYPE"));
}

#[test]
fn a_scan_finds_every_key() {
    let server = TestServer::start();
    let mut connection = server.connection();
    let keys: BTreeSet<String> = (0..1000).map(|number| format!("key:{number}")).collect();
    for key in &keys {
        let _: () = connection.set(key, 1).unwrap();
    }

    let found: RedisResult<BTreeSet<String>> = connection.scan_match("key:*").unwrap().collect();

    assert_eq!(found.unwrap(), keys);
}

#[test]
fn a_server_without_the_module_is_used_over_its_socket() {
    let server = ServerOptions::default().without_module().start();
    let address = format!("redis+shm+unix://{}", server.socket().display());

    let mut connection = Client::open(address.as_str()).unwrap().get_connection().unwrap();

    let _: () = connection.set("key", "value").unwrap();
    assert_eq!(connection.get::<_, String>("key").unwrap(), "value");
    assert_eq!(connection.transport(), Transport::UnixSocket);
    assert!(matches!(connection.not_moved(), Some(Refusal::NoModule)));

    let strict = Client::open(format!("{address}?shm=require").as_str()).unwrap();
    let error = strict.get_connection().unwrap_err().to_string();
    assert!(error.contains("does not have the shm module"), "{error}");
}
