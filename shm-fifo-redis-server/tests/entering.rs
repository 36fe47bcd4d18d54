//! SHM.START: what a client has written into its ring before it is answered, and what the
//! server was about to send meanwhile.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo_redis_client::{Attempt, Refusal, move_to_shared_memory};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread;
use std::time::{Duration, Instant};
use support::{HandMade, Offer, PATIENCE, TestServer, Wire, request, wait_until};

/// A client on a socket that has asked for nothing yet but what `commands` say.
fn prepared(server: &TestServer, commands: &[&str]) -> HandMade {
    let mut socket = UnixStream::connect(server.socket()).unwrap();
    let mut stream = socket.try_clone().unwrap();
    for command in commands {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        socket.write_all(&request(&words)).unwrap();
        let mut reply = vec![0; 4096];
        let count = stream.read(&mut reply).unwrap();
        assert_ne!(reply[..count][0], b'-', "{command}");
    }
    HandMade::not_started(Offer::on(socket))
}

fn command(words: &str) -> Vec<u8> {
    request(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

/// The numbers of all keys that invalidations in `bytes` name, in their order.
fn keys_in(bytes: &[u8]) -> Vec<u32> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().filter_map(|line| line.strip_prefix("key:")?.parse().ok()).collect()
}

fn key(number: u32) -> String {
    format!("key:{number:08}")
}

/// What `CLIENT LIST` says of a client.
fn client_line(server: &TestServer, id: u64) -> String {
    server.ask(&format!("CLIENT LIST ID {id}"))
}

#[test]
fn requests_may_be_in_the_ring_before_start_is_sent() {
    let server = TestServer::start();
    let mut client = HandMade::not_started(Offer::from(&server));
    client.put(&command("INCR counter"));
    client.put(&command("PING"));

    client.send_start();

    assert_eq!(client.until_the_doorbell(), b"");
    assert_eq!(client.take(16), b"+OK\r\n:1\r\n+PONG\r\n");
    client.assert_answers();
}

#[test]
fn what_was_written_before_the_answer_is_executed_although_its_client_is_dead() {
    let server = TestServer::start();
    for round in 1..=50 {
        let mut client = HandMade::not_started(Offer::from(&server));
        client.send_start();
        client.send_early("INCR counter");
        drop(client);
        let counted = format!("{round}\r\n");
        wait_until("it was executed", || server.ask("GET counter").ends_with(&counted));
    }
    wait_until("nothing is left", || server.holds_no_shared_memory());
    assert_eq!(server.info("shm_missed_doorbells"), 0);
    assert_eq!(server.info("shm_protocol_errors"), 0);
}

#[test]
fn a_request_comes_at_any_moment_while_start_is_under_way() {
    let server = TestServer::start();
    for round in 0..300_u32 {
        let mut client = HandMade::not_started(Offer::from(&server));
        client.send_start();
        for _ in 0..round * 20 {
            std::hint::spin_loop();
        }
        client.send_early("PING");
        assert_eq!(client.until_the_doorbell(), b"");
        assert_eq!(client.take(12), b"+OK\r\n+PONG\r\n");
    }
}

#[test]
fn the_answer_comes_whatever_the_client_said_of_replies() {
    let server = TestServer::start();
    for silence in ["OFF", "SKIP"] {
        let mut socket = UnixStream::connect(server.socket()).unwrap();
        socket.write_all(&command(&format!("CLIENT REPLY {silence}"))).unwrap();
        let mut client = HandMade::not_started(Offer::on(socket));
        client.socket.write_all(&command(&format!("CLIENT REPLY {silence}"))).unwrap();
        client.send_start();
        client.send_early("CLIENT REPLY ON");
        assert_eq!(client.until_the_doorbell(), b"");
        assert_eq!(client.take(10), b"+OK\r\n+OK\r\n");
        client.assert_answers();
    }
}

#[test]
fn a_push_that_is_unsent_at_that_moment_follows_the_answer() {
    const PUSH: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$7\r\ntracked\r\n";
    const PONG: &[u8] = b"+PONG\r\n";
    let server = TestServer::start();
    server.ask("SET tracked 1");
    let mut client = prepared(&server, &["HELLO 3", "CLIENT TRACKING ON", "GET tracked"]);
    let mut other = server.plain();
    other.assert_answers();

    // Both are read in one turn of the server's loop, in this order.
    server.process().stop();
    other.send("SET tracked 2");
    client.send_start();
    client.send_early("PING");
    server.process().go_on();

    let before = client.until_the_doorbell();
    assert_eq!(client.take(5), b"+OK\r\n");
    let behind = client.take(PUSH.len() + PONG.len() - before.len());
    assert_eq!(other.reply(), "+OK\r\n");
    // The order may have been another one, for all that is said.
    let received = [before, behind].concat();
    let orders = [[PUSH, PONG].concat(), [PONG, PUSH].concat()];
    assert!(orders.contains(&received), "{}", received.escape_ascii());
}

/// A client that is told of each key that changes, but does not read: until the server has
/// begun to tell it of one that its socket cannot take. Returns how many keys have changed.
fn overwhelmed(server: &TestServer) -> (HandMade, u64, u32) {
    let client = prepared(server, &["HELLO 3", "CLIENT TRACKING ON BCAST"]);
    let list = server.ask("CLIENT LIST");
    let line = list.lines().find(|line| line.contains(" flags=t")).unwrap();
    let id = line.split("id=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let mut keys = 0;
    while client_line(server, id).contains(" oll=0 ") {
        for _ in 0..1000 {
            server.ask(&format!("SET {} x", key(keys)));
            keys += 1;
        }
    }
    (client, id, keys)
}

#[test]
fn start_waits_for_a_socket_that_is_full_of_pushes_and_its_offer_does_not_expire() {
    let server = TestServer::start();
    let (mut client, id, keys) = overwhelmed(&server);

    client.put(&command("PING"));
    client.send_start();

    wait_until("it waits", || client_line(&server, id).contains(" flags=bt"));
    // Time is the subject: an offer that was not started is dropped after five seconds.
    thread::sleep(Duration::from_secs(6));
    assert_eq!([server.info("shm_offers"), server.info("shm_sessions")], [1, 0]);
    assert!(server.ask("MODULE UNLOAD shm").starts_with("-ERR"));

    let before = client.until_the_doorbell();
    assert_eq!(client.take(5), b"+OK\r\n");
    // All that was begun was sent; the rest is behind the answer, in front of the reply.
    let mut told = keys_in(&before);
    let mut rest = Vec::new();
    while !rest.ends_with(b"+PONG\r\n") {
        rest.extend(client.take(1));
    }
    told.extend(keys_in(&rest));
    assert_eq!(told, (0..keys).collect::<Vec<_>>());
    assert_eq!([server.info("shm_offers"), server.info("shm_sessions")], [0, 1]);
}

#[test]
fn a_client_that_ends_while_its_start_waits_leaves_nothing() {
    let server = TestServer::start();
    for is_killed in [false, true] {
        let (mut client, id, _) = overwhelmed(&server);
        client.send_start();
        wait_until("it waits", || client_line(&server, id).contains(" flags=bt"));
        if is_killed {
            assert_eq!(server.ask(&format!("CLIENT KILL ID {id}")), ":1\r\n");
        }
        drop(client);
        wait_until("nothing is left", || server.holds_no_shared_memory());
        server.ask("FLUSHALL");
    }
    assert_eq!(server.ask("PING"), "+PONG\r\n");
    assert_eq!(server.ask("MODULE UNLOAD shm"), "+OK\r\n");
}

/// Moves a client that is told of each key that changes, once the server takes its offer.
fn move_amid_pushes(server: &TestServer) -> Wire {
    let mut wire = server.plain();
    wire.ask("HELLO 3");
    let mut stream = wire.into_stream();
    stream.write_all(&command("CLIENT TRACKING ON BCAST")).unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+OK\r\n");
    loop {
        match move_to_shared_memory(stream, Some(Instant::now() + PATIENCE)).unwrap() {
            Attempt::Moved(moved) => return Wire::over(moved),
            // Nothing was written into a ring yet: what is unsent is in the way of a reply.
            Attempt::Stayed(stayed, Refusal::Refused(reason))
                if reason.contains("SHM.OPEN: earlier") =>
            {
                stream = stayed;
            }
            Attempt::Stayed(_, refusal) => panic!("{refusal}"),
        }
    }
}

/// A writer that changes key after key, but runs so far ahead of its reader at most: else
/// neither would ever end.
#[derive(Debug, Default)]
struct Flood {
    written: AtomicU32,
    read: AtomicU32,
    is_over: AtomicBool,
}

impl Flood {
    const AHEAD: u32 = 2000;

    fn run(&self, mut writer: Wire) {
        for number in 0.. {
            while number > self.read.load(SeqCst) + Self::AHEAD && !self.is_over.load(SeqCst) {
                thread::yield_now();
            }
            if self.is_over.load(SeqCst) {
                break;
            }
            assert_eq!(writer.ask(&format!("SET {} x", key(number))), "+OK\r\n");
            self.written.store(number, SeqCst);
        }
    }
}

/// Ends a flood, also where the test fails.
struct End<'f>(&'f Flood);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, SeqCst);
    }
}

#[test]
fn a_client_that_is_told_of_changes_all_the_time_moves_and_misses_none() {
    let server = TestServer::start();
    let flood = Flood::default();
    thread::scope(|scope| {
        let writer = server.plain();
        scope.spawn(|| flood.run(writer));
        let _end = End(&flood);
        for _ in 0..100 {
            flood.read.store(flood.written.load(SeqCst), SeqCst);
            let mut client = move_amid_pushes(&server);
            client.send("PING");
            let mut told = Vec::new();
            let mut is_answered = false;
            while !is_answered || told.len() < 100 {
                let value = client.reply_bytes();
                is_answered |= value == b"+PONG\r\n";
                told.extend(keys_in(&value));
                flood.read.fetch_max(told.last().copied().unwrap_or(0), SeqCst);
            }
            let all = told[0]..;
            assert_eq!(told, all.take(told.len()).collect::<Vec<_>>());
        }
    });
}
