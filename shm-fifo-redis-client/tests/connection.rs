//! redis-rs' interface over shared memory, with a server that we play.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::{
    Commands, ConnectionLike, IntoConnectionInfo, PushKind, RedisResult, Value, cmd, pipe,
};
use shm_fifo_redis_client::{Client, Connection, Error, Transport};
use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Duration;
use support::fake::{FakeServer, Words, bulk, read_command};
use support::watchdog::watched;

const SOON: Duration = Duration::from_millis(20);

fn connect(server: &FakeServer) -> Connection {
    let connection = Client::open(server.shm_address()).unwrap().get_connection().unwrap();
    assert_eq!(connection.transport(), Transport::SharedMemory);
    assert!(connection.not_moved().is_none());
    connection
}

/// Answers `PING` with `PONG` and anything else with its last word.
fn echo(words: &Words) -> Vec<u8> {
    if words[0] == b"PING" { b"+PONG\r\n".to_vec() } else { bulk(&words[words.len() - 1]) }
}

#[test]
fn commands_are_answered() {
    watched(|| {
        let server = FakeServer::sharing(echo);
        let mut connection = connect(&server);
        assert!(connection.check_connection());
        let echoed: String = cmd("ECHO").arg("hello").query(&mut connection).unwrap();
        assert_eq!(echoed, "hello");
        let name: String = connection.get("name").unwrap();
        assert_eq!(name, "name");
    });
}

#[test]
fn a_pipeline_of_which_the_replies_do_not_fit_does_not_deadlock() {
    watched(|| {
        // This server reads no command while it cannot get rid of a reply.
        let server = FakeServer::sharing(echo);
        let mut connection = connect(&server);
        let payload = "x".repeat(150);
        let mut pipeline = pipe();
        for number in 0..10_000 {
            pipeline.cmd("ECHO").arg(format!("{number}:{payload}"));
        }
        let replies: Vec<String> = pipeline.query(&mut connection).unwrap();
        for (number, reply) in replies.iter().enumerate() {
            assert_eq!(*reply, format!("{number}:{payload}"));
        }
        assert_eq!(replies.len(), 10_000);
    });
}

#[test]
fn one_command_and_reply_larger_than_the_ring_pass() {
    watched(|| {
        let server = FakeServer::sharing(echo);
        let payload: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        let echoed: Vec<u8> = cmd("ECHO").arg(&payload[..]).query(&mut connect(&server)).unwrap();
        assert_eq!(echoed, payload);
    });
}

#[test]
fn a_late_reply_is_dropped() {
    watched(|| {
        let mut late = Vec::new();
        // `WAIT` is answered only with the command behind it.
        let server = FakeServer::sharing(move |words| {
            let reply = [std::mem::take(&mut late), echo(words)].concat();
            if words[0] != b"WAIT" {
                return reply;
            }
            late = reply;
            Vec::new()
        });
        let mut connection = connect(&server);
        connection.set_response_timeout(Some(SOON)).unwrap();
        for command in ["WAIT", "WAIT"] {
            let late: RedisResult<String> = cmd(command).arg("late").query(&mut connection);
            assert!(late.unwrap_err().is_timeout());
        }
        connection.set_response_timeout(None).unwrap();
        assert!(connection.is_open());
        let reply: String = cmd("ECHO").arg("in time").query(&mut connection).unwrap();
        assert_eq!(reply, "in time");
    });
}

#[test]
fn the_rest_of_a_late_pipeline_is_dropped() {
    watched(|| {
        let mut late = Vec::new();
        let server = FakeServer::sharing(move |words| {
            let reply = [std::mem::take(&mut late), echo(words)].concat();
            if !words[1].starts_with(b"late") {
                return reply;
            }
            // A push on the way is no reply: it must not be taken for one.
            late = [b">1\r\n+invalidate\r\n".to_vec(), reply].concat();
            Vec::new()
        });
        let mut connection = connect(&server);
        connection.set_response_timeout(Some(SOON)).unwrap();
        let mut pipeline = pipe();
        pipeline.cmd("ECHO").arg("soon").cmd("ECHO").arg("late 1").cmd("ECHO").arg("late 2");
        let result: RedisResult<Vec<String>> = pipeline.query(&mut connection);
        assert!(result.unwrap_err().is_timeout());
        connection.set_response_timeout(None).unwrap();
        let reply: String = cmd("ECHO").arg("in time").query(&mut connection).unwrap();
        assert_eq!(reply, "in time");
    });
}

