//! The Rust client as its users use it, on a real server: subscriptions, pools,
//! lost connections.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::{Commands, ConnectionLike, ControlFlow, PubSubCommands, RedisResult, Value, cmd};
use shm_fifo_redis_client::{Backoff, Client, Connection, Transport};
use std::time::Duration;
use support::{PATIENCE, TestServer, wait_until};

fn client(server: &TestServer) -> Client {
    let address = format!("redis+shm+unix://{}?shm=require", server.socket().display());
    Client::open(address).unwrap().connect_timeout(PATIENCE).response_timeout(PATIENCE)
}

fn id(connection: &mut impl ConnectionLike) -> RedisResult<u64> {
    cmd("CLIENT").arg("ID").query(connection)
}

/// A connection for each protocol.
fn of_each_protocol(server: &TestServer) -> [Connection; 2] {
    [server.connection(), server.connection_with("&protocol=resp3")]
}

#[test]
fn messages_arrive_in_order_and_the_connection_is_as_before_afterwards() {
    let server = TestServer::start();
    for mut connection in of_each_protocol(&server) {
        let mut publisher = server.connection();
        let mut subscription = connection.as_pubsub();
        subscription.subscribe(&["news", "weather"]).unwrap();
        subscription.psubscribe("w*").unwrap();
        for number in 0..100 {
            assert_eq!(publisher.publish::<_, _, u32>("news", number).unwrap(), 1);
        }
        for number in 0..100 {
            let message = subscription.get_message().unwrap();
            assert_eq!(message.get_channel_name(), "news");
            assert_eq!(message.get_payload::<u32>().unwrap(), number);
        }
        assert_eq!(publisher.publish::<_, _, u32>("weather", "fine").unwrap(), 2);
        assert!(!subscription.get_message().unwrap().from_pattern());
        assert!(subscription.get_message().unwrap().from_pattern());
        subscription.unsubscribe(&["news", "weather"]).unwrap();
        assert_eq!(publisher.publish::<_, _, u32>("news", "unheard").unwrap(), 0);
        // Messages nobody reads any more do not disturb what follows.
        assert_eq!(publisher.publish::<_, _, u32>("wind", "unread").unwrap(), 1);
        drop(subscription);
        assert!(connection.check_connection());
        assert_eq!(publisher.publish::<_, _, u32>("weather", "unheard").unwrap(), 0);
    }
}

#[test]
fn a_ping_during_a_subscription_is_answered_between_the_messages() {
    let server = TestServer::start();
    let [mut resp2, mut resp3] = of_each_protocol(&server);
    let mut subscription = resp2.as_pubsub();
    subscription.subscribe(&["a", "b", "c"]).unwrap();
    server.connection().publish::<_, _, u32>("b", "first").unwrap();
    let (pong, text): (String, String) = subscription.ping_message("hello").unwrap();
    assert_eq!((pong.as_str(), text.as_str()), ("pong", "hello"));
    assert_eq!(subscription.get_message().unwrap().get_payload::<String>().unwrap(), "first");
    let mut subscription = resp3.as_pubsub();
    subscription.subscribe(&["a", "b", "c"]).unwrap();
    assert_eq!(subscription.ping::<String>().unwrap(), "PONG");
}

#[test]
fn waiting_for_a_message_ends_in_time_and_nothing_is_lost() {
    let server = TestServer::start();
    let mut connection = server.connection();
    let mut subscription = connection.as_pubsub();
    subscription.subscribe("news").unwrap();
    subscription.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    for _ in 0..3 {
        assert!(subscription.get_message().unwrap_err().is_timeout());
    }
    server.connection().publish::<_, _, u32>("news", "late").unwrap();
    subscription.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(subscription.get_message().unwrap().get_payload::<String>().unwrap(), "late");
}

#[test]
fn a_refused_subscription_is_an_error_and_no_more() {
    let server = TestServer::start();
    assert_eq!(server.ask("ACL SETUSER me on nopass ~* +@all resetchannels"), "+OK\r\n");
    let mut connection = server.connection_with("&user=me&pass=x");
    let mut subscription = connection.as_pubsub();
    let error = subscription.subscribe("news").unwrap_err();
    assert_eq!(error.code(), Some("NOPERM"), "{error}");
    drop(subscription);
    assert!(connection.check_connection());
}

