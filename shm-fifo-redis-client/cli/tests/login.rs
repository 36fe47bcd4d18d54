//! How `redis-shm` logs in: as redis-cli does, whatever the subcommand.
#![cfg(feature = "measure")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use support::cli::{Ended, in_terminal, redis_shm, run};
use support::redis_server::RedisServer;
use support::watchdog::watched;
use tempfile::TempDir;

/// All that connect to a server that is running, as short as they can be.
const LINES: [&str; 5] = [
    "latency --samples 10",
    "stat -n 1",
    "doctor",
    "bench -q -n 10 --rounds 1 -c 1 -P 1 -t get",
    "report -n 10 --rounds 1 -o page.html",
];

/// Nobody is let in but `app`, whose password is `sesame`.
fn guarded() -> RedisServer {
    let users = "--user app on >sesame ~* &* +@all --user default off";
    RedisServer::with_module(&users.split(' ').collect::<Vec<_>>())
}

fn command(line: &str, server: &RedisServer, login: &[&str], directory: &TempDir) -> Command {
    let mut command = redis_shm(&line.split(' ').collect::<Vec<_>>());
    command.args(["-s", &server.path()]).args(login).current_dir(directory.path());
    command
}

fn assert_well(line: &str, ended: &Ended) {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{line}: {}", ended.stdout);
}

#[test]
fn redis_user_and_password_are_given_alike_everywhere() {
    watched(|| {
        let (server, directory) = (guarded(), TempDir::new().unwrap());
        for line in LINES {
            for login in [["--user", "app", "-a", "sesame"], ["--user", "app", "--pass", "sesame"]]
            {
                assert_well(line, &run(&mut command(line, &server, &login, &directory)));
            }
            let mut by_environment = command(line, &server, &["--user", "app"], &directory);
            assert_well(line, &run(by_environment.env("REDISCLI_AUTH", "sesame")));
        }
    });
}

#[test]
fn redis_a_wrong_or_missing_password_is_an_error_that_says_so() {
    watched(|| {
        let (server, directory) = (guarded(), TempDir::new().unwrap());
        for line in LINES {
            let wrong = ["--user", "app", "-a", "wrong"];
            let ended = run(&mut command(line, &server, &wrong, &directory));
            assert_eq!(ended.code, Some(2), "{line}: {ended:?}");
            let refused = ended.stderr.contains("WRONGPASS") || ended.stderr.contains("--user");
            assert!(refused, "{line}: {ended:?}");
            let ended = run(&mut command(line, &server, &[], &directory));
            assert_eq!(ended.code, Some(2), "{line}: {ended:?}");
            assert!(ended.stderr.contains("NOAUTH"), "{line}: {ended:?}");
            // What to do is there, once; doctor has it beside the check.
            let said = ended.stdout + &ended.stderr;
            assert_eq!(said.matches("REDISCLI_AUTH").count(), 1, "{line}: {said}");
        }
    });
}

#[test]
fn redis_the_password_is_asked_for_and_wins_over_the_environment() {
    watched(|| {
        let (server, directory) = (guarded(), TempDir::new().unwrap());
        for line in LINES {
            let answer = directory.path().join("answer");
            File::create(&answer).unwrap().write_all(b"sesame\n").unwrap();
            let login = ["--user", "app", "--askpass"];
            let mut command = command(line, &server, &login, &directory);
            command.stdin(File::open(&answer).unwrap()).env("REDISCLI_AUTH", "wrong");
            assert_well(line, &run(&mut command));
        }
    });
}

/// What a terminal shows of a doctor that asks, and gets `keys` then.
fn typed(server: &RedisServer, keys: &[u8]) -> (Option<i32>, String) {
    let program = support::cli::PROGRAM;
    let line = format!("{program} doctor -s {} --user app --askpass", server.path());
    let mut command = in_terminal(24, &line);
    let mut terminal = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut screen = terminal.stdout.take().unwrap();
    let mut shown = Vec::new();
    while !shown.ends_with(b"Password: ") {
        let mut byte = [0];
        screen.read_exact(&mut byte).unwrap();
        shown.extend(byte);
    }
    let mut keyboard = terminal.stdin.take().unwrap();
    keyboard.write_all(keys).unwrap();
    screen.read_to_end(&mut shown).unwrap();
    (terminal.wait().unwrap().code(), String::from_utf8(shown).unwrap())
}

#[test]
fn redis_nobody_sees_the_password_that_is_typed() {
    watched(|| {
        let server = guarded();
        // With a letter too many that is taken back.
        let (code, shown) = typed(&server, b"sesamee\x7f\r");
        assert_eq!(code, Some(0), "{shown}");
        assert!(!shown.contains("sesame"), "{shown}");
        let (code, shown) = typed(&server, b"sesa\x03");
        assert_eq!(code, Some(130), "{shown}");
        assert!(
            shown.ends_with("redis-shm: interrupted\r\n") && !shown.contains("sesa"),
            "{shown}"
        );
    });
}

#[test]
fn a_password_in_the_environment_is_no_contradiction() {
    // They start servers of their own; it is for another one.
    for line in ["bench --conditions connect --server no-such-server", "report --update no-such"] {
        let words = line.split(' ').collect::<Vec<_>>();
        let ended = run(redis_shm(&words).env("REDISCLI_AUTH", "sesame"));
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains("no-such"), "{line}: {ended:?}");
        assert!(!ended.stderr.contains("cannot be used with"), "{line}: {ended:?}");
    }
}
