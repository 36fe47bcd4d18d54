//! Asynchronous redis-rs connections in shared memory, on a real server.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use futures_util::StreamExt;
use redis::{AsyncCommands, ProtocolVersion, PushKind, RedisResult, Script, Value, cmd, pipe};
use shm_fifo_redis_client::aio::{ConnectionManager, MultiplexedConnection};
use shm_fifo_redis_client::{Address, Client, SpinPolicy, Transport, WaitMode};
use support::{PATIENCE, ServerOptions, TestServer, wait_until};
use tokio::sync::mpsc::unbounded_channel;

fn client(server: &TestServer, options: &str) -> Client {
    let address = format!("redis+shm+unix://{}?shm=require{options}", server.socket().display());
    with_patience(&address)
}

fn with_patience(address: &str) -> Client {
    Client::open(address).unwrap().connect_timeout(PATIENCE).response_timeout(PATIENCE)
}

async fn connect(server: &TestServer) -> MultiplexedConnection {
    client(server, "").get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test]
async fn commands_pipelines_transactions_and_scripts_work() {
    let server = TestServer::start();
    let mut connection = connect(&server).await;
    assert_eq!(connection.transport(), Transport::SharedMemory);
    let _: () = connection.set("key", "value").await.unwrap();
    assert_eq!(connection.get::<_, String>("key").await.unwrap(), "value");

    let mut pipeline = pipe();
    for number in 0..5000 {
        pipeline.rpush("list", number).ignore();
    }
    pipeline.llen("list");
    assert_eq!(pipeline.query_async::<(u32,)>(&mut connection).await.unwrap(), (5000,));

    let mut transaction = pipe();
    transaction.atomic().incr("counter", 1).incr("counter", 2);
    assert_eq!(transaction.query_async::<(u32, u32)>(&mut connection).await.unwrap(), (1, 3));

    let script = Script::new("return redis.call('GET', KEYS[1]) .. ARGV[1]");
    let reply: String = script.key("key").arg("!").invoke_async(&mut connection).await.unwrap();
    assert_eq!(reply, "value!");
    assert_eq!(server.info("shm_sessions"), 1);
}

/// A connection that may spin for an answer is not rung for it.
#[tokio::test]
async fn a_connection_that_may_spin_does_so_before_its_task_sleeps() {
    let server = TestServer::start();
    let patient = SpinPolicy::new(WaitMode::Spin, 1_000_000_000);
    let client = client(&server, "").wait_policy(patient);
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let before = server.info("shm_doorbells_sent");
    for _ in 0..1000 {
        assert_eq!(cmd("PING").query_async::<String>(&mut connection).await.unwrap(), "PONG");
    }
    let rung = server.info("shm_doorbells_sent") - before;
    // An answer that comes before the spinning begins is rung for: seldom.
    assert!(rung < 500, "the server rang {rung} times for 1000 replies");
}

