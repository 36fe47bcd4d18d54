//! Redis' own tools, unmodified, on shared memory.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use support::{Server, run, watched};

fn redis_cli(server: &Server, command: &mut Command) -> String {
    let mut input = String::new();
    for number in 0..40 {
        writeln!(input, "SET key {number}").unwrap();
        writeln!(input, "GET key").unwrap();
    }
    input += "SHM.LIST\n";
    let stdout = run(command.arg("redis-cli"), &input);
    assert_eq!(server.command(&["GET", "key"]), "39");
    stdout
}

fn check(stdout: &str) {
    let mut lines = stdout.lines();
    for number in 0..40 {
        assert_eq!(lines.next(), Some("OK"));
        assert_eq!(lines.next(), Some(&*number.to_string()));
    }
    assert!(stdout.contains("state\nhot\n"), "it did not move: {stdout}");
}

#[test]
fn redis_cli_moves_from_a_unix_socket() {
    watched(|| {
        let server = Server::start(&[]);
        let mut command = server.exec(16);
        command.args(["sh", "-c", "exec \"$1\" -s \"$0\""]).arg(server.socket());
        check(&redis_cli(&server, &mut command));
        assert_eq!(server.moved(), 1);
        server.wait_for("sessions", 0);
    });
}

#[test]
fn redis_cli_moves_from_loopback_tcp() {
    watched(|| {
        let server = Server::start(&[]);
        let mut command = server.exec_tcp(16);
        command.args(["sh", "-c", "exec \"$1\" -p \"$0\"", &server.port.to_string()]);
        check(&redis_cli(&server, &mut command));
        assert_eq!(server.moved(), 1);
    });
}

#[test]
fn without_the_module_everything_works_over_the_socket() {
    watched(|| {
        let server = Server::start_plain();
        let mut command = server.exec(2);
        command.args(["redis-cli", "-s"]).arg(server.socket());
        let stdout = run(&mut command, &"PING\n".repeat(30));
        assert_eq!(stdout, "PONG\n".repeat(30));
    });
}

#[test]
fn a_short_connection_stays_on_its_socket() {
    watched(|| {
        let server = Server::start(&[]);
        let mut command = server.exec(16);
        command.args(["redis-cli", "-s"]).arg(server.socket());
        assert_eq!(run(&mut command, &"PING\n".repeat(5)), "PONG\n".repeat(5));
        assert_eq!(server.moved(), 0);
    });
}

#[test]
fn redis_benchmark_moves_all_its_connections() {
    watched(|| {
        let server = Server::start(&[]);
        let table: [&[&str]; 4] = [
            &["-c", "50", "-n", "20000"],
            &["-c", "50", "-n", "100000", "-P", "16"],
            &["-c", "20", "-n", "20000", "--threads", "3"],
            &["-c", "10", "-n", "2000", "-d", "100000", "-r", "10"],
        ];
        for options in table {
            let before = server.moved();
            let mut command = server.exec(16);
            command.arg("redis-benchmark").arg("-s").arg(server.socket());
            command.args(["-t", "ping_mbulk,set,get", "-q"]).args(options);
            let stdout = run(&mut command, "");
            assert!(stdout.contains("requests per second"), "{stdout}");
            let clients: u64 = options[1].parse().unwrap();
            assert!(server.moved() - before >= clients, "{options:?}: {}", server.moved() - before);
        }
        server.wait_for("sessions", 0);
        assert_eq!((server.counter("protocol_errors"), server.counter("missed_doorbells")), (0, 0));
    });
}

#[test]
fn redis_cli_pipe_loads_a_mass_of_keys() {
    watched(|| {
        let server = Server::start(&[]);
        let mut input = String::new();
        for number in 0..50_000 {
            let (key, value) = (format!("key:{number}"), "v".repeat(number % 50));
            write!(input, "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n", key.len()).unwrap();
            write!(input, "${}\r\n{value}\r\n", value.len()).unwrap();
        }
        let mut command = server.exec(0);
        command.args(["redis-cli", "--pipe", "-s"]).arg(server.socket());
        let stdout = run(&mut command, &input);
        assert!(stdout.contains("errors: 0, replies: 50000"), "{stdout}");
        assert_eq!(server.command(&["DBSIZE"]), ":50000");
    });
}

#[test]
fn redis_cli_measures_its_latency() {
    watched(|| {
        let server = Server::start(&[]);
        let mut command = server.exec(2);
        command.args(["redis-cli", "--latency", "--raw", "-i", "1", "-s"]).arg(server.socket());
        run(&mut command, "");
        assert_eq!(server.moved(), 1);
    });
}

/// Lines that a program prints, as they come.
fn lines_of(command: &mut Command) -> (std::process::Child, impl Iterator<Item = String>) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout.lines().map_while(Result::ok))
}

#[test]
fn redis_cli_subscribes_and_monitors_before_and_after_the_move() {
    watched(|| {
        for (after, moves) in [(1_000_000, 0), (2, 1)] {
            for (watching, told) in [("SUBSCRIBE channel", "hello"), ("MONITOR", "\"PUBLISH\"")] {
                let server = Server::start(&[]);
                let mut command = server.exec(after);
                command.args(["redis-cli", "-s"]).arg(server.socket());
                let (mut child, mut lines) = lines_of(&mut command);
                let input = child.stdin.as_mut().unwrap();
                for _ in 0..20 {
                    input.write_all(b"PING\n").unwrap();
                    assert_eq!(lines.next().as_deref(), Some("PONG"));
                }
                writeln!(input, "{watching}").unwrap();
                lines.next().unwrap();
                assert_eq!(server.counter("sessions"), moves, "{watching}");
                for _ in 0..50 {
                    server.command(&["PUBLISH", "channel", "hello"]);
                    assert!(lines.any(|line| line.contains(told)), "{watching} tells nothing");
                }
                child.kill().unwrap();
                child.wait().unwrap();
                server.wait_for("sessions", 0);
            }
        }
    });
}

