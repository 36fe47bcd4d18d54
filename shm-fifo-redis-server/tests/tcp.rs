//! Loopback TCP, where the descriptor comes beside the connection.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::Commands as _;
use shm_fifo_redis_client::{Client, Transport};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use support::{Random, TestServer, bulk, wait_until};

const NAME: &str =
    "-ERR SHM.OPEN: FDSOCKET takes the five hexadecimal digits of an autobound abstract socket\r\n";

#[test]
fn a_loopback_connection_moves() {
    let server = TestServer::start();
    for host in ["127.0.0.1", "localhost"] {
        let address = format!("redis+shm://{host}:{}?shm=require", server.port());
        let mut connection = Client::open(address.as_str()).unwrap().get_connection().unwrap();
        assert_eq!(connection.transport(), Transport::SharedMemory);
        let _: () = connection.set("key", host).unwrap();
        assert_eq!(connection.get::<_, String>("key").unwrap(), host);
    }
    wait_until("nothing is left", || server.holds_no_shared_memory());
}

#[test]
fn values_pass_as_over_a_unix_socket() {
    let server = TestServer::with_rings_of(4096);
    let mut shm = server.tcp().into_shm();
    let value = Random::seeded(6).bytes(1 << 20);

    let request = support::request(&[b"ECHO", &value]);

    assert!(shm.exchange(&request, 1) == [bulk(&value)]);
}

#[test]
fn over_tcp_a_name_is_needed() {
    let server = TestServer::start();
    let mut tcp = server.tcp();

    let reply = tcp.ask("SHM.OPEN 2");

    assert_eq!(
        reply,
        "-ERR SHM.OPEN: over TCP the file descriptor needs a way of its own; use SHM.OPEN 2 \
         FDSOCKET name\r\n"
    );
    tcp.into_shm().assert_answers();
}

#[test]
fn a_name_is_nothing_but_five_digits() {
    let server = TestServer::start();
    let mut tcp = server.tcp();
    for name in ["", "0001", "0001ff", "0001F", "0001g", "/tmp/", "@0001", "../..", "\x000001f"] {
        let words: [&[u8]; 4] = [b"SHM.OPEN", b"2", b"FDSOCKET", name.as_bytes()];
        assert_eq!(String::from_utf8(tcp.ask_words(&words)).unwrap(), NAME, "{name:?}");
        tcp.assert_answers();
    }
    assert!(server.holds_no_shared_memory());
}

#[test]
fn a_name_that_nobody_has_is_an_error() {
    let server = TestServer::start();
    let mut tcp = server.tcp();
    tcp.assert_answers();
    let fds = server.fds_at_rest(1);
    // Free again as soon as it is dropped.
    let free = autobound().1;

    let reply = tcp.ask(&format!("SHM.OPEN 2 FDSOCKET {free}"));

    assert!(reply.starts_with("-ERR SHM.OPEN: cannot send the file descriptor: "), "{reply}");
    assert!(reply.ends_with("; stay on the socket\r\n"), "{reply}");
    assert_eq!(server.fds_at_rest(1), fds);
    tcp.into_shm().assert_answers();
}

#[test]
fn a_full_mailbox_is_an_error_and_not_a_wait() {
    let server = TestServer::start();
    let (socket, name) = autobound();
    let open = format!("SHM.OPEN 2 FDSOCKET {name}");

    // Nobody reads: sooner or later the socket takes no more. Each of these is sent one.
    let mut replies = (0..10_000).map(|_| server.tcp().ask(&open));
    let refused = replies.find(|reply| !reply.starts_with("+OK ")).expect("it is full some time");

    assert!(refused.starts_with("-ERR SHM.OPEN: cannot send the file descriptor: "), "{refused}");
    drop(socket);
    wait_until("nothing is left", || server.holds_no_shared_memory());
}

/// A datagram socket with a name of the kernel's own form, a zero byte and five
/// digits, and those digits.
fn autobound() -> (UnixDatagram, String) {
    let bound = |digits: &String| {
        let address = SocketAddr::from_abstract_name(digits).unwrap();
        UnixDatagram::bind_addr(&address).ok()
    };
    (0..=0xF_FFFF)
        .map(|number| format!("{number:05x}"))
        .find_map(|digits| Some((bound(&digits)?, digits)))
        .unwrap()
}
