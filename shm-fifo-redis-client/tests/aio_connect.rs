//! Connecting on tokio: to servers that do not answer, at whatever moment, and without
//! a thread.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]
#![cfg(feature = "tokio")]

mod support;

use futures_util::future::join_all;
use redis::RedisError;
use shm_fifo_redis_client::aio::MultiplexedConnection;
use shm_fifo_redis_client::{Client, Error, Transport};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;
use support::fake::{FakeServer, Peer, read_command};
use support::redis_server::RedisServer;
use support::runtime::on_one_thread;
use tempfile::TempDir;
use tokio::sync::oneshot;

const SOON: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(30);
const VERY_LONG: Duration = Duration::from_secs(3600);

fn client(address: &str) -> Client {
    Client::open(address).unwrap().response_timeout(VERY_LONG)
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

/// What is connecting ends by its timeout, also where the server falls silent in the
/// middle, which it tells.
async fn time_out_in_silence<T: Send + 'static>(
    silence: oneshot::Receiver<()>,
    connecting: impl IntoIterator<Item: Future<Output = Result<T, Error>> + Send + 'static>,
) {
    let connecting: Vec<_> = connecting.into_iter().map(tokio::spawn).collect();
    silence.await.unwrap();
    // From here the clock goes on by itself, once everything waits.
    tokio::time::pause();
    for connecting in connecting {
        assert_timed_out(connecting.await.unwrap());
    }
    tokio::time::resume();
}

async fn connect(client: Client) -> Result<MultiplexedConnection, Error> {
    client.get_multiplexed_async_connection().await
}

/// A server that greets so many clients, and says nothing more.
fn silent_server(
    path: &Path,
    clients: usize,
    silent: oneshot::Sender<()>,
) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let mut peers: Vec<_> =
            (0..clients).map(|_| Peer::Unix(listener.accept().unwrap().0)).collect();
        for peer in &mut peers {
            peer.greet();
            peer.expect("SHM.OPEN");
        }
        silent.send(()).unwrap();
        peers.iter_mut().for_each(Peer::wait_for_end);
    })
}

#[test]
fn hundreds_of_moves_that_are_not_answered_end_in_time() {
    const CLIENTS: usize = 200;
    on_one_thread(async || {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("silent.sock");
        let (silent, silence) = oneshot::channel();
        let server = silent_server(&path, CLIENTS, silent);
        let client = client(&format!("redis+shm+unix://{}", path.display())).connect_timeout(LONG);
        time_out_in_silence(silence, (0..CLIENTS).map(|_| connect(client.clone()))).await;
        server.join().unwrap();
    });
}

#[test]
fn silence_after_the_offer_ends_in_time() {
    on_one_thread(async || {
        let (silent, silence) = oneshot::channel();
        let server = FakeServer::unix(move |mut peer| {
            peer.greet();
            let region = peer.offer();
            peer.expect_start(&region);
            silent.send(()).unwrap();
            peer.wait_for_end();
        });
        let client = client(&server.shm_address()).connect_timeout(LONG);
        time_out_in_silence(silence, [connect(client)]).await;
        server
    });
}

#[test]
fn silence_in_shared_memory_ends_in_time() {
    on_one_thread(async || {
        let (silent, silence) = oneshot::channel();
        let server = FakeServer::unix(move |mut peer| {
            peer.greet();
            let region = peer.offer();
            peer.expect_start(&region);
            peer.say(&[0]);
            silent.send(()).unwrap();
            peer.wait_for_end();
        });
        let client = client(&server.shm_address()).connect_timeout(LONG);
        time_out_in_silence(silence, [connect(client)]).await;
        server
    });
}

/// A server that moves a connection, and does not answer what redis-rs says then.
fn silent_after_the_move(silent: oneshot::Sender<()>) -> FakeServer {
    FakeServer::unix(move |peer| {
        // In RESP3 the server could push before, and that would be taken for the answer.
        let mut channel = peer.share();
        assert_eq!(read_command(&mut channel).unwrap().unwrap()[0], b"HELLO");
        silent.send(()).unwrap();
        std::io::copy(&mut channel, &mut std::io::sink()).ok();
    })
}

#[test]
fn the_first_words_of_redis_rs_count_among_connecting() {
    on_one_thread(async || {
        let (silent, silence) = oneshot::channel();
        let server = silent_after_the_move(silent);
        let address = format!("{}?protocol=resp3", server.shm_address());
        time_out_in_silence(silence, [connect(client(&address).connect_timeout(LONG))]).await;

        let (silent, silence) = oneshot::channel();
        let other = silent_after_the_move(silent);
        let address = format!("{}?protocol=resp3", other.shm_address());
        let client = client(&address).connect_timeout(LONG);
        let subscribing = async move { client.get_async_pubsub().await.map_err(Error::SetUp) };
        time_out_in_silence(silence, [subscribing]).await;
        [server, other]
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
