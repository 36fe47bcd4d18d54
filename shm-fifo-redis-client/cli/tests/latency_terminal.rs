//! `redis-shm latency` in a terminal, which script makes (of bsdutils, which every
//! Debian has).
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::cli::{in_terminal, run};
use support::latency::{PROGRAM, endless, number, rows, span_us};
use support::module::module;
use support::redis_server::RedisServer;
use support::terminal::Screen;
use support::watchdog::watched;
use tempfile::TempDir;

/// It runs in a terminal of its own, which `script` makes; what is written to its
/// stdin is typed there. The shell becomes the program: dash, if it waited, would end
/// by the Ctrl-C that the program handled.
fn in_a_terminal(server: &str, arguments: &[&str]) -> Command {
    let quoted = |text: &&str| format!("'{text}'");
    let words = [&[PROGRAM, "latency", "-s", server], arguments].concat();
    let line = format!("exec {}", words.iter().map(quoted).collect::<Vec<_>>().join(" "));
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR").env_remove("REDISCLI_AUTH");
    command
}

fn spawn(command: &mut Command) -> Child {
    command.spawn().expect("script is installed; apt-get install bsdutils does it")
}

/// What the terminal got until `enough` of it is there and Ctrl-C was typed.
fn type_ctrl_c_when(mut child: Child, enough: impl Fn(&str) -> bool) -> (Option<i32>, String) {
    let mut keyboard = child.stdin.take().unwrap();
    let mut terminal = child.stdout.take().unwrap();
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    let mut is_typed = false;
    loop {
        let read = terminal.read(&mut part).unwrap();
        if read == 0 {
            break;
        }
        bytes.extend(&part[..read]);
        if !is_typed && enough(&String::from_utf8_lossy(&bytes)) {
            keyboard.write_all(b"\x03").unwrap();
            is_typed = true;
        }
    }
    (child.wait().unwrap().code(), String::from_utf8(bytes).unwrap())
}

#[test]
fn in_a_terminal_the_figures_are_refreshed_in_place_until_ctrl_c() {
    watched(|| {
        let directory = TempDir::new().unwrap();
        let json = directory.path().join("rows.json");
        let (server, arrivals) = endless(Duration::from_millis(1));
        let arguments =
            ["--transport", "unix", "--sample-rate", "0", "--json", json.to_str().unwrap()];
        let child = spawn(&mut in_a_terminal(&server.place, &arguments));
        let (code, bytes) =
            type_ctrl_c_when(child, |text| text.matches(", until Ctrl-C").count() >= 3);
        assert_eq!(code, Some(0), "{bytes}");
        let lines = Screen::showing(&bytes);
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert_eq!(lines[0], format!("PING over unix to {}", server.place));
        assert_eq!(lines[1], "round trips in µs, back to back");
        let heading = ["min", "avg", "p50", "p99", "p99.9", "max", "samples"];
        assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), heading);
        let figures: Vec<&str> = lines[3].split_whitespace().collect();
        assert_eq!((figures[0], figures.len()), ("unix", 8), "{lines:#?}");
        let row = &rows(&json)[0];
        for (text, name) in figures[1..].iter().zip(["min_ns", "avg_ns", "p50_ns"]) {
            let shown: f64 = text.parse().unwrap();
            assert!((shown - number(row, name) / 1000.0).abs() < 0.001, "{text}, {row}");
            assert_eq!(text.split_once('.').unwrap().1.len(), 3, "{text}");
        }
        assert_eq!(figures[7].replace(',', ""), row["samples"].to_string());
        assert!(lines[4].ends_with(" s"), "{lines:#?}");
        drop(server);
        // One after the other: together they took no longer than the server saw.
        let together_ns = number(row, "avg_ns") * number(row, "samples");
        let seen_ns = span_us(&arrivals) * 1000.0 + number(row, "max_ns");
        assert!(together_ns <= seen_ns, "{row}, but {seen_ns}");
        assert!(number(row, "min_ns") >= 1e6, "{row}");
    });
}

#[test]
fn a_history_in_a_terminal_keeps_the_intervals_and_ends_with_the_summary() {
    watched(|| {
        let (server, _) = endless(Duration::from_millis(1));
        let arguments = ["--transport", "unix", "--history", "-i", "0.3", "--sample-rate", "0"];
        let child = spawn(&mut in_a_terminal(&server.place, &arguments));
        // Of three intervals that ended, their headings and the fourth.
        let has_three = |text: &str| {
            let whole_lines = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
            Screen::showing(whole_lines).len() >= 8
        };
        let (code, bytes) = type_ctrl_c_when(child, has_three);
        assert_eq!(code, Some(0), "{bytes}");
        let lines = Screen::showing(&bytes);
        assert!(lines[2].starts_with("until "), "{lines:#?}");
        let intervals = lines[3..].split(String::is_empty).next().unwrap();
        let ends: Vec<f64> =
            intervals.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        assert!(ends.len() > 3 && ends.is_sorted(), "{lines:#?}");
        let samples = |line: &String| -> u64 {
            line.split_whitespace().last().unwrap().replace(',', "").parse().unwrap()
        };
        let [.., nothing, heading, summary, _] = &lines[..] else { panic!("{lines:#?}") };
        assert!(nothing.is_empty() && heading.ends_with(" samples"), "{lines:#?}");
        assert!(summary.starts_with("unix "), "{lines:#?}");
        assert_eq!(intervals.iter().map(samples).sum::<u64>(), samples(summary), "{lines:#?}");
    });
}

