//! The variables of the environment by which services preload the library, and its
//! report, with real programs (`programs/report.c`).
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{Server, library, output, program, run, watched};

/// A program with the library, which has nothing to serve and so something to say.
fn unserved(words: &[&str]) -> Command {
    let mut command = Command::new(program("report"));
    command.args(words).env("LD_PRELOAD", library()).env("SHM_FIFO_ENDPOINTS", "redis.sock");
    command
}

const COMPLAINT: &str = ": nothing moves: SHM_FIFO_ENDPOINTS: redis.sock is neither unix:PATH nor \
                         tcp:ADDRESS:PORT";

/// What it says on stderr, of a program that does well.
fn stderr(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = output(command, "");
    assert!(status.success(), "{command:?}: {status} {}", String::from_utf8_lossy(&stdout));
    String::from_utf8(stderr).unwrap()
}

/// How many lines there are, each of them a report of some process.
fn reports(text: &str) -> usize {
    for line in text.lines() {
        let pid = line.strip_prefix("redis-shm: report[").and_then(|line| line.split_once(']'));
        let (pid, rest) = pid.unwrap_or_else(|| panic!("no report: {line}"));
        assert!(pid.parse::<u32>().is_ok() && rest == COMPLAINT, "{line}");
    }
    text.lines().count()
}

#[test]
fn nobody_hears_a_word_who_has_not_asked() {
    watched(|| {
        assert_eq!(stderr(&mut unserved(&["exit"])), "");
        assert_eq!(stderr(unserved(&["exit"]).env("SHM_FIFO_REPORT", "")), "");
    });
}

#[test]
fn a_program_that_connects_to_no_endpoint_says_nothing() {
    watched(|| {
        let mut command = unserved(&["exit"]);
        command.env("SHM_FIFO_ENDPOINTS", "tcp:127.0.0.1:1").env("SHM_FIFO_REPORT", "stderr");
        assert_eq!(stderr(&mut command), "");
    });
}

#[test]
fn each_process_reports_once_when_it_exits() {
    watched(|| {
        for (how, count) in [("exit", 1), ("fork", 2), ("vfork", 1), ("at_once", 0)] {
            let text = stderr(unserved(&[how]).env("SHM_FIFO_REPORT", "stderr"));
            assert_eq!(reports(&text), count, "{how}: {text}");
            let processes: std::collections::BTreeSet<&str> = text.lines().collect();
            assert_eq!(processes.len(), count, "{text}");
        }
    });
}

#[test]
fn a_signal_asks_for_it_unless_it_is_the_programs_own() {
    watched(|| {
        for (how, count) in [("signal", 2), ("own_handler", 1), ("exit", 1)] {
            let mut command = unserved(&[how]);
            command.env("SHM_FIFO_REPORT", "stderr").env("SHM_FIFO_REPORT_SIGNAL", "USR2");
            let text = stderr(&mut command);
            assert_eq!(reports(&text), count, "{how}: {text}");
        }
        // Without the variable no signal is touched: it ends the program.
        let ended = output(unserved(&["signal"]).env("SHM_FIFO_REPORT", "stderr"), "");
        assert!(!ended.status.success());
    });
}

#[test]
fn a_file_is_appended_to_by_all_processes() {
    watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("report");
        for how in ["exit", "fork", "directory"] {
            assert_eq!(stderr(unserved(&[how]).env("SHM_FIFO_REPORT", &file)), "");
        }
        assert_eq!(reports(&fs::read_to_string(&file).unwrap()), 4);
    });
}

#[test]
fn what_took_the_place_of_stderr_is_not_written_to() {
    watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("data");
        let mut command = unserved(&["replaced", file.to_str().unwrap()]);
        assert_eq!(stderr(command.env("SHM_FIFO_REPORT", "stderr")), "");
        assert_eq!(fs::read(&file).unwrap(), b"data");
    });
}

