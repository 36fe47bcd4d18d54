//! Connections that move only when they have shown to be long-lived.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::{ConnectionLike, RedisResult, Value, cmd};
use shm_fifo_redis_client::{Client, LazyConnection, Transport};
use support::fake::{FakeServer, Peer, Words, bulk, read_command, serve};
use support::watchdog::watched;

/// Requests that a lazy connection makes over its socket.
const BEFORE: usize = 25;

/// Answers as a server does, in and out of transactions.
fn answer(words: &Words) -> Vec<u8> {
    match &words[0][..] {
        b"MULTI" | b"CLIENT" | b"SET" => b"+OK\r\n".to_vec(),
        b"QUEUE" => b"+QUEUED\r\n".to_vec(),
        b"EXEC" => b"*0\r\n".to_vec(),
        b"FAIL" => b"-ERR no\r\n".to_vec(),
        other => bulk(other),
    }
}

/// Serves on the socket until the client asks to move, then as `refused` says.
fn play(mut peer: Peer, refused: bool) {
    while let Some(words) = read_command(&mut peer).unwrap() {
        if words[0] != b"SHM.OPEN" {
            peer.say(&answer(&words));
        } else if refused {
            peer.say(b"-ERR no room\r\n");
        } else {
            let region = peer.offer_to(&words);
            return serve(peer.start(region), answer);
        }
    }
}

fn connect(server: &FakeServer) -> LazyConnection {
    Client::open(server.shm_address()).unwrap().get_lazy_connection().unwrap()
}

fn transport(connection: &mut LazyConnection) -> Transport {
    connection.connection().unwrap().transport()
}

fn say(connection: &mut LazyConnection, word: &str) -> RedisResult<Value> {
    connection.req_command(&cmd(word))
}

#[test]
fn it_moves_after_some_requests_and_answers_go_on() {
    watched(|| {
        let server = FakeServer::unix(|peer| play(peer, false));
        let mut connection = connect(&server);
        for number in 0..BEFORE {
            assert_eq!(transport(&mut connection), Transport::UnixSocket, "request {number}");
            let echoed: String = cmd("hello").query(&mut connection).unwrap();
            assert_eq!(echoed, "hello");
        }
        let echoed: String = cmd("moved").query(&mut connection).unwrap();
        assert_eq!(echoed, "moved");
        assert_eq!(transport(&mut connection), Transport::SharedMemory);
    });
}

#[test]
fn it_does_not_move_within_a_transaction() {
    watched(|| {
        let server = FakeServer::unix(|peer| play(peer, false));
        let mut connection = connect(&server);
        say(&mut connection, "MULTI").unwrap();
        for word in ["QUEUE", "FAIL"].iter().cycle().take(2 * BEFORE) {
            say(&mut connection, word).ok();
        }
        assert_eq!(transport(&mut connection), Transport::UnixSocket);
        say(&mut connection, "EXEC").unwrap();
        say(&mut connection, "hello").unwrap();
        assert_eq!(transport(&mut connection), Transport::SharedMemory);
    });
}

#[test]
fn refused_it_stays_on_its_socket_and_says_why() {
    watched(|| {
        let server = FakeServer::unix(|peer| play(peer, true));
        let mut connection = connect(&server);
        for _ in 0..2 * BEFORE {
            say(&mut connection, "hello").unwrap();
        }
        let connection = connection.connection().unwrap();
        assert_eq!(connection.transport(), Transport::UnixSocket);
        assert!(connection.not_moved().unwrap().to_string().contains("no room"));
    });
}

#[test]
fn what_was_refused_for_a_reason_that_passes_is_tried_again() {
    watched(|| {
        let server = FakeServer::unix(|mut peer| {
            // Without the module, then with a limit that is reached, then moved.
            for refusal in ["unknown command 'SHM.OPEN'", "SHM.OPEN: no room"] {
                while let Some(words) = read_command(&mut peer).unwrap()
                    && words[0] != b"SHM.OPEN"
                {
                    peer.say(&answer(&words));
                }
                peer.say(format!("-ERR {refusal}\r\n").as_bytes());
            }
            play(peer, false);
        });
        let mut connection = connect(&server);
        // Twice as many requests each time, and one that finds it to be time.
        for _ in 0..(1 + 2 + 4) * BEFORE + 2 {
            assert_eq!(transport(&mut connection), Transport::UnixSocket);
            say(&mut connection, "hello").unwrap();
        }
        say(&mut connection, "hello").unwrap();
        assert_eq!(transport(&mut connection), Transport::SharedMemory);
        assert!(connection.connection().unwrap().not_moved().is_none());
    });
}

#[test]
fn lost_while_it_moves_it_says_so_ever_after() {
    watched(|| {
        let server = FakeServer::unix(|mut peer| {
            while let Some(words) = read_command(&mut peer).unwrap()
                && words[0] != b"SHM.OPEN"
            {
                peer.say(&answer(&words));
            }
        });
        let mut connection = connect(&server);
        for _ in 0..BEFORE {
            say(&mut connection, "hello").unwrap();
        }
        assert!(say(&mut connection, "hello").is_err());
        assert!(!connection.is_open());
        assert!(!connection.check_connection());
        assert!(say(&mut connection, "hello").unwrap_err().is_connection_dropped());
    });
}

#[test]
fn where_shared_memory_is_required_it_moves_at_once() {
    watched(|| {
        let server = FakeServer::sharing(answer);
        let client = Client::open(server.shm_address()).unwrap().require_shared_memory(true);
        let mut connection = client.get_lazy_connection().unwrap();
        assert_eq!(transport(&mut connection), Transport::SharedMemory);
    });
}
