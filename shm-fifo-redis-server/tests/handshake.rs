//! SHM.OPEN and SHM.START: what they refuse, and that nothing is lost by it.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo_redis_client::{Attempt, Refusal, Stream, move_to_shared_memory};
use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{HandMade, Offer, ServerOptions, TestServer, Wire, request, wait_until};

/// Asserts that each command is refused with its text and changes nothing.
#[track_caller]
fn assert_refused(wire: &mut Wire, table: &[(&str, &str)]) {
    for (command, text) in table {
        assert_eq!(wire.ask(command), format!("-{text}\r\n"), "{command}");
        wire.assert_answers();
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_reason_and_leaks_nothing() {
    const USAGE: &str = "ERR SHM.OPEN: wrong number of arguments; use SHM.OPEN 2 [FDSOCKET name]";
    const VERSION_1: &str =
        "ERR SHM.OPEN: protocol version 1 is no longer spoken; this server speaks version 2";
    const VERSION: &str = "ERR SHM.OPEN: unknown protocol version; this server speaks version 2";
    const TOKEN: &str = "ERR SHM.START: the token is 32 hexadecimal digits, read from the region that SHM.OPEN sent";
    const NO_OFFER: &str =
        "ERR SHM.START: nothing is offered to this connection, or no longer; send SHM.OPEN first";
    let server = TestServer::start();
    let mut plain = server.plain();
    plain.assert_answers();
    let before = server.fds_at_rest(1);

    let long = format!("SHM.OPEN {}", "2".repeat(70_000));
    assert_refused(
        &mut plain,
        &[
            ("SHM.OPEN", USAGE),
            ("SHM.OPEN 2 FDSOCKET", USAGE),
            ("SHM.OPEN 2 ELSEWHERE 0001f", USAGE),
            ("SHM.OPEN 2 FDSOCKET 0001f more", USAGE),
            ("SHM.OPEN 1", VERSION_1),
            ("SHM.OPEN 3", VERSION),
            ("SHM.OPEN 02", VERSION),
            ("SHM.OPEN -2", VERSION),
            ("SHM.OPEN NaN", VERSION),
            (&long, VERSION),
            (
                "SHM.OPEN 2 FDSOCKET 0001f",
                "ERR SHM.OPEN: FDSOCKET is for TCP connections; over a unix socket use SHM.OPEN 2",
            ),
            ("SHM.START", "ERR SHM.START: wrong number of arguments; use SHM.START token"),
            (
                "SHM.START 00112233445566778899aabbccddeeff more",
                "ERR SHM.START: wrong number of arguments; use SHM.START token",
            ),
            ("SHM.START 00112233445566778899aabbccddeef", TOKEN),
            ("SHM.START 00112233445566778899aabbccddeeffg", TOKEN),
            ("SHM.START 0x112233445566778899aabbccddeeff", TOKEN),
            ("SHM.START +0112233445566778899aabbccddeeff", TOKEN),
            ("SHM.START 00112233445566778899aabbccddeeff", NO_OFFER),
            ("SHM.LIST all", "ERR SHM.LIST: wrong number of arguments; SHM.LIST takes none"),
        ],
    );

    assert_eq!(server.fds_at_rest(1), before);
    plain.into_shm().assert_answers();
}

#[test]
fn a_server_whose_client_command_was_renamed_says_so() {
    let server =
        ServerOptions::default().config("loadmodule MODULE\nrename-command CLIENT \"\"\n").start();
    assert_refused(
        &mut server.plain(),
        &[(
            "SHM.OPEN 2",
            "ERR SHM.OPEN: the server does not let modules call its CLIENT LIST (rename-command?); stay on the socket",
        )],
    );
}

#[test]
fn a_wrong_token_leaves_the_offer_as_it_was() {
    let server = TestServer::start();
    let mut offer = Offer::from(&server);

    let wrong = offer.ask("SHM.START 00112233445566778899aabbccddeeff");
    assert_eq!(
        wrong,
        "-ERR SHM.START: this is not the token of the offered region; read it from there\r\n"
    );
    assert_eq!(offer.ask("PING"), "+PONG\r\n");
    let others = Offer::from(&server).token();
    assert!(offer.ask(&format!("SHM.START {others}")).contains("not the token"));

    let token = offer.token();
    assert_eq!(offer.ask(&format!("SHM.START {token}")), "\0");
}

#[test]
fn a_second_open_replaces_the_offer() {
    let server = TestServer::start();
    let first = Offer::from(&server);
    let first_token = first.token();

    let mut second = Offer::on(first.socket);

    assert_eq!(server.info("shm_offers"), 1);
    assert!(second.ask(&format!("SHM.START {first_token}")).contains("not the token"));
    let token = second.token();
    assert_eq!(second.ask(&format!("SHM.START {token}")), "\0");
    assert_eq!(server.info("shm_offers"), 0);
    assert_eq!(server.process().region_maps(), 1, "the first region is gone");
}

#[test]
fn an_offer_that_is_not_started_in_time_is_dropped() {
    let server = TestServer::start();
    let mut offer = Offer::from(&server);
    assert_eq!(server.info("shm_offers"), 1);
    let token = offer.token();

    // Time is the subject: an offer stands for five seconds. Nobody asks meanwhile.
    std::thread::sleep(Duration::from_secs(6));

    assert!(server.holds_no_shared_memory());
    let late = offer.ask(&format!("SHM.START {token}"));
    assert_eq!(
        late,
        "-ERR SHM.START: nothing is offered to this connection, or no longer; send SHM.OPEN first\r\n"
    );
    assert_eq!(offer.ask("PING"), "+PONG\r\n");
    let mut again = Offer::on(offer.socket);
    let token = again.token();
    assert_eq!(again.ask(&format!("SHM.START {token}")), "\0");
}

#[test]
fn the_offer_of_a_connection_that_ends_is_dropped_at_once() {
    let server = TestServer::start();
    let before = server.fds_at_rest(0);

    let offers: Vec<Offer> = (0..20).map(|_| Offer::from(&server)).collect();
    assert_eq!(server.info("shm_offers"), 20);
    drop(offers);

    // Not by expiring: as soon as the connections are gone.
    wait_until("they are gone", || server.info("connected_clients") == 1);
    assert_eq!(server.info("shm_offers"), 0);
    assert_eq!(server.fds_at_rest(0), before);
}

#[test]
fn the_next_client_with_the_same_descriptor_does_not_inherit_an_offer() {
    let server = TestServer::start();
    let offer = Offer::from(&server);
    let token = offer.token();
    drop(offer);

    let mut next = server.plain();

    assert!(next.ask(&format!("SHM.START {token}")).contains("nothing is offered"));
}

#[test]
fn a_moved_connection_cannot_move_again() {
    let server = TestServer::start();
    let mut shm = server.shm();

    assert_refused(
        &mut shm,
        &[
            ("SHM.OPEN 2", "ERR SHM.OPEN: this connection is on shared memory already"),
            (
                "SHM.START 00112233445566778899aabbccddeeff",
                "ERR SHM.START: this connection is on shared memory already",
            ),
        ],
    );

    assert_eq!(server.info("shm_offers"), 0);
    assert_eq!(server.process().region_maps(), 1);
}

#[test]
fn a_transaction_answers_with_an_error_and_goes_on() {
    const REASON: &str = "-ERR SHM.OPEN: not in a transaction; send it before MULTI\r\n";
    let server = TestServer::start();
    for mut wire in [server.plain(), server.shm()] {
        wire.ask("MULTI");
        assert_eq!(wire.ask("SHM.OPEN 2"), "+QUEUED\r\n");
        assert_eq!(wire.ask("SHM.START 00112233445566778899aabbccddeeff"), "+QUEUED\r\n");
        assert_eq!(wire.ask("SET key value"), "+QUEUED\r\n");
        let reply = wire.ask("EXEC");
        assert!(reply.starts_with(&format!("*3\r\n{REASON}")), "{reply}");
        assert!(reply.ends_with("+OK\r\n"), "{reply}");
        wire.assert_answers();
    }
    wait_until("nothing is left", || server.holds_no_shared_memory());
}

#[test]
fn scripts_and_functions_cannot_move_their_caller() {
    let server = TestServer::start();
    for mut wire in [server.plain(), server.shm()] {
        for call in ["redis.call('SHM.OPEN', '2')", "redis.call('SHM.START', '00')"] {
            let reply = wire.ask_words(&[b"EVAL", call.as_bytes(), b"0"]);
            let reply = String::from_utf8(reply).unwrap();
            assert!(
                reply.starts_with("-ERR") && reply.contains("not allowed from script"),
                "{reply}"
            );
            wire.assert_answers();
        }
    }
    wait_until("nothing is left", || server.holds_no_shared_memory());
}

#[test]
fn an_unauthenticated_client_gets_nothing() {
    let server = TestServer::start();
    server.ask("CONFIG SET requirepass secret");
    let mut stranger = server.plain();

    for command in ["SHM.OPEN 2", "SHM.START 00112233445566778899aabbccddeeff", "SHM.LIST"] {
        assert_eq!(stranger.ask(command), "-NOAUTH Authentication required.\r\n");
    }

    assert!(server.holds_no_shared_memory());
    assert_eq!(stranger.ask("AUTH secret"), "+OK\r\n");
    stranger.into_shm().assert_answers();
}

#[test]
fn a_user_without_the_right_gets_nothing() {
    let server = TestServer::start();
    server.ask("ACL SETUSER bob on nopass ~* +@all -shm.open -shm.list");
    let mut bob = server.plain();
    bob.ask("AUTH bob any");

    for command in ["SHM.OPEN 2", "SHM.LIST"] {
        let reply = bob.ask(command);
        let name = command.split(' ').next().unwrap().to_lowercase();
        assert!(reply.starts_with("-NOPERM") && reply.contains(&name), "{reply}");
        bob.assert_answers();
    }

    assert!(server.holds_no_shared_memory());
    assert!(server.ask("ACL LOG").contains("shm.open"));
}

#[test]
fn the_right_to_start_can_be_withheld_too() {
    let server = TestServer::start();
    server.ask("ACL SETUSER bob on nopass ~* +@all -shm.start");
    let mut socket = UnixStream::connect(server.socket()).unwrap();
    socket.write_all(&request(&[b"AUTH", b"bob", b"any"])).unwrap();
    let mut ok = [0; 5];
    socket.read_exact(&mut ok).unwrap();

    let mut offer = Offer::on(socket);
    let token = offer.token();

    assert!(offer.ask(&format!("SHM.START {token}")).starts_with("-NOPERM"));
    assert_eq!(offer.ask("PING"), "+PONG\r\n");
    assert_eq!(server.info("shm_sessions"), 0);
}

#[test]
fn earlier_replies_must_have_been_sent() {
    const REASON: &str = "-ERR SHM.OPEN: earlier replies are still unsent; read them first\r\n";
    let server = TestServer::start();
    let value = "x".repeat(8 << 20);
    server.ask(&format!("SET large {value}"));
    let mut plain = server.plain();

    // In one write, so that they are executed in one go.
    plain.send_bytes(b"PING\r\nSHM.OPEN 2\r\nPING\r\n");
    assert_eq!([plain.reply(), plain.reply(), plain.reply()], ["+PONG\r\n", REASON, "+PONG\r\n"]);

    plain.send_bytes(b"GET large\r\nSHM.OPEN 2\r\n");
    assert_eq!(plain.reply().len(), "$8388608\r\n".len() + value.len() + 2);
    assert_eq!(plain.reply(), REASON);

    assert!(server.holds_no_shared_memory());
    plain.into_shm().assert_answers();
}

#[test]
fn commands_read_together_with_start_are_answered_in_shared_memory() {
    let server = TestServer::start();
    let offer = Offer::from(&server);
    let token = offer.token();
    let mut both = request(&[b"SHM.START", token.as_bytes()]);
    both.extend_from_slice(&request(&[b"PING"]));

    let mut client = HandMade::start_with(offer, &both);

    assert_eq!(client.take(12), b"+OK\r\n+PONG\r\n");
    client.assert_answers();
}

#[test]
fn monitors_are_refused() {
    let server = TestServer::start();
    let mut monitor = server.plain();
    assert_eq!(monitor.ask("MONITOR"), "+OK\r\n");

    monitor.send("SHM.OPEN 2");

    // Between what the monitor shows.
    let refused = "-ERR SHM.OPEN: not from replicas or monitors\r\n";
    while monitor.reply() != refused {}
    assert!(server.holds_no_shared_memory());
}

#[test]
fn a_replica_is_refused() {
    let server = TestServer::start();
    let mut replica = server.plain();
    // The snapshot that a replica gets has a length and no end; after it, nothing
    // comes but what the primary does. Replies to replicas are not sent.
    replica.send("SYNC");
    wait_until("it is a replica", || server.info("connected_slaves") == 1);
    replica.send("SHM.OPEN 2");

    assert_eq!(server.ask("PING"), "+PONG\r\n");
    wait_until("the command has run", || {
        server.ask("INFO commandstats").contains("cmdstat_shm.open:calls=1")
    });
    assert!(server.holds_no_shared_memory());
}

#[test]
fn typed_into_redis_cli_it_leaves_the_connection_usable() {
    let server = TestServer::start();
    let program = support::find_program(OsStr::new("redis-cli")).expect(
        "redis-cli, which comes with redis-server (Debian, Ubuntu: apt-get install redis-tools)",
    );
    let mut cli = Command::new(program)
        .arg("-s")
        .arg(server.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let commands = "SHM.OPEN 2\nPING\nSHM.OPEN 2\nSHM.START 00\nSET key value\nGET key\nSHM.LIST\n";

    cli.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = cli.wait_with_output().unwrap();

    let printed = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[..3], ["OK", "PONG", "OK"], "{printed}");
    assert!(lines[3].starts_with("ERR SHM.START: the token is 32"), "{printed}");
    assert!(printed.contains("\nOK\nvalue\n") && printed.contains("\noffered\n"), "{printed}");
    wait_until("its offer is gone", || server.holds_no_shared_memory());
}

#[test]
fn a_refused_client_goes_on_over_its_socket() {
    let server = ServerOptions::default().module_args(&["max-sessions", "0"]).start();
    let stream = Stream::connect_unix(server.socket(), None).unwrap();

    let attempt = move_to_shared_memory(stream, Some(Instant::now() + support::PATIENCE)).unwrap();

    let Attempt::Stayed(stream, Refusal::Refused(reason)) = attempt else {
        panic!("not refused: {attempt:?}");
    };
    assert!(reason.contains("shared memory is switched off (shm.max-sessions is 0)"), "{reason}");
    Wire::over(stream).assert_answers();
}

#[test]
fn nothing_is_left_of_clients_that_vanish_at_any_step() {
    let server = TestServer::start();
    server.warm_up();
    let before = server.fds_at_rest(0);
    for _ in 0..20 {
        // After OPEN without looking; after OPEN; after START without looking.
        let mut socket = UnixStream::connect(server.socket()).unwrap();
        socket.write_all(&request(&[b"SHM.OPEN", b"2"])).unwrap();
        drop(socket);
        drop(Offer::from(&server));
        let mut offer = Offer::from(&server);
        let token = offer.token();
        offer.socket.write_all(&request(&[b"SHM.START", token.as_bytes()])).unwrap();
        drop(offer);
    }

    assert_eq!(server.fds_at_rest(0), before);
    assert_eq!(server.info("shm_protocol_errors"), 0);
}

#[test]
fn nobody_is_shown_a_token() {
    let server = TestServer::start();
    let mut monitor = server.plain();
    assert_eq!(monitor.ask("MONITOR"), "+OK\r\n");
    server.ask("CONFIG SET slowlog-log-slower-than 0");

    let mut offer = Offer::from(&server);
    let token = offer.token();
    let wrong = "00112233445566778899aabbccddeeff";
    assert!(offer.ask(&format!("SHM.START {wrong}")).contains("not the token"));
    assert_eq!(offer.ask(&format!("SHM.START {token}")), "\0");
    server.ask("ECHO end");

    let mut shown = String::new();
    while !shown.contains("\"ECHO\" \"end\"") {
        shown.push_str(&monitor.reply());
    }
    assert!(!shown.contains("SHM.") && !shown.contains(&token), "{shown}");
    let logged = server.ask("SLOWLOG GET 100");
    assert!(logged.contains("SHM.OPEN"), "{logged}");
    assert!(!logged.contains("SHM.START") && !logged.contains(&token), "{logged}");
}