#[test]
fn a_closure_gets_messages_until_it_has_enough() {
    let server = TestServer::start();
    let mut connection = server.connection();
    let publisher = std::thread::spawn({
        let mut publisher = server.connection();
        move || {
            while publisher.publish::<_, _, u32>("news", "hello").unwrap() == 0 {
                std::thread::yield_now();
            }
        }
    });
    let heard: String = PubSubCommands::subscribe(&mut connection, "news", |message| {
        ControlFlow::Break(message.get_payload().unwrap())
    })
    .unwrap();
    assert_eq!(heard, "hello");
    publisher.join().unwrap();
    assert!(connection.check_connection());
}

#[test]
fn r2d2_hands_out_connections_in_shared_memory_and_replaces_broken_ones() {
    let server = TestServer::start();
    let pool = r2d2::Pool::builder().max_size(2).build(client(&server)).unwrap();
    let killed = {
        let mut connection = pool.get().unwrap();
        assert_eq!(connection.transport(), Transport::SharedMemory);
        id(&mut *connection).unwrap()
    };
    assert_eq!(server.ask(&format!("CLIENT KILL ID {killed}")), ":1\r\n");
    for _ in 0..4 {
        let mut connection = pool.get().unwrap();
        assert_ne!(id(&mut *connection).unwrap(), killed);
    }
}

#[test]
fn a_manager_connects_again_after_the_command_that_noticed() {
    let server = TestServer::start();
    let mut manager = client(&server).get_connection_manager().unwrap();
    let first = id(&mut manager).unwrap();
    assert_eq!(server.ask(&format!("CLIENT KILL ID {first}")), ":1\r\n");
    assert!(id(&mut manager).unwrap_err().is_connection_dropped());
    assert_ne!(id(&mut manager).unwrap(), first);
    assert_eq!(manager.connection().unwrap().transport(), Transport::SharedMemory);
    assert!(manager.is_open() && manager.check_connection());
}

#[test]
fn a_manager_that_connects_while_the_module_is_off_moves_once_it_is_on() {
    let server = TestServer::start();
    let client = client(&server).require_shared_memory(false);
    let mut manager = client.get_connection_manager().unwrap();
    let first = id(&mut manager).unwrap();
    server.ask(&format!("CLIENT KILL ID {first}"));
    assert!(id(&mut manager).unwrap_err().is_connection_dropped());
    wait_until("the server has freed everything", || server.holds_no_shared_memory());
    assert_eq!(server.ask("MODULE UNLOAD shm"), "+OK\r\n");

    let second = id(&mut manager).unwrap();
    assert_eq!(manager.connection().unwrap().transport(), Transport::UnixSocket);
    assert_eq!(server.load_module(), "+OK\r\n");

    // Between requests, and as the same client.
    wait_until("it moves", || {
        assert_eq!(id(&mut manager).unwrap(), second);
        manager.connection().unwrap().transport() == Transport::SharedMemory
    });
    assert!(manager.connection().unwrap().not_moved().is_none());
}

#[test]
fn a_manager_gives_up_after_its_attempts_and_at_once_where_they_cannot_help() {
    let mut server = TestServer::start();
    let backoff = Backoff::default().with_min_delay(Duration::from_millis(1)).with_max_times(3);
    let client = client(&server);
    let mut manager = client.get_connection_manager_with_backoff(backoff).unwrap();
    let refused = Client::open(format!(
        "redis+shm+unix://{}?pass=wrong&user=nobody",
        server.socket().display()
    ));
    assert!(refused.unwrap().get_connection_manager().is_err());
    server.kill();
    assert!(id(&mut manager).is_err());
    let error = id(&mut manager).unwrap_err().to_string();
    assert!(error.contains("cannot connect"), "{error}");
}

#[test]
fn a_thousand_connections_leave_nothing_behind() {
    let server = TestServer::start();
    let client = client(&server);
    for _ in 0..1000 {
        let mut connection = client.get_connection().unwrap();
        let _: Value = cmd("PING").query(&mut connection).unwrap();
    }
    wait_until("the server has freed everything", || server.holds_no_shared_memory());
}