/// What a terminal got and shows of a server that answers after 100 ms.
fn spectrum(no_color: bool) -> (String, Vec<String>) {
    let (server, _) = endless(Duration::from_millis(100));
    let arguments = ["--transport", "unix", "--dist", "-i", "0.5", "--sample-rate", "0"];
    let mut command = in_a_terminal(&server.place, &arguments);
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let three = |text: &str| text.matches(", until Ctrl-C").count() >= 3;
    let (code, bytes) = type_ctrl_c_when(spawn(&mut command), three);
    assert_eq!(code, Some(0), "{bytes}");
    let lines = Screen::showing(&bytes);
    (bytes, lines)
}

/// The first spectrum that stays, and where 100 ms is in it.
fn first_spectrum(lines: &[String]) -> (String, usize) {
    let digits = lines.iter().position(|line| line.starts_with("<56789")).expect("a ruler");
    let ruler = &lines[digits - 1];
    let place = ruler[..ruler.find("100 ms").unwrap()].chars().count();
    assert_eq!(lines[digits].chars().nth(place), Some('1'), "{lines:#?}");
    (lines[digits + 1].clone(), place)
}

#[test]
fn the_spectrum_is_coloured_in_a_terminal() {
    watched(|| {
        let (bytes, lines) = spectrum(false);
        let (shown, place) = first_spectrum(&lines);
        assert!(shown.starts_with(&format!("<56789{}+ ", "123456789".repeat(6))), "{lines:#?}");
        let cells = |line: &&str| line.matches("\x1b[48;5;").count() == 61;
        let spectrum = bytes.lines().find(cells).unwrap();
        let colours: Vec<u8> = spectrum
            .split("\x1b[48;5;")
            .skip(1)
            .map(|cell| cell.split_once('m').unwrap().0.parse().unwrap())
            .collect();
        assert!(colours[..place].iter().all(|&colour| colour == 0), "{colours:?}");
        assert!(colours[place..].iter().any(|&colour| colour > 0), "{colours:?}");
    });
}

#[test]
fn the_spectrum_can_be_read_without_colours() {
    watched(|| {
        let (bytes, lines) = spectrum(true);
        let (shown, place) = first_spectrum(&lines);
        let trace = shown.chars().position(|cell| cell != ' ');
        assert!(trace.is_some_and(|first| (place..61).contains(&first)), "{lines:#?}");
        let codes: Vec<&str> = bytes.split("\x1b[").skip(1).collect();
        let moves = |code: &&str| ["J", "?7l", "?7h"].iter().any(|one| code.starts_with(one));
        let goes_up =
            |code: &str| code.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('A');
        assert!(codes.iter().all(|code| moves(code) || goes_up(code)), "{codes:#?}");
    });
}

#[test]
fn redis_compare_in_a_terminal_has_a_row_for_each_and_the_factor() {
    watched(|| {
        let server = RedisServer::start(&["--loadmodule", module().to_str().unwrap()]);
        let child = spawn(&mut in_a_terminal(&server.path(), &["--compare"]));
        let (code, bytes) =
            type_ctrl_c_when(child, |text| text.matches(", until Ctrl-C").count() >= 2);
        assert_eq!(code, Some(0), "{bytes}");
        let lines = Screen::showing(&bytes);
        assert_eq!(lines.len(), 7, "{lines:#?}");
        assert!(lines[0].starts_with("PING in turns to 127.0.0.1:"), "{lines:#?}");
        assert!(lines[2].ends_with("/ shm"), "{lines:#?}");
        let words = |line: &String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let rows: Vec<_> = lines[3..6].iter().map(words).collect();
        for (row, name) in rows.iter().zip(["tcp", "unix", "shm"]) {
            assert_eq!((row[0].as_str(), row[9].as_str()), (name, "×"), "{lines:#?}");
        }
        assert_eq!(rows[2][8], "1.0");
    });
}

#[test]
fn who_has_not_chosen_the_pause_is_told_what_is_in_the_figures() {
    watched(|| {
        let table = [
            ("", true),
            ("| cat", true),
            ("--history", true),
            ("--sample-rate 10000", false),
            ("--sample-rate 0", false),
            ("2>/dev/null", false),
        ];
        for (rest, is_told) in table {
            let (server, _) = endless(Duration::ZERO);
            let arguments = ["--transport", "unix", "--samples", "2"].join(" ");
            let line = format!("{PROGRAM} latency -s {} {arguments} {rest}", server.place);
            let ended = run(&mut in_terminal(20, &format!("sh -c '{line}'")));
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let hint = "waking them up is in these figures";
            assert_eq!(ended.stdout.contains(hint), is_told, "{rest}: {ended:?}");
        }
    });
}