#[tokio::test]
async fn values_larger_than_the_ring_pass_both_ways() {
    let server = TestServer::with_rings_of(4096);
    let mut connection = connect(&server).await;
    let value: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    let _: () = connection.set("key", &value).await.unwrap();
    let stored: Vec<u8> = connection.get("key").await.unwrap();
    assert!(stored == value);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_on_two_threads_get_their_own_answers() {
    let server = TestServer::start();
    let connection = connect(&server).await;
    let echo = |task: u32| {
        let mut connection = connection.clone();
        async move {
            for number in 0..200 {
                let sent = format!("{task}:{number}");
                let reply: RedisResult<String> =
                    cmd("ECHO").arg(&sent).query_async(&mut connection).await;
                assert_eq!(reply.unwrap(), sent);
            }
        }
    };
    let tasks: Vec<_> = (0..50).map(|task| tokio::spawn(echo(task))).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn over_tcp_the_descriptor_comes_beside_the_connection() {
    let server = TestServer::start();
    let client = with_patience(&format!("redis+shm://127.0.0.1:{}?shm=require", server.port()));
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    assert_eq!(connection.transport(), Transport::SharedMemory);
    assert_eq!(connection.set::<_, _, Value>("key", 1).await.unwrap(), Value::Okay);
}

#[tokio::test]
async fn user_password_database_and_protocol_are_what_the_address_says() {
    let server = ServerOptions::default().start();
    assert_eq!(server.ask("ACL SETUSER me on >secret ~* &* +@all"), "+OK\r\n");
    let client = client(&server, "&user=me&pass=secret&db=3&protocol=resp3");
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let user: String = cmd("ACL").arg("WHOAMI").query_async(&mut connection).await.unwrap();
    assert_eq!(user, "me");
    let info: String = cmd("CLIENT").arg("INFO").query_async(&mut connection).await.unwrap();
    assert!(info.contains(" db=3 "), "{info}");
    let hello: Value = cmd("HELLO").query_async(&mut connection).await.unwrap();
    assert!(matches!(hello, Value::Map(_)), "in RESP2 it would be an array: {hello:?}");
}

#[tokio::test]
async fn messages_of_subscriptions_arrive_in_order() {
    let server = TestServer::start();
    let mut subscription = client(&server, "").get_async_pubsub().await.unwrap();
    subscription.subscribe(&["news", "weather"]).await.unwrap();
    subscription.psubscribe("w*").await.unwrap();
    let mut publisher = connect(&server).await;
    for number in 0..100 {
        let receivers: u32 = publisher.publish("news", number).await.unwrap();
        assert_eq!(receivers, 1);
    }
    let mut messages = subscription.on_message();
    for number in 0..100 {
        let message = messages.next().await.unwrap();
        assert_eq!(message.get_payload::<u32>().unwrap(), number);
    }
}

#[tokio::test]
async fn pushes_reach_the_sender_of_a_multiplexed_connection() {
    let server = TestServer::start();
    let address: Address =
        format!("redis+shm+unix://{}?shm=require&protocol=resp3", server.socket().display())
            .parse()
            .unwrap();
    assert_eq!(address.info().redis_settings().protocol(), ProtocolVersion::RESP3);
    let (sender, mut pushes) = unbounded_channel();
    let config = redis::AsyncConnectionConfig::new().set_push_sender(sender);
    let client = Client::open(address).unwrap().connect_timeout(PATIENCE);
    let mut connection =
        client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    connection.subscribe("news").await.unwrap();
    let _: u32 = connection.publish("news", "hello").await.unwrap();
    loop {
        let push = pushes.recv().await.unwrap();
        if push.kind == PushKind::Message {
            assert_eq!(push.data[1], Value::BulkString(b"hello".into()));
            return;
        }
    }
}

#[tokio::test]
async fn a_killed_connection_fails_and_a_manager_makes_it_anew() {
    let server = TestServer::start();
    let manager = client(&server, "").get_async_connection_manager().await.unwrap();
    let mut connection = manager.clone();
    let id: u64 = cmd("CLIENT").arg("ID").query_async(&mut connection).await.unwrap();
    assert_eq!(server.ask(&format!("CLIENT KILL ID {id}")), ":1\r\n");
    // The command that notices fails; what follows goes to another connection.
    let mut ids = Vec::new();
    for _ in 0..3 {
        let reply: RedisResult<u64> =
            cmd("CLIENT").arg("ID").query_async(&mut manager.clone()).await;
        ids.extend(reply.ok());
    }
    assert!(ids.len() >= 2, "{ids:?}");
    assert!(!ids.contains(&id));
    assert_eq!(manager.connection().await.unwrap().transport(), Transport::SharedMemory);
}

/// A manager that had to stay on its socket, because another client had the only place.
async fn refused_manager(server: &TestServer) -> ConnectionManager {
    let occupant = server.shm();
    let address = format!("redis+shm+unix://{}", server.socket().display());
    let manager = with_patience(&address).get_async_connection_manager().await.unwrap();
    assert_eq!(manager.connection().await.unwrap().transport(), Transport::UnixSocket);
    drop(occupant);
    wait_until("there is room", || server.info("shm_sessions") == 0);
    manager
}

#[tokio::test]
async fn a_manager_that_was_refused_asks_again_after_some_requests() {
    const REQUESTS: usize = 25;
    let server = ServerOptions::default().module_args(&["max-sessions", "1"]).start();
    let mut manager = refused_manager(&server).await;
    let mut requests = 0;
    while manager.connection().await.unwrap().transport() == Transport::UnixSocket {
        let _: String = cmd("ECHO").arg("hello").query_async(&mut manager).await.unwrap();
        requests += 1;
    }
    assert!(requests > REQUESTS, "after {requests}");
    assert_eq!(server.info("shm_sessions"), 1);
    // The one that it had before is not kept.
    let asking = 1;
    wait_until("it is gone", || server.info("connected_clients") == 1 + asking);
}

#[tokio::test]
async fn a_manager_keeps_the_connection_whose_state_was_changed() {
    const MANY: usize = 100;
    let server = ServerOptions::default().module_args(&["max-sessions", "1"]).start();
    let mut manager = refused_manager(&server).await;
    let _: () = cmd("SELECT").arg(3).query_async(&mut manager).await.unwrap();
    let before = server.info("total_connections_received");
    for _ in 0..MANY {
        let _: String = cmd("ECHO").arg("hello").query_async(&mut manager).await.unwrap();
    }
    let client: String = cmd("CLIENT").arg("INFO").query_async(&mut manager).await.unwrap();
    assert!(client.contains(" db=3 "), "{client}");
    assert_eq!(server.info("total_connections_received"), before);
}

#[tokio::test]
async fn a_manager_whose_server_is_gone_says_so_after_its_attempts() {
    let mut server = TestServer::start();
    let backoff = shm_fifo_redis_client::Backoff::default()
        .with_min_delay(std::time::Duration::from_millis(1))
        .with_max_times(3);
    let client = client(&server, "");
    let manager = client.get_async_connection_manager_with_backoff(backoff).await.unwrap();
    server.kill();
    for _ in 0..2 {
        let reply: RedisResult<u64> =
            cmd("CLIENT").arg("ID").query_async(&mut manager.clone()).await;
        assert!(reply.is_err());
    }
    let error = manager.connection().await.unwrap_err();
    assert!(error.to_string().contains("cannot connect"), "{error}");
}

#[tokio::test]
async fn bb8_hands_out_connections_in_shared_memory_and_replaces_broken_ones() {
    let server = TestServer::start();
    let pool = bb8::Pool::builder().max_size(2).build(client(&server, "")).await.unwrap();
    let id: u64 = {
        let mut connection = pool.get().await.unwrap();
        assert_eq!(connection.transport(), Transport::SharedMemory);
        cmd("CLIENT").arg("ID").query_async(&mut *connection).await.unwrap()
    };
    assert_eq!(server.ask(&format!("CLIENT KILL ID {id}")), ":1\r\n");
    let mut connection = pool.get().await.unwrap();
    let other: u64 = cmd("CLIENT").arg("ID").query_async(&mut *connection).await.unwrap();
    assert_ne!(other, id);
}

#[tokio::test]
async fn a_thousand_connections_leave_nothing_behind() {
    let server = TestServer::start();
    let client = client(&server, "");
    let own_fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut before = 0;
    for round in 0..1000 {
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let _: Value = cmd("PING").query_async(&mut connection).await.unwrap();
        if round == 10 {
            before = own_fds();
        }
    }
    // Tests beside this one have descriptors too, but not hundreds.
    wait_until("the last connections are closed", || own_fds() < before + 200);
    tokio::task::yield_now().await;
    wait_until("the server has freed everything", || server.holds_no_shared_memory());
}
