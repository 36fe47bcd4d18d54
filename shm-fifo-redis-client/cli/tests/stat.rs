//! `redis-shm stat` on real servers. Needs redis-server, and the module:
//! `SHM_FIFO_MODULE` names it, as `make test` does.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use shm_fifo_redis_client::{Client, Connection, Transport};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use support::cli::{PROGRAM, in_terminal, redis_shm, run};
use support::redis_server::RedisServer;
use support::watchdog::watched;

const FIELDS: [&str; 13] = [
    "sessions",
    "hot",
    "offers",
    "refused",
    "region_bytes",
    "commands_per_s",
    "doorbells_sent_per_s",
    "doorbells_received_per_s",
    "parks_per_s",
    "spins_won_per_s",
    "spins_expired_per_s",
    "spins_preempted_per_s",
    "spin_cpu_percent",
];

/// The figures of a line, which has exactly the documented names in their order.
fn figures(line: &str) -> HashMap<&str, f64> {
    let pairs: Vec<(&str, &str)> =
        line.split(' ').map(|pair| pair.split_once('=').unwrap()).collect();
    assert_eq!(pairs.iter().map(|(name, _)| *name).collect::<Vec<_>>(), FIELDS);
    pairs.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect()
}

fn moved(server: &RedisServer) -> Connection {
    let connection = Client::open(server.unix_address()).unwrap().get_connection().unwrap();
    assert_eq!(connection.transport(), Transport::SharedMemory);
    connection
}

#[test]
fn redis_sessions_are_counted_in_lines_that_programs_read() {
    watched(|| {
        let server = RedisServer::with_module(&[]);
        let _connections: Vec<Connection> = (0..3).map(|_| moved(&server)).collect();

        let mut command = redis_shm(&["stat", "-s", &server.path(), "-i", "0.02", "-n", "4"]);
        let ended = run(&mut command);

        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        assert_eq!(ended.stdout.lines().count(), 4, "{}", ended.stdout);
        for line in ended.stdout.lines() {
            let figures = figures(line);
            assert_eq!((figures["sessions"], figures["offers"]), (3.0, 0.0), "{line}");
            assert_eq!(figures["refused"], 0.0, "{line}");
            assert_eq!(figures["region_bytes"], 3.0 * (4096.0 + 2.0 * 131_072.0), "{line}");
            // INFO is a command, too.
            assert!(figures["commands_per_s"] > 0.0, "{line}");
            assert!(figures.values().all(|figure| *figure >= 0.0), "{line}");
        }
        let first = figures(ended.stdout.lines().next().unwrap());
        assert!(first["doorbells_sent_per_s"] > 0.0, "the average since the start: three moves");
    });
}

#[test]
fn redis_is_asked_at_once_and_ctrl_c_is_a_good_end() {
    watched(|| {
        let server = RedisServer::with_module(&[]);
        let mut command = redis_shm(&["stat", "-s", &server.path(), "-i", "100000"]);
        let mut stat = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(stat.stdout.take().unwrap()).lines();
        figures(&lines.next().unwrap().unwrap());

        let kill = Command::new("kill").args(["-INT", &stat.id().to_string()]).status();

        assert!(kill.unwrap().success());
        let ended = stat.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
    });
}

#[test]
fn redis_in_a_terminal_has_its_header_on_every_screen() {
    watched(|| {
        let server = RedisServer::with_module(&[]);
        let line = format!("{PROGRAM} stat -s {} -i 0.01 -n 12", server.path());

        let ended = run(&mut in_terminal(6, &line));

        assert_eq!(ended.code, Some(0), "{}", ended.stdout);
        assert!(ended.stdout.contains('\x1b'), "the header is bold");
        let lines: Vec<&str> = ended.stdout.lines().collect();
        let headers: Vec<usize> =
            (0..lines.len()).filter(|&line| lines[line].contains("on shm")).collect();
        // Of two lines, with four of figures below: the screen of six.
        assert_eq!(headers, [1, 7, 13], "{}", ended.stdout);
        assert_eq!(lines.len(), 12 + 3 * 2, "{}", ended.stdout);
        let plain = run(in_terminal(6, &line).env("NO_COLOR", "1"));
        assert!(!plain.stdout.contains('\x1b'), "{:?}", plain.stdout);
    });
}

#[test]
fn redis_that_refuses_moves_is_said_to_and_why() {
    watched(|| {
        let server = RedisServer::with_module(&["max-sessions", "1"]);
        let _moved = moved(&server);
        for _ in 0..3 {
            let left = Client::open(server.unix_address()).unwrap().get_connection().unwrap();
            assert_ne!(left.transport(), Transport::SharedMemory);
        }

        let stat = ["stat", "-s", &server.path(), "-i", "0.02", "-n", "2"];
        let ended = run(&mut redis_shm(&stat));
        assert!(ended.stdout.lines().all(|line| figures(line)["refused"] == 3.0), "{ended:?}");
        let line = format!("{PROGRAM} {}", stat.join(" "));
        let ended = run(in_terminal(20, &line).env("NO_COLOR", "1"));

        let told = "3 of 4 requests to move were refused since the server's start: 3 for \
                    shm.max-sessions (now 1); if that still grows, raise it: CONFIG SET \
                    shm.max-sessions 2";
        let lines: Vec<&str> = ended.stdout.lines().collect();
        // Once, below the first line.
        let [_, _, _, folded @ .., _] = &lines[..] else { panic!("{ended:?}") };
        assert_eq!(folded.join(" "), told);
    });
}

#[test]
fn redis_without_the_module_has_nothing_to_watch() {
    watched(|| {
        let server = RedisServer::start(&[]);
        let ended = run(&mut redis_shm(&["stat", "-s", &server.path()]));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
        assert!(ended.stderr.contains("load it with MODULE LOAD"), "{}", ended.stderr);
    });
}

#[test]
fn redis_that_does_not_let_us_look_says_why_and_what_to_do() {
    watched(|| {
        let server = RedisServer::with_module(&["--requirepass", "sesame"]);
        let ended = run(&mut redis_shm(&["stat", "-s", &server.path()]));
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains("NOAUTH"), "{}", ended.stderr);
        assert!(ended.stderr.contains("REDISCLI_AUTH"), "{}", ended.stderr);
        let ended = run(&mut redis_shm(&["stat", "-s", "/no/such/redis.sock"]));
        assert_eq!(ended.code, Some(2));
        assert_eq!(ended.stderr.matches("No such file").count(), 1, "{}", ended.stderr);
    });
}

#[test]
fn redis_watched_by_nobody_any_more_is_let_go_quietly() {
    watched(|| {
        let server = RedisServer::with_module(&[]);
        let script =
            format!("set -o pipefail; {PROGRAM} stat -s {} -i 0.01 | head -n 1", server.path());
        let ended = run(Command::new("bash").args(["-c", &script]));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        figures(ended.stdout.trim_end());
    });
}