#[test]
fn redis_cli_works_in_a_terminal() {
    watched(|| {
        let server = Server::start(&[]);
        let mut command = server.exec(2);
        let cli = format!("redis-cli -s {}", server.socket().display());
        // script gives it a terminal: a dumb one, which is not asked for its size.
        command.args(["script", "-qec", &cli, "/dev/null"]).env("TERM", "dumb");
        let stdout = run(&mut command, &("PING\n".repeat(20) + "QUIT\n"));
        assert!(stdout.matches("PONG").count() >= 20, "{stdout}");
        assert_eq!(server.moved(), 1);
    });
}

#[test]
fn who_must_log_in_moves_after_that() {
    watched(|| {
        let server = Server::start(&["--requirepass", "sesame"]);
        let mut command = server.exec(2);
        command.args(["redis-cli", "-s"]).arg(server.socket());
        let input = "PING\n".repeat(10) + "AUTH sesame\n" + &"PING\n".repeat(10) + "SHM.LIST\n";
        let stdout = run(&mut command, &input);
        assert_eq!(stdout.matches("NOAUTH").count(), 10, "{stdout}");
        assert_eq!(stdout.matches("PONG").count(), 10, "{stdout}");
        assert!(stdout.contains("state\nhot\n"), "{stdout}");
    });
}

#[test]
fn who_may_not_move_stays_and_never_notices() {
    watched(|| {
        let server = Server::start(&[]);
        let user = ["ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-shm.open"];
        assert_eq!(server.command(&user), "+OK");
        let mut command = server.exec(2);
        command.args(["redis-cli", "--no-auth-warning", "--user", "app", "--pass", "pw", "-s"]);
        let stdout = run(command.arg(server.socket()), &"PING\n".repeat(30));
        assert_eq!(stdout, "PONG\n".repeat(30));
        assert_eq!(server.moved(), 0);
    });
}

#[test]
fn a_transaction_is_never_interrupted() {
    watched(|| {
        let server = Server::start(&[]);
        let mut command = server.exec(1);
        command.args(["redis-cli", "-s"]).arg(server.socket());
        let input = "MULTI\n".to_owned() + &"INCR n\n".repeat(5) + "EXEC\nSHM.LIST\nSHM.LIST\n";
        let stdout = run(&mut command, &input);
        assert!(
            stdout.starts_with("OK\nQUEUED\nQUEUED\nQUEUED\nQUEUED\nQUEUED\n1\n2\n3\n4\n5\n"),
            "{stdout}"
        );
        assert_eq!(server.moved(), 1);
    });
}

#[test]
fn the_servers_end_is_heard_at_once() {
    watched(|| {
        let mut server = Server::start(&[]);
        let mut command = server.exec(2);
        command.args(["redis-cli", "-s"]).arg(server.socket());
        let (mut child, mut lines) = lines_of(&mut command);
        let input = child.stdin.as_mut().unwrap();
        for _ in 0..10 {
            input.write_all(b"PING\n").unwrap();
            assert_eq!(lines.next().as_deref(), Some("PONG"));
        }
        assert_eq!(server.counter("sessions"), 1);
        input.write_all(b"BLPOP nothing 0\n").unwrap();
        server.kill();
        drop(child.stdin.take());
        // It waits for ever if it does not hear of it.
        child.wait().unwrap();
    });
}

#[test]
fn a_small_ring_is_enough_for_a_large_pipeline() {
    watched(|| {
        let server = Server::start(&["--shm.ring-bytes", "4096"]);
        let mut command = server.exec(1);
        command.args([
            "redis-benchmark",
            "-q",
            "-P",
            "500",
            "-n",
            "500000",
            "-t",
            "ping_mbulk",
            "-s",
        ]);
        run(command.arg(server.socket()), "");
        assert!(server.moved() >= 50);
    });
}

/// With io_uring it would wait for its moved connections for ever.
#[test]
fn libuv_is_told_to_make_its_calls_by_the_c_library() {
    let mut command = Command::new(support::redis_shm());
    command.env("UV_USE_IO_URING", "1");
    command.args(["exec", "-s", "/nowhere", "--", "printenv", "UV_USE_IO_URING"]);
    assert_eq!(run(&mut command, ""), "0\n");
}

#[test]
fn strict_says_why_a_program_cannot_be_served() {
    watched(|| {
        let directory = tempfile::TempDir::new().unwrap();
        let (source, program) = (directory.path().join("a.c"), directory.path().join("a.out"));
        std::fs::write(&source, "int main(void) { return 7; }").unwrap();
        let mut compile = Command::new("cc");
        compile.args(["-static", "-o"]).arg(&program).arg(&source);
        run(&mut compile, "");
        let exec = |strict: &[&str]| {
            let mut command = Command::new(support::redis_shm());
            command.args(["exec", "-s", "/nowhere"]).args(strict).arg("--").arg(&program);
            let output = support::output(&mut command, "");
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (code, reason) = exec(&["--strict"]);
        assert_eq!(code, Some(1));
        assert!(reason.contains("linked statically"), "{reason}");
        assert_eq!(exec(&[]).0, Some(7), "without it, it runs");
    });
}
