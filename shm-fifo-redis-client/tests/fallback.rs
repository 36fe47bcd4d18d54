//! A real Redis without the module: everything works, on the socket.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::{Commands, ConnectionLike, ErrorKind, RedisResult, Script, Value, cmd, pipe};
use shm_fifo_redis_client::{Client, Connection, Error, Refusal, Transport};
use support::redis_server::RedisServer;
use support::watchdog::watched;

fn connect(address: &str) -> Connection {
    Client::open(address).unwrap().get_connection().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn redis_without_the_module_is_talked_to_on_the_socket() {
    watched(|| {
        let server = RedisServer::start(&[]);
        let table = [
            (server.unix_address(), Transport::UnixSocket),
            (server.tcp_address(), Transport::Tcp),
        ];
        for (address, transport) in table {
            let mut connection = connect(&address);
            assert_eq!(connection.transport(), transport);
            assert!(matches!(connection.not_moved(), Some(Refusal::NoModule)));
            let _: () = connection.set("key", "value").unwrap();
            assert_eq!(connection.get::<_, String>("key").unwrap(), "value");
        }
    });
}

#[test]
fn an_address_without_shm_is_not_even_asked_for() {
    watched(|| {
        let server = RedisServer::start(&[]);
        let connection = connect(&server.unix_address().replace("+shm", ""));
        assert_eq!(connection.transport(), Transport::UnixSocket);
        assert!(connection.not_moved().is_none());
    });
}

#[test]
fn required_shared_memory_is_an_error_that_names_the_remedy() {
    watched(|| {
        let server = RedisServer::start(&[]);
        let by_option = Client::open(format!("{}?shm=require", server.unix_address())).unwrap();
        let plain = server.unix_address().replace("+shm", "");
        let by_builder = Client::open(plain).unwrap().require_shared_memory(true);
        for client in [by_option, by_builder] {
            let error = client.get_connection().unwrap_err();
            assert!(matches!(error, Error::NotShared(Refusal::NoModule)));
            assert!(error.to_string().contains("MODULE LOAD"), "{error}");
        }
    });
}

#[test]
fn what_redis_rs_builds_on_a_connection_works() {
    watched(|| {
        let server = RedisServer::start(&[]);
        let mut connection = connect(&server.unix_address());
        let keys: Vec<String> = (0..500).map(|number| format!("key:{number}")).collect();
        let mut pipeline = pipe();
        for key in &keys {
            pipeline.set(key, 1).ignore();
        }
        pipeline.exec(&mut connection).unwrap();
        assert_eq!(connection.scan::<String>().unwrap().count(), 500);

        let script = Script::new("return ARGV[1] + redis.call('GET', KEYS[1])");
        let sum: i32 = script.key("key:1").arg(41).invoke(&mut connection).unwrap();
        assert_eq!(sum, 42);

        let (old, new): (i32, i32) =
            redis::transaction(&mut connection, &["key:2"], |connection, pipeline| {
                let old: i32 = connection.get("key:2")?;
                pipeline.set("key:2", old + 1).ignore().get("key:2");
                let new: Option<(i32,)> = pipeline.query(connection)?;
                Ok(new.map(|(new,)| (old, new)))
            })
            .unwrap();
        assert_eq!((old, new), (1, 2));
    });
}

#[test]
fn a_pipeline_larger_than_all_socket_buffers_does_not_deadlock() {
    watched(|| {
        let server = RedisServer::start(&[]);
        let mut connection = connect(&server.unix_address());
        let payload = vec![b'x'; 2000];
        let mut pipeline = pipe();
        for _ in 0..10_000 {
            pipeline.cmd("ECHO").arg(&payload[..]);
        }
        let replies: Vec<Vec<u8>> = pipeline.query(&mut connection).unwrap();
        assert!(replies.len() == 10_000 && replies.iter().all(|reply| *reply == payload));
    });
}

#[test]
fn the_address_decides_on_protocol_user_and_database() {
    watched(|| {
        let users = "--user me on >secret allcommands allkeys --user default off";
        let server = RedisServer::start(&users.split(' ').collect::<Vec<_>>());
        for protocol in ["resp2", "resp3"] {
            let query = format!("user=me&pass=secret&db=3&protocol={protocol}");
            let mut connection = connect(&format!("{}?{query}", server.unix_address()));
            assert_eq!(connection.get_db(), 3);
            let mut info = cmd("CLIENT");
            let info: String = info.arg("INFO").query(&mut connection).unwrap();
            assert!(info.contains("user=me") && info.contains("db=3"), "{info}");
        }
        let tcp = server.tcp_address().replace("://", "://me:secret@") + "/3?protocol=resp3";
        let mut connection = connect(&tcp);
        let map = cmd("CONFIG").arg("GET").arg("port").query::<Value>(&mut connection).unwrap();
        assert!(matches!(map, Value::Map(_)), "{map:?}");
    });
}

#[test]
fn a_wrong_password_is_told_as_such() {
    watched(|| {
        let server = RedisServer::start(&["--requirepass", "right"]);
        for protocol in ["resp2", "resp3"] {
            let query = format!("pass=wrong&protocol={protocol}");
            let client = Client::open(format!("{}?{query}", server.unix_address())).unwrap();
            let error: RedisResult<Connection> = client.get_connection().map_err(Into::into);
            assert_eq!(error.unwrap_err().kind(), ErrorKind::AuthenticationFailed);
        }
    });
}

#[test]
fn an_address_where_nobody_listens_is_named() {
    watched(|| {
        let error = Client::open("redis+shm+unix:///nowhere.sock").unwrap().get_connection();
        let error = error.unwrap_err();
        assert!(error.to_string().contains("/nowhere.sock"), "{error}");
        assert!(redis::RedisError::from(error).is_connection_refusal());
    });
}

#[test]
fn subscriptions_are_read_as_messages() {
    watched(|| {
        let server = RedisServer::start(&[]);
        let mut subscriber = connect(&server.unix_address());
        let mut publisher = connect(&server.unix_address());
        let subscribe = cmd("SUBSCRIBE").arg("news").get_packed_command();
        subscriber.send_packed_command(&subscribe).unwrap();
        subscriber.recv_response().unwrap();
        let listeners: i32 = publisher.publish("news", "hello").unwrap();
        assert_eq!(listeners, 1);
        let message = redis::Msg::from_owned_value(subscriber.recv_message().unwrap()).unwrap();
        assert_eq!(message.get_payload::<String>().unwrap(), "hello");
    });
}

#[test]
fn a_killed_client_is_not_open() {
    watched(|| {
        let server = RedisServer::start(&[]);
        let mut connection = connect(&server.unix_address());
        let id: i64 = cmd("CLIENT").arg("ID").query(&mut connection).unwrap();
        let mut killer = connect(&server.unix_address());
        cmd("CLIENT").arg("KILL").arg("ID").arg(id).exec(&mut killer).unwrap();
        assert!(!connection.check_connection());
        assert!(!connection.is_open());
    });
}
