//! Asynchronous connections over shared memory, with a server that we play.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]
#![cfg(feature = "tokio")]

mod support;

use redis::{AsyncCommands, RedisResult, cmd, pipe};
use shm_fifo_redis_client::aio::{MultiplexedConnection, Stream};
use shm_fifo_redis_client::{Client, Refusal, SpinPolicy, Transport, WaitMode};
use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Duration;
use support::fake::{FakeServer, Words, bulk, read_command};
use support::runtime::on_one_thread;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SOON: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(30);

fn client(server: &FakeServer) -> Client {
    Client::open(server.shm_address()).unwrap().connect_timeout(LONG).response_timeout(LONG)
}

async fn connect(server: &FakeServer) -> MultiplexedConnection {
    let connection = client(server).get_multiplexed_async_connection().await.unwrap();
    assert_eq!(connection.transport(), Transport::SharedMemory);
    assert!(connection.not_moved().is_none());
    connection
}

async fn stream(server: &FakeServer) -> Stream {
    let (stream, refusal) = client(server).get_async_stream().await.unwrap();
    assert!(refusal.is_none());
    stream
}

/// Answers with the last word.
fn echo(words: &Words) -> Vec<u8> {
    bulk(&words[words.len() - 1])
}

#[test]
fn commands_are_answered() {
    on_one_thread(async || {
        let server = FakeServer::sharing(echo);
        let mut connection = connect(&server).await;
        for number in 0..1000 {
            let reply: u32 = connection.get(number).await.unwrap();
            assert_eq!(reply, number);
        }
        server
    });
}

#[test]
fn a_policy_that_spins_gives_the_same_answers() {
    on_one_thread(async || {
        let server = FakeServer::sharing(echo);
        let client = client(&server).wait_policy(SpinPolicy::new(WaitMode::Spin, 50_000));
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        for number in 0..1000 {
            let reply: u32 = connection.get(number).await.unwrap();
            assert_eq!(reply, number);
        }
        server
    });
}

#[test]
fn tasks_share_a_connection_and_each_gets_its_own_answers() {
    on_one_thread(async || {
        let server = FakeServer::sharing(echo);
        let connection = connect(&server).await;
        let ask = |number: u32| {
            let mut connection = connection.clone();
            async move { connection.get::<_, u32>(number).await.unwrap() }
        };
        let tasks: Vec<_> = (0..200).map(|number| tokio::spawn(ask(number))).collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap() as usize, number);
        }
        server
    });
}

#[test]
fn a_pipeline_of_which_the_replies_do_not_fit_does_not_deadlock() {
    on_one_thread(async || {
        // This server reads no command while it cannot get rid of a reply.
        let server = FakeServer::sharing(echo);
        let mut connection = connect(&server).await;
        let payload = "x".repeat(150);
        let mut pipeline = pipe();
        for number in 0..10_000 {
            pipeline.cmd("ECHO").arg(format!("{number}:{payload}"));
        }
        let replies: Vec<String> = pipeline.query_async(&mut connection).await.unwrap();
        for (number, reply) in replies.iter().enumerate() {
            assert_eq!(*reply, format!("{number}:{payload}"));
        }
        assert_eq!(replies.len(), 10_000);
        server
    });
}

#[test]
fn a_command_that_is_given_up_leaves_the_connection_in_order() {
    on_one_thread(async || {
        let (proceed, may_proceed) = mpsc::channel::<()>();
        let server = FakeServer::sharing(move |words| {
            if words[0] == b"WAIT" {
                may_proceed.recv().unwrap();
            }
            echo(words)
        });
        let mut connection = connect(&server).await;
        let mut wait = cmd("WAIT");
        wait.arg("late");
        let late = tokio::time::timeout(SOON, wait.query_async::<String>(&mut connection));
        assert!(late.await.is_err());
        proceed.send(()).unwrap();
        let reply: String = connection.get("in time").await.unwrap();
        assert_eq!(reply, "in time");
        server
    });
}

#[test]
fn reading_that_is_given_up_loses_nothing() {
    on_one_thread(async || {
        let (proceed, may_proceed) = mpsc::channel::<()>();
        let server = FakeServer::unix(move |peer| {
            let mut channel = peer.share();
            may_proceed.recv().unwrap();
            channel.write_all(b"+PONG\r\n").unwrap();
            channel.read_exact(&mut [0]).unwrap();
        });
        let mut stream = stream(&server).await;
        let mut answer = [0; 7];
        for _ in 0..3 {
            assert!(tokio::time::timeout(SOON, stream.read(&mut answer)).await.is_err());
        }
        proceed.send(()).unwrap();
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *b"+PONG\r\n");
        stream.write_all(b"x").await.unwrap();
        server
    });
}

