//! What the server sends without being asked: messages, pushes, MONITOR.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::{Commands as _, PushKind, Value, cmd};
use std::sync::mpsc::channel;
use support::{Random, TestServer, bulk, request};

fn message(channel: &str, payload: &[u8]) -> Vec<u8> {
    [&b"*3\r\n$7\r\nmessage\r\n"[..], &bulk(channel.as_bytes()), &bulk(payload)].concat()
}

#[test]
fn a_subscriber_gets_messages_of_socket_and_shm_clients() {
    let server = TestServer::start();
    let mut subscriber = server.shm();
    assert_eq!(subscriber.ask("SUBSCRIBE news"), "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");

    for mut publisher in [server.plain(), server.shm()] {
        assert_eq!(publisher.ask("PUBLISH news hello"), ":1\r\n");
        assert_eq!(subscriber.reply_bytes(), message("news", b"hello"));
    }

    assert!(subscriber.ask("UNSUBSCRIBE news").ends_with(":0\r\n"));
    subscriber.assert_answers();
    assert_eq!(server.ask("PUBLISH news again"), ":0\r\n");
}

#[test]
fn patterns_are_subscribed_to() {
    let server = TestServer::start();
    let mut subscriber = server.shm();
    subscriber.ask("PSUBSCRIBE news.*");

    server.ask("PUBLISH news.local hello");
    server.ask("PUBLISH weather rain");
    server.ask("PUBLISH news.world bye");

    let prefix = "*4\r\n$8\r\npmessage\r\n$6\r\nnews.*\r\n";
    assert_eq!(subscriber.reply(), format!("{prefix}$10\r\nnews.local\r\n$5\r\nhello\r\n"));
    assert_eq!(subscriber.reply(), format!("{prefix}$10\r\nnews.world\r\n$3\r\nbye\r\n"));
}

#[test]
fn a_subscription_made_before_the_move_goes_on_after_it() {
    let server = TestServer::start();
    // A subscriber in RESP2 may send little but PING and QUIT; in RESP3 it may.
    let mut subscriber = server.plain();
    subscriber.ask("HELLO 3");
    subscriber.ask("SUBSCRIBE news");
    let mut subscriber = subscriber.into_shm();

    server.ask("PUBLISH news hello");

    assert_eq!(subscriber.reply(), ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n");
}

#[test]
fn large_messages_reach_many_subscribers_whole() {
    let server = TestServer::with_rings_of(4096);
    let mut subscribers: Vec<_> = (0..8).map(|_| server.shm()).collect();
    for subscriber in &mut subscribers {
        subscriber.ask("SUBSCRIBE bulk");
    }
    let payload = Random::seeded(5).bytes(1 << 20);

    let mut publisher = server.shm();
    let reply = publisher.exchange(&request(&[b"PUBLISH", b"bulk", &payload]), 1);

    assert_eq!(reply, [b":8\r\n"]);
    let expected = message("bulk", &payload);
    for subscriber in &mut subscribers {
        assert!(subscriber.reply_bytes() == expected);
    }
}

#[test]
fn resp3_pushes_come_between_replies() {
    let server = TestServer::start();
    let mut connection = server.connection_with("&protocol=resp3");
    let (sender, pushes) = channel();
    connection.set_push_sender(sender);
    let _: () = connection.set("key", 1).unwrap();
    let _: () = cmd("CLIENT").arg("TRACKING").arg("ON").query(&mut connection).unwrap();
    let _: i64 = connection.get("key").unwrap();

    server.ask("SET key 2");

    // The invalidation was sent before this is answered.
    assert_eq!(connection.get::<_, i64>("key").unwrap(), 2);
    let push = pushes.try_recv().unwrap();
    assert_eq!(push.kind, PushKind::Invalidate);
    assert_eq!(push.data, [Value::Array(vec![Value::BulkString(b"key".to_vec())])]);
}

#[test]
fn a_subscribed_resp3_client_can_do_everything_else() {
    let server = TestServer::start();
    let mut shm = server.shm();
    shm.ask("HELLO 3");
    shm.ask("SUBSCRIBE news");

    for number in 0..100 {
        server.ask(&format!("PUBLISH news {number}"));
        shm.send(&format!("ECHO {number}"));
    }

    let values: Vec<String> = (0..200).map(|_| shm.reply()).collect();
    let (pushes, replies): (Vec<_>, Vec<_>) =
        values.into_iter().partition(|value| value.starts_with('>'));
    let text = |number: i32| String::from_utf8(bulk(number.to_string().as_bytes())).unwrap();
    assert!(replies.into_iter().eq((0..100).map(text)));
    assert!(pushes.iter().zip(0..100).all(|(push, number)| push.ends_with(&text(number))));
}

#[test]
fn monitor_shows_what_others_do() {
    let server = TestServer::start();
    let mut monitor = server.shm();
    assert_eq!(monitor.ask("MONITOR"), "+OK\r\n");
    let (mut plain, mut shm) = (server.plain(), server.shm());

    plain.ask("SET from socket");
    shm.ask("SET from memory");

    assert!(monitor.reply().contains(r#""SET" "from" "socket""#));
    assert!(monitor.reply().contains(r#""SET" "from" "memory""#));
}
