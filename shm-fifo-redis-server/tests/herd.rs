//! Many clients that come at once, and some that never have enough.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::fd_passing::recv_with_fd;
use shm_fifo_redis_client::wire::{FdSocket, open_command};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use support::{HandMade, Offer, PATIENCE, ServerOptions, TestServer, request, wait_until};

const MANY: usize = 250;

fn connected(server: &TestServer) -> UnixStream {
    let socket = UnixStream::connect(server.socket()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// How often the server has executed a command.
fn calls(server: &TestServer, command: &str) -> u64 {
    let stats = server.ask("INFO commandstats");
    let name = format!("cmdstat_{command}:calls=");
    let count = stats.lines().find_map(|line| line.strip_prefix(&name)?.split(',').next());
    count.map_or(0, |count| count.parse().unwrap())
}

#[test]
fn all_of_many_that_ask_at_once_move() {
    let server = TestServer::start();
    let mut sockets: Vec<_> = (0..MANY).map(|_| connected(&server)).collect();
    for socket in &mut sockets {
        socket.write_all(&request(&[b"SHM.OPEN", b"2"])).unwrap();
    }

    // No SHM.START before all are answered.
    let offers: Vec<Offer> = sockets
        .into_iter()
        .map(|socket| {
            let (count, fd) = recv_with_fd(&socket, &mut [0; 5], 0).unwrap();
            assert_eq!(count, 5);
            Offer { socket, fd: fd.expect("each gets memory") }
        })
        .collect();
    let mut clients: Vec<_> = offers.into_iter().map(HandMade::not_started).collect();
    clients.iter_mut().for_each(HandMade::send_start);

    for client in &mut clients {
        assert_eq!(client.until_the_doorbell(), b"");
        assert_eq!(client.take(5), b"+OK\r\n");
        client.assert_answers();
    }
    assert_eq!(server.info("shm_sessions"), MANY as u64);
    assert_eq!(server.info("shm_offers"), 0);
}

/// They send something behind their question, and end.
#[test]
fn what_many_have_sent_is_executed_although_they_have_ended() {
    let server = TestServer::start();
    let mut sockets: Vec<_> = (0..MANY).map(|_| connected(&server)).collect();
    let last_words = [request(&[b"SHM.OPEN", b"2"]), request(&[b"INCR", b"counter"])].concat();
    for socket in &mut sockets {
        socket.write_all(&last_words).unwrap();
    }
    drop(sockets);

    wait_until("they are gone", || server.info("connected_clients") == 1);
    assert_eq!(server.ask("GET counter"), format!("$3\r\n{MANY}\r\n"));
}

#[test]
fn those_that_ask_and_never_start_keep_nobody_out() {
    let server = TestServer::start();
    let mut hoarders: Vec<_> = (0..100).map(|_| Offer::from(&server)).collect();
    assert_eq!(server.info("shm_offers"), 100);
    for _ in 0..3 {
        hoarders = hoarders.into_iter().map(|offer| Offer::on(offer.socket)).collect();
        server.shm().assert_answers();
    }
    assert_eq!(server.info("shm_offers"), 100);
}

#[test]
fn however_often_it_asks_a_client_has_one_descriptor_under_way() {
    const TIMES: usize = 400;
    const UNREAD: &[u8] =
        b"-ERR SHM.OPEN: the answer to an earlier SHM.OPEN is still unread; read it first\r\n";
    let server = TestServer::start();
    let mut socket = connected(&server);
    socket.write_all(&request(&[b"SHM.OPEN", b"2"]).repeat(TIMES)).unwrap();
    wait_until("all are executed", || calls(&server, "shm.open") == TIMES as u64);

    let wanted = [b"+OK\r\n", &*UNREAD.repeat(TIMES - 1)].concat();
    let mut received = Vec::new();
    let mut fds = Vec::new();
    while received.len() < wanted.len() {
        let mut chunk = [0; 4096];
        let (count, fd) = recv_with_fd(&socket, &mut chunk, 0).unwrap();
        received.extend_from_slice(&chunk[..count]);
        fds.extend(fd);
    }

    assert_eq!(received.escape_ascii().to_string(), wanted.escape_ascii().to_string());
    assert_eq!(fds.len(), 1);
    // All is read: it may ask again.
    drop(Offer::on(socket));
}

#[test]
fn so_it_is_over_tcp() {
    let server = TestServer::start();
    let mut socket = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let fd_socket = FdSocket::bind().unwrap();
    let mut ask = || {
        socket.write_all(&open_command(Some(&fd_socket))).unwrap();
        let mut reply = [0; 256];
        let count = socket.read(&mut reply).unwrap();
        String::from_utf8_lossy(&reply[..count]).into_owned()
    };

    assert!(ask().starts_with("+OK "));
    let refused = ask();
    assert!(refused.contains("still unread"), "{refused}");
    assert!(fd_socket.take_fd().is_some());
    assert!(ask().starts_with("+OK "));
}

#[test]
fn a_client_that_ends_while_its_region_is_made_leaves_nothing() {
    // None is ready where another one would not fit beside it.
    let arguments = ["ring-bytes", "4096", "max-memory", "12288"];
    let server = ServerOptions::default().module_args(&arguments).start();
    for _ in 0..5 {
        let mut socket = connected(&server);
        socket.write_all(&request(&[b"SHM.OPEN", b"2"])).unwrap();
        drop(socket);
        server.ask("PING");
    }
    wait_until("they are gone", || server.info("connected_clients") == 1);
    wait_until("nothing is left", || server.holds_no_shared_memory());
    server.shm().assert_answers();
    assert_eq!(server.info("shm_ready_regions"), 0);
}