#[test]
fn each_variable_that_is_not_understood_is_named() {
    watched(|| {
        let table = [
            ("SHM_FIFO_ENDPOINTS", "", "SHM_FIFO_ENDPOINTS names no server; "),
            ("SHM_FIFO_ENDPOINTS", "tcp:redis:6379", "tcp:redis:6379 names a host, "),
            ("SHM_FIFO_AFTER_COMMANDS", "few", "SHM_FIFO_AFTER_COMMANDS: \"few\" is no number"),
            ("SHM_FIFO_REPORT", "report.txt", "SHM_FIFO_REPORT: \"report.txt\" is neither "),
            ("SHM_FIFO_REPORT_SIGNAL", "KILL", "SHM_FIFO_REPORT_SIGNAL: \"KILL\" is none of "),
        ];
        for (name, value, words) in table {
            let mut command = unserved(&["exit"]);
            command.env("SHM_FIFO_ENDPOINTS", "tcp:127.0.0.1:1").env("SHM_FIFO_REPORT", "stderr");
            let text = stderr(command.env(name, value));
            assert!(text.contains(words) && text.lines().count() == 1, "{name}={value}: {text}");
        }
    });
}

/// redis-cli at a unix socket or, where that is no path, a port; preloaded as a service
/// would be.
fn served(place: &Path, endpoints: &str) -> Command {
    let mut command = Command::new("redis-cli");
    let is_port = place.to_str().is_some_and(|text| text.parse::<u16>().is_ok());
    command.arg(if is_port { "-p" } else { "-s" }).arg(place).env("LD_PRELOAD", library());
    command.env("SHM_FIFO_ENDPOINTS", endpoints);
    command
}

const COMMANDS: usize = 40;

fn talk(command: &mut Command) {
    assert_eq!(run(command, &"PING\n".repeat(COMMANDS)), "PONG\n".repeat(COMMANDS));
}

#[test]
fn the_environment_alone_moves_a_connection() {
    watched(|| {
        let server = Server::start(&[]);
        let socket = server.socket();
        let unix = format!("unix:{}", socket.display());
        talk(&mut served(&socket, &format!("tcp:127.0.0.1:1,{unix}")));
        assert_eq!(server.moved(), 1);
        talk(served(&socket, &unix).env("SHM_FIFO_AFTER_COMMANDS", "39"));
        assert_eq!(server.moved(), 2);
        talk(served(&socket, &unix).env("SHM_FIFO_AFTER_COMMANDS", "41"));
        assert_eq!(server.moved(), 2);
        let port = server.port.to_string();
        talk(&mut served(Path::new(&port), &format!("tcp:localhost:{port}")));
        assert_eq!(server.moved(), 3);
    });
}

#[test]
fn a_malformed_environment_moves_nothing() {
    watched(|| {
        let server = Server::start(&[]);
        let socket = server.socket();
        let good = format!("unix:{}", socket.display());
        talk(&mut served(&socket, &format!("{good} tcp:redis:6379")));
        talk(served(&socket, &good).env("SHM_FIFO_AFTER_COMMANDS", "few"));
        assert_eq!(server.moved(), 0);
        // For control.
        talk(&mut served(&socket, &good));
        assert_eq!(server.moved(), 1);
    });
}

#[test]
fn any_path_of_the_socket_is_the_socket() {
    watched(|| {
        let server = Server::start(&[]);
        let real = server.directory.path();
        let elsewhere = tempfile::tempdir().unwrap();
        let link: PathBuf = elsewhere.path().join("a b,c%d");
        std::os::unix::fs::symlink(real, &link).unwrap();
        let named = format!("unix:{}/redis.sock", elsewhere.path().join("a%20b%2Cc%25d").display());
        talk(&mut served(&link.join("redis.sock"), &named));
        assert_eq!(server.moved(), 1);
        talk(&mut served(&server.socket(), &named));
        assert_eq!(server.moved(), 2);
        talk(served(Path::new("redis.sock"), &named).current_dir(real));
        assert_eq!(server.moved(), 3);
        // One of the same name that is another file.
        let other = Server::start(&[]);
        talk(&mut served(&other.socket(), &named));
        assert_eq!((server.moved(), other.moved()), (3, 0));
    });
}
