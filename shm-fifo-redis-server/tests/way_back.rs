//! The way back: a client that leaves the rings and goes on over its socket, as the same client.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use support::{HandMade, Offer, TestServer, request, wait_until};

fn command(words: &str) -> Vec<u8> {
    request(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

#[track_caller]
fn take(mut socket: &UnixStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    socket.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
}

#[track_caller]
fn ask(mut socket: &UnixStream, words: &str, expected: &str) {
    socket.write_all(&command(words)).unwrap();
    take(socket, expected);
}

#[test]
fn a_client_comes_back_as_the_same_client_and_may_move_again() {
    let server = TestServer::start();
    let mut client = HandMade::connect(&server);
    client.send("CLIENT SETNAME traveller");
    assert_eq!(client.take(5), b"+OK\r\n");
    client.send("SELECT 3");
    assert_eq!(client.take(5), b"+OK\r\n");

    let mut socket = client.come_back();

    ask(&socket, "SET here 1", "+OK\r\n");
    ask(&socket, "CLIENT GETNAME", "$9\r\ntraveller\r\n");
    assert!(server.ask("INFO keyspace").contains("db3:keys=1"));
    wait_until("nothing is left", || server.holds_no_shared_memory());
    assert_eq!(server.info("shm_sessions"), 0);
    assert_eq!(server.info("shm_total_returns"), 1);
    for _ in 0..20 {
        let offer = Offer::on(socket);
        let start = request(&[b"SHM.START", offer.token().as_bytes()]);
        let mut client = HandMade::start_with(offer, &start);
        assert_eq!(client.take(5), b"+OK\r\n");
        client.assert_answers();
        socket = client.come_back();
    }
    ask(&socket, "CLIENT GETNAME", "$9\r\ntraveller\r\n");
    assert_eq!(server.info("shm_protocol_errors"), 0);
}

#[test]
fn requests_and_replies_that_are_in_the_rings_come_first() {
    let server = TestServer::start();
    let mut client = HandMade::connect(&server);
    client.send("ECHO unread");
    wait_until("it is answered", || server.info("total_commands_processed") > 0);
    for number in 0..100 {
        client.put(&command(&format!("ECHO {number:02}")));
    }

    let socket = client.come_back();

    (&socket).write_all(&command("ECHO last")).unwrap();
    take(&socket, "$6\r\nunread\r\n");
    for number in 0..100 {
        take(&socket, &format!("$2\r\n{number:02}\r\n"));
    }
    take(&socket, "$4\r\nlast\r\n");
}

#[test]
fn it_comes_back_in_the_middle_of_a_command_and_in_any_state() {
    let server = TestServer::start();
    // Half a command.
    let mut client = HandMade::connect(&server);
    let (first, second) = (&command("ECHO halves")[..15], &command("ECHO halves")[15..]);
    client.put(first);
    client.ring();
    let mut socket = client.come_back();
    socket.write_all(second).unwrap();
    take(&socket, "$6\r\nhalves\r\n");

    // A transaction.
    let mut client = HandMade::connect(&server);
    client.send("MULTI");
    client.send("INCR counter");
    assert_eq!(client.take(14), b"+OK\r\n+QUEUED\r\n");
    let socket = client.come_back();
    ask(&socket, "EXEC", "*1\r\n:1\r\n");

    // Blocked.
    let mut client = HandMade::connect(&server);
    client.send("BLPOP list 0");
    wait_until("it is blocked", || server.info("blocked_clients") == 1);
    let socket = client.come_back();
    assert!(server.ask("RPUSH list element").starts_with(':'));
    take(&socket, "*2\r\n$4\r\nlist\r\n$7\r\nelement\r\n");

    // Subscribed.
    let mut client = HandMade::connect(&server);
    client.send("SUBSCRIBE news");
    let subscribed = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
    assert_eq!(client.take(subscribed.len()), subscribed);
    let socket = client.come_back();
    assert!(server.ask("PUBLISH news today").starts_with(":1"));
    take(&socket, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\ntoday\r\n");
    assert_eq!(server.info("shm_protocol_errors"), 0);
}

/// The ring is full, the server has more to say, and the socket does not take all of it.
#[test]
fn what_neither_ring_nor_socket_takes_follows() {
    const BYTES: usize = 3 << 20;
    let server = TestServer::with_rings_of(1 << 20);
    assert!(server.ask(&format!("SETRANGE big {} x", BYTES - 1)).starts_with(':'));
    let mut client = HandMade::connect(&server);
    client.send("GET big");
    client.wait_until_full();

    let mut socket = client.come_back();

    socket.write_all(&command("PING")).unwrap();
    take(&socket, &format!("${BYTES}\r\n"));
    let mut value = vec![1; BYTES];
    socket.read_exact(&mut value).unwrap();
    assert!(value[..BYTES - 1].iter().all(|&byte| byte == 0) && value[BYTES - 1] == b'x');
    take(&socket, "\r\n+PONG\r\n");
    wait_until("nothing is left", || server.holds_no_shared_memory());
}

#[test]
fn one_that_ends_on_its_way_back_leaves_nothing() {
    let server = TestServer::start();
    for round in 0..50 {
        let mut client = HandMade::connect(&server);
        client.send("ECHO unread");
        client.socket.write_all(&[1]).unwrap();
        if round % 2 == 0 {
            client.socket.write_all(b"PING\r\n").unwrap();
        }
        drop(client);
    }
    wait_until("nothing is left", || server.holds_no_shared_memory());
    assert!(server.ask("PING").starts_with("+PONG"));
}