#[test]
fn a_reader_and_a_writer_in_tasks_of_their_own_are_both_woken() {
    on_one_thread(async || {
        // Echoes byte by byte, so that either side often waits for the other.
        let server = FakeServer::unix(|peer| {
            let mut channel = peer.share();
            let mut buffer = [0; 700];
            while let Ok(count @ 1..) = channel.read(&mut buffer) {
                channel.write_all(&buffer[..count]).unwrap();
            }
        });
        let (mut reader, mut writer) = tokio::io::split(stream(&server).await);
        let sent: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            writer.write_all(&sent).await.unwrap();
            writer
        });
        let mut received = vec![0; expected.len()];
        reader.read_exact(&mut received).await.unwrap();
        assert!(received == expected);
        drop(writing.await.unwrap());
        server
    });
}

#[test]
fn other_tasks_run_while_a_server_never_stops_sending() {
    on_one_thread(async || {
        let server = FakeServer::unix(|peer| {
            let mut channel = peer.share();
            while channel.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let mut stream = stream(&server).await;
        let flood = tokio::spawn(async move {
            let mut buffer = [0; 512];
            while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        });
        tokio::time::sleep(SOON).await;
        flood.abort();
        assert!(flood.await.unwrap_err().is_cancelled());
        server
    });
}

#[test]
fn a_response_timeout_is_redis_own() {
    on_one_thread(async || {
        let server = FakeServer::unix(|peer| {
            let mut channel = peer.share();
            while read_command(&mut channel).is_ok_and(|words| words.is_some()) {}
        });
        let client = client(&server).response_timeout(SOON);
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let error = connection.get::<_, String>("key").await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        server
    });
}

#[test]
fn the_end_of_the_server_fails_what_waits_and_what_follows() {
    on_one_thread(async || {
        let server = FakeServer::unix(|peer| {
            read_command(&mut peer.share()).unwrap();
        });
        let mut connection = connect(&server).await;
        let result: RedisResult<String> = connection.get("key").await;
        assert!(result.unwrap_err().is_connection_dropped());
        let result: RedisResult<String> = connection.get("key").await;
        assert!(result.unwrap_err().is_unrecoverable_error());
        while !connection.is_closed() {
            tokio::task::yield_now().await;
        }
        server
    });
}

#[test]
fn a_server_that_breaks_the_protocol_ends_the_connection() {
    on_one_thread(async || {
        let server = FakeServer::sharing(|_| b"HTTP/1.1 200\r\n".to_vec());
        let mut connection = connect(&server).await;
        let result: RedisResult<String> = connection.get("key").await;
        assert!(result.is_err());
        server
    });
}

#[test]
fn what_cannot_move_stays_on_its_socket_and_says_why() {
    on_one_thread(async || {
        let server = FakeServer::unix(|mut peer| {
            peer.greet();
            peer.expect("SHM.OPEN");
            peer.say(b"-ERR unknown command 'SHM.OPEN'\r\n");
            peer.expect("GET");
            peer.say(b"$5\r\nvalue\r\n");
        });
        let mut connection = client(&server).get_multiplexed_async_connection().await.unwrap();
        assert_eq!(connection.transport(), Transport::UnixSocket);
        assert!(matches!(connection.not_moved(), Some(Refusal::NoModule)));
        let value: String = connection.get("key").await.unwrap();
        assert_eq!(value, "value");
        server
    });
}

#[test]
fn pushes_that_came_while_moving_are_the_first_thing_read() {
    on_one_thread(async || {
        let server = FakeServer::unix(|mut peer| {
            peer.greet();
            let region = peer.offer();
            peer.expect_start(&region);
            peer.say(b"-ERR no\r\n");
            peer.say(b"+more\r\n");
        });
        let (mut stream, refusal) = client(&server).get_async_stream().await.unwrap();
        assert!(matches!(refusal, Some(Refusal::Refused(_))));
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"+more\r\n");
        server
    });
}

#[test]
fn subscriptions_receive_messages() {
    on_one_thread(async || {
        let server = FakeServer::unix(|peer| {
            let mut channel = peer.share();
            assert_eq!(read_command(&mut channel).unwrap().unwrap()[0], b"SUBSCRIBE");
            channel.write_all(b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n").unwrap();
            channel.write_all(b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n").unwrap();
            channel.read_exact(&mut [0]).ok();
        });
        let mut subscription = client(&server).get_async_pubsub().await.unwrap();
        subscription.subscribe("news").await.unwrap();
        let message = futures_util::StreamExt::next(&mut subscription.on_message()).await.unwrap();
        assert_eq!(message.get_payload::<String>().unwrap(), "hello");
        server
    });
}
