//! Many commands at once, in one direction and both.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::{ConnectionLike as _, Script, cmd, pipe};
use support::{Random, TestServer, bulk, request};

const COMMANDS: usize = 10_000;

#[test]
fn ten_thousand_commands_go_in_one_pipeline() {
    let server = TestServer::start();
    let mut connection = server.connection();
    let mut pipeline = pipe();
    for number in 0..COMMANDS {
        pipeline.set(format!("key:{number}"), number).ignore();
        pipeline.get(format!("key:{number}"));
    }

    let values: Vec<usize> = pipeline.query(&mut connection).unwrap();

    assert!(values.into_iter().eq(0..COMMANDS));
}

#[test]
fn ten_thousand_commands_go_through_the_smallest_ring() {
    let server = TestServer::with_rings_of(4096);
    let mut shm = server.shm();
    let requests: Vec<u8> = (0..COMMANDS)
        .flat_map(|number| request(&[b"ECHO", number.to_string().as_bytes()]))
        .collect();

    let replies = shm.exchange(&requests, COMMANDS);

    for (number, reply) in replies.iter().enumerate() {
        assert_eq!(*reply, bulk(number.to_string().as_bytes()));
    }
}

/// Both rings are full at the same time, many times over.
#[test]
fn replies_larger_than_the_ring_come_while_requests_are_still_written() {
    const ROUNDS: usize = 300;
    let server = TestServer::with_rings_of(4096);
    let mut shm = server.shm();
    let mut random = Random::seeded(2);
    let values: Vec<Vec<u8>> = (0..ROUNDS).map(|_| random.bytes(20_000)).collect();
    let requests: Vec<u8> = values.iter().flat_map(|value| request(&[b"ECHO", value])).collect();

    let replies = shm.exchange(&requests, ROUNDS);

    assert!(replies.iter().zip(&values).all(|(reply, value)| *reply == bulk(value)));
}

#[test]
fn redis_rs_pipelines_may_be_larger_than_the_ring_in_both_directions() {
    let server = TestServer::with_rings_of(4096);
    let mut connection = server.connection();
    let mut random = Random::seeded(3);
    let values: Vec<Vec<u8>> = (0..100).map(|_| random.bytes(50_000)).collect();
    let mut pipeline = pipe();
    for value in &values {
        pipeline.cmd("ECHO").arg(value);
    }

    let replies: Vec<Vec<u8>> = pipeline.query(&mut connection).unwrap();

    assert!(replies == values);
}

#[test]
fn a_command_may_come_in_any_pieces() {
    let server = TestServer::start();
    let mut shm = server.shm();
    let requests = [request(&[b"SET", b"key", b"value"]), request(&[b"GET", b"key"])].concat();

    for byte in requests {
        shm.send_bytes(&[byte]);
    }

    assert_eq!(shm.reply(), "+OK\r\n");
    assert_eq!(shm.reply(), "$5\r\nvalue\r\n");
}

#[test]
fn an_error_in_a_pipeline_leaves_the_rest_alone() {
    let server = TestServer::start();
    let mut shm = server.shm();

    for command in ["SET text value", "INCR text", "NO-SUCH-COMMAND", "GET text"] {
        shm.send(command);
    }

    assert_eq!(shm.reply(), "+OK\r\n");
    assert_eq!(shm.reply(), "-ERR value is not an integer or out of range\r\n");
    assert!(shm.reply().starts_with("-ERR unknown command"));
    assert_eq!(shm.reply(), "$5\r\nvalue\r\n");
}

#[test]
fn scripts_are_loaded_and_run_within_a_pipeline() {
    const SCRIPT: &str = "return redis.call('incrby', KEYS[1], ARGV[1])";
    let server = TestServer::start();
    let mut connection = server.connection();
    let hash = Script::new(SCRIPT).get_hash().to_owned();
    let mut pipeline = pipe();
    pipeline.cmd("SCRIPT").arg("LOAD").arg(SCRIPT);
    for step in 1..=3 {
        pipeline.cmd("EVALSHA").arg(&hash).arg(1).arg("counter").arg(step);
    }

    let (loaded, one, three, six): (String, i64, i64, i64) =
        pipeline.query(&mut connection).unwrap();

    assert_eq!((loaded, one, three, six), (hash, 1, 3, 6));
    let ten: i64 = Script::new(SCRIPT).key("counter").arg(4).invoke(&mut connection).unwrap();
    assert_eq!(ten, 10);
}

#[test]
fn eval_reads_and_writes_large_values() {
    let server = TestServer::with_rings_of(4096);
    let mut connection = server.connection();
    let value = Random::seeded(4).bytes(1 << 20);

    let doubled: Vec<u8> = cmd("EVAL")
        .arg("redis.call('set', KEYS[1], ARGV[1]); return ARGV[1] .. redis.call('get', KEYS[1])")
        .arg(1)
        .arg("key")
        .arg(&value)
        .query(&mut connection)
        .unwrap();

    assert!(doubled == [&value[..], &value].concat());
    assert!(connection.check_connection());
}

#[test]
fn commands_without_replies_are_counted_right() {
    let server = TestServer::start();
    let mut shm = server.shm();

    for command in
        ["CLIENT REPLY OFF", "INCR hits", "INCR hits", "CLIENT REPLY ON", "CLIENT REPLY SKIP"]
    {
        shm.send(command);
    }
    for command in ["INCR hits", "GET hits"] {
        shm.send(command);
    }

    assert_eq!(shm.reply(), "+OK\r\n");
    assert_eq!(shm.reply(), "$1\r\n3\r\n");
}
