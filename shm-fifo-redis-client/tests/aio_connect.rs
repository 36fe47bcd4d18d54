//! Connecting on tokio: to servers that do not answer, at whatever moment, and without
//! a thread.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]
#![cfg(feature = "tokio")]

mod support;

use futures_util::future::join_all;
use redis::RedisError;
use shm_fifo_redis_client::{Client, Error, Transport};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::time::Duration;
use support::fake::{FakeServer, Peer};
use support::redis_server::RedisServer;
use support::runtime::on_one_thread;
use tempfile::TempDir;

const SOON: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(30);

fn client(address: &str) -> Client {
    Client::open(address).unwrap().response_timeout(LONG)
}

fn assert_timed_out<T>(result: Result<T, Error>) {
    let Err(error) = result else { panic!("it did not fail") };
    let error = RedisError::from(error);
    assert!(error.is_timeout(), "{error}");
}

/// So many connections that are begun together all end by their timeout.
async fn all_time_out(address: &str, connections: usize) {
    let client = client(address).connect_timeout(SOON);
    let connecting = (0..connections).map(|_| client.get_multiplexed_async_connection());
    join_all(connecting).await.into_iter().for_each(assert_timed_out);
}

#[test]
fn redis_hundreds_of_connects_to_a_stopped_server_end_in_time() {
    on_one_thread(async || {
        let server = RedisServer::start(&[]);
        server.stop();
        all_time_out(&server.unix_address(), 400).await;
        all_time_out(&server.tcp_address(), 400).await;
        server
    });
}

/// A unix socket's queue that is full refuses at once, and tells nobody when it has room.
#[test]
fn redis_a_full_queue_is_waited_for() {
    on_one_thread(async || {
        let server = RedisServer::start(&["--tcp-backlog", "8"]);
        server.stop();
        all_time_out(&server.unix_address(), 50).await;
        all_time_out(&server.tcp_address(), 50).await;
        server
    });
}

#[test]
fn a_connection_is_made_once_a_full_queue_has_room() {
    on_one_thread(async || {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("full.sock");
        let listener = UnixListener::bind(&path).unwrap();
        // What is never accepted fills it.
        let mut waiting = Vec::new();
        while let Ok(socket) = tokio::net::UnixStream::connect(&path).await {
            waiting.push(socket);
        }
        let client = client(&format!("unix://{}", path.display())).connect_timeout(LONG);
        let connecting = tokio::spawn(async move { client.get_async_stream().await });
        // On one thread: it has met the full queue before this goes on.
        tokio::task::yield_now().await;
        let server = std::thread::spawn(move || {
            for _ in &waiting {
                drop(listener.accept().unwrap());
            }
            let mut peer = Peer::Unix(listener.accept().unwrap().0);
            peer.greet();
        });
        let (stream, _) = connecting.await.unwrap().unwrap();
        assert_eq!(stream.transport(), Transport::UnixSocket);
        server.join().unwrap();
    });
}

/// A server that greets every client, and says nothing more.
fn silent_server(path: &std::path::Path, clients: usize) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let greet = |_| {
            let mut socket = listener.accept().unwrap().0;
            socket.write_all(b"+OK\r\n+OK\r\n").unwrap();
            socket
        };
        let sockets: Vec<_> = (0..clients).map(greet).collect();
        for socket in sockets {
            Peer::Unix(socket).wait_for_end();
        }
    })
}

#[test]
fn hundreds_of_moves_that_are_not_answered_end_in_time() {
    const CLIENTS: usize = 200;
    on_one_thread(async || {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("silent.sock");
        let server = silent_server(&path, CLIENTS);
        all_time_out(&format!("redis+shm+unix://{}", path.display()), CLIENTS).await;
        server.join().unwrap();
    });
}

#[test]
fn silence_at_any_moment_ends_in_time() {
    on_one_thread(async || {
        let at_start = FakeServer::unix(|mut peer| {
            peer.greet();
            let _region = peer.offer();
            peer.wait_for_end();
        });
        let in_the_ring = FakeServer::unix(|mut peer| {
            peer.greet();
            let region = peer.offer();
            peer.expect_start(&region);
            peer.say(&[0]);
            peer.wait_for_end();
        });
        for server in [&at_start, &in_the_ring] {
            all_time_out(&server.shm_address(), 1).await;
        }
        [at_start, in_the_ring]
    });
}

/// redis-rs says some words of its own, for which the same time counts.
#[test]
fn silence_after_the_move_ends_in_time() {
    on_one_thread(async || {
        let silent_in_shared_memory = |mut peer: Peer| {
            peer.expect("HELLO");
            peer.say(b"%0\r\n");
            let mut channel = peer.share();
            std::io::copy(&mut channel, &mut std::io::sink()).ok();
        };
        let servers = [(); 2].map(|()| FakeServer::unix(silent_in_shared_memory));
        let client = |server: &FakeServer| {
            let address = format!("{}?protocol=resp3", server.shm_address());
            client(&address).connect_timeout(SOON)
        };
        assert_timed_out(client(&servers[0]).get_multiplexed_async_connection().await);
        let subscription = client(&servers[1]).get_async_pubsub().await;
        assert!(subscription.err().unwrap().is_timeout());
        servers
    });
}

#[test]
fn a_connection_by_tcp_and_by_the_name_of_this_host_moves() {
    on_one_thread(async || {
        let play = |mut peer: Peer| {
            peer.greet();
            let region = peer.offer();
            drop(peer.start(region));
        };
        let servers = [(); 2].map(|()| FakeServer::tcp(play));
        let by_name = servers[1].place.replace("127.0.0.1", "localhost");
        for place in [&servers[0].place, &by_name] {
            let client = client(&format!("redis+shm://{place}")).connect_timeout(LONG);
            let (stream, refusal) = client.get_async_stream().await.unwrap();
            assert_eq!(stream.transport(), Transport::SharedMemory, "{refusal:?}");
        }
        servers
    });
}