#[test]
fn errors_in_a_pipeline_leave_the_replies_behind_them_in_place() {
    watched(|| {
        let server = FakeServer::sharing(|words| match &words[0][..] {
            b"FAIL" => b"-ERR no\r\n".to_vec(),
            _ => echo(words),
        });
        let mut connection = connect(&server);
        let mut pipeline = pipe();
        pipeline.cmd("FAIL").cmd("ECHO").arg(1);
        assert!(pipeline.query::<Vec<i32>>(&mut connection).is_err());
        let reply: i32 = cmd("ECHO").arg(2).query(&mut connection).unwrap();
        assert_eq!(reply, 2);
    });
}

#[test]
fn a_command_that_cannot_be_queued_fails_its_transaction_and_nothing_else() {
    watched(|| {
        let server = FakeServer::sharing(|words| match &words[0][..] {
            b"MULTI" => b"+OK\r\n".to_vec(),
            b"FAIL" => b"-ERR unknown command\r\n".to_vec(),
            b"SET" => b"+QUEUED\r\n".to_vec(),
            b"EXEC" => b"-EXECABORT discarded\r\n".to_vec(),
            _ => echo(words),
        });
        let mut connection = connect(&server);
        let mut transaction = pipe();
        transaction.atomic().cmd("SET").arg("a").arg(1).cmd("FAIL");
        let error = transaction.query::<Vec<Value>>(&mut connection).unwrap_err();
        assert!(error.to_string().contains("unknown command"), "{error}");
        assert!(connection.check_connection());
    });
}

#[test]
fn pushes_between_replies_go_to_the_sender() {
    watched(|| {
        let server = FakeServer::sharing(|words| {
            [b">2\r\n+message\r\n:7\r\n".to_vec(), echo(words)].concat()
        });
        let mut connection = connect(&server);
        let (sender, pushes) = mpsc::channel();
        connection.set_push_sender(sender);
        let mut pipeline = pipe();
        pipeline.cmd("ECHO").arg(1).cmd("ECHO").arg(2);
        assert_eq!(pipeline.query::<Vec<i32>>(&mut connection).unwrap(), [1, 2]);
        drop(connection);
        let pushes: Vec<_> = pushes.iter().map(|push| (push.kind, push.data)).collect();
        assert_eq!(pushes, vec![(PushKind::Message, vec![Value::Int(7)]); 2]);
    });
}

#[test]
fn a_command_without_response_waits_for_none() {
    watched(|| {
        let server = FakeServer::sharing(|words| match &words[0][..] {
            b"SILENT" => Vec::new(),
            _ => echo(words),
        });
        let mut connection = connect(&server);
        let value = connection.req_command(cmd("SILENT").set_no_response(true)).unwrap();
        assert_eq!(value, Value::Nil);
        assert!(connection.check_connection());
    });
}

#[test]
fn messages_can_be_waited_for_again_after_a_timeout() {
    watched(|| {
        let (proceed, may_proceed) = mpsc::channel::<()>();
        let server = FakeServer::unix(move |peer| {
            let mut channel = peer.share();
            assert_eq!(read_command(&mut channel).unwrap().unwrap()[0], b"MONITOR");
            channel.write_all(b"+OK\r\n").unwrap();
            may_proceed.recv().unwrap();
            channel.write_all(b"+1 [0 unix:] \"PING\"\r\n").unwrap();
        });
        let mut connection = connect(&server);
        connection.send_packed_command(&cmd("MONITOR").get_packed_command()).unwrap();
        assert_eq!(connection.recv_response().unwrap(), Value::Okay);
        connection.set_read_timeout(Some(SOON)).unwrap();
        assert!(connection.recv_message().unwrap_err().is_timeout());
        connection.set_read_timeout(None).unwrap();
        proceed.send(()).unwrap();
        let line = connection.recv_message().unwrap();
        assert_eq!(line, Value::SimpleString("1 [0 unix:] \"PING\"".to_owned()));
    });
}

#[test]
fn the_end_of_the_server_closes_the_connection_after_its_last_reply() {
    watched(|| {
        let server = FakeServer::unix(|peer| {
            let mut channel = peer.share();
            read_command(&mut channel).unwrap();
            channel.write_all(b"+OK\r\n").unwrap();
        });
        let mut connection = connect(&server);
        let (sender, pushes) = mpsc::channel();
        connection.set_push_sender(sender);
        assert_eq!(cmd("QUIT").query::<Value>(&mut connection).unwrap(), Value::Okay);
        assert!(connection.is_open());
        let error = cmd("PING").query::<Value>(&mut connection).unwrap_err();
        assert!(error.is_connection_dropped(), "{error}");
        assert!(!connection.is_open());
        assert_eq!(pushes.recv().unwrap().kind, PushKind::Disconnection);
        let error = cmd("PING").query::<Value>(&mut connection).unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
    });
}

#[test]
fn a_reply_that_is_none_closes_the_connection() {
    watched(|| {
        let server = FakeServer::sharing(|_| b"HTTP/1.1 200\r\n".to_vec());
        let mut connection = connect(&server);
        assert!(!connection.check_connection());
        assert!(!connection.is_open());
    });
}

#[test]
fn a_write_timeout_in_the_middle_of_a_command_closes_the_connection() {
    watched(|| {
        let (proceed, may_proceed) = mpsc::channel::<()>();
        let server = FakeServer::unix(move |peer| {
            let _channel = peer.share();
            // Reads nothing until the client has given up.
            let _ = may_proceed.recv();
        });
        let mut connection = connect(&server);
        connection.set_response_timeout(Some(SOON)).unwrap();
        let result: RedisResult<()> = cmd("ECHO").arg(vec![0; 100_000]).exec(&mut connection);
        assert!(result.unwrap_err().is_timeout());
        assert!(!connection.is_open());
        drop(proceed);
    });
}

/// A server that answers its first command with `flood`, for ever.
fn flooding(beginning: &'static [u8], flood: &'static [u8]) -> FakeServer {
    FakeServer::unix(move |peer| {
        let mut channel = peer.share();
        let mut byte = [0];
        channel.read_exact(&mut byte).unwrap();
        channel.write_all(beginning).unwrap();
        while channel.write_all(flood).is_ok() {}
    })
}

#[test]
fn a_server_that_never_stops_sending_meets_the_timeout() {
    watched(|| {
        let floods: [(&[u8], &[u8]); 2] =
            [(b"*999999999\r\n", b":1\r\n"), (b"", b">1\r\n+invalidate\r\n")];
        for (beginning, flood) in floods {
            let server = flooding(beginning, flood);
            let mut connection = connect(&server);
            connection.set_response_timeout(Some(SOON)).unwrap();
            let error = cmd("GET").arg("key").query::<Value>(&mut connection).unwrap_err();
            assert!(error.is_timeout(), "{error}");
        }
    });
}

#[test]
fn a_server_that_only_sends_and_never_reads_meets_the_timeout() {
    watched(|| {
        let server = flooding(b"", b":1\r\n");
        let mut connection = connect(&server);
        connection.set_response_timeout(Some(SOON)).unwrap();
        let result: RedisResult<()> = cmd("ECHO").arg(vec![0; 100_000]).exec(&mut connection);
        assert!(result.unwrap_err().is_timeout());
        assert!(!connection.is_open());
    });
}

#[test]
fn timeouts_of_zero_and_empty_commands_are_refused() {
    watched(|| {
        let server = FakeServer::sharing(echo);
        let mut connection = connect(&server);
        assert!(connection.set_response_timeout(Some(Duration::ZERO)).is_err());
        assert!(connection.send_packed_command(b"").is_err());
        assert!(connection.check_connection());
    });
}

#[test]
fn connecting_ends_in_time() {
    watched(|| {
        let server = FakeServer::unix(|mut peer| peer.wait_for_end());
        let info = format!("unix://{}", server.place).into_connection_info().unwrap();
        // Without a greeting, which could take all the time.
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        let client = Client::open(info.set_redis_settings(settings)).unwrap();
        let error = client.get_connection_with_timeout(SOON).unwrap_err();
        assert!(matches!(error, Error::Move(_)), "{error}");
        assert!(redis::RedisError::from(error).is_timeout());
    });
}
