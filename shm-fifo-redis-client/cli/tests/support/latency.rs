//! `redis-shm latency`, servers for it to measure, and what it says.

use super::fake::{FakeServer, read_command};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_redis-shm");

pub(crate) fn latency(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["latency", "-s", server]).args(arguments);
    command.stdin(Stdio::null()).env_remove("REDISCLI_AUTH");
    command
}

/// Runs it to its end.
pub(crate) fn run(command: &mut Command) -> (Option<i32>, String, String) {
    ended(command.output().unwrap())
}

pub(crate) fn ended(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

pub(crate) fn run_well(command: &mut Command) -> String {
    let (code, stdout, stderr) = run(command);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    stdout
}

pub(crate) fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

/// The stopwatch beside: when each request came, as the server saw it.
pub(crate) type Arrivals = Arc<Mutex<Vec<Instant>>>;

/// A server that answers each PING after `delay`, the first `most` of them.
pub(crate) fn delaying(delay: Duration, most: usize) -> (FakeServer, Arrivals) {
    let arrivals = Arrivals::default();
    let stopwatch = Arc::clone(&arrivals);
    let server = FakeServer::unix(move |mut peer| {
        for _ in 0..most {
            let Ok(Some(_)) = read_command(&mut peer) else { return };
            stopwatch.lock().unwrap().push(Instant::now());
            thread::sleep(delay);
            peer.say(b"+PONG\r\n");
        }
    });
    (server, arrivals)
}

pub(crate) fn endless(delay: Duration) -> (FakeServer, Arrivals) {
    delaying(delay, usize::MAX)
}

pub(crate) fn wait_for_arrivals(arrivals: &Arrivals, count: usize) {
    while arrivals.lock().unwrap().len() < count {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Between two requests: with no pause that is what a round trip takes.
pub(crate) fn median_period_us(arrivals: &Arrivals) -> f64 {
    let arrivals = arrivals.lock().unwrap();
    let mut periods: Vec<Duration> = arrivals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    periods.sort();
    periods[periods.len() / 2].as_secs_f64() * 1e6
}

/// From the first request to the last.
pub(crate) fn span_us(arrivals: &Arrivals) -> f64 {
    let arrivals = arrivals.lock().unwrap();
    (arrivals[arrivals.len() - 1] - arrivals[0]).as_secs_f64() * 1e6
}

pub(crate) fn pairs(line: &str) -> Vec<(&str, &str)> {
    line.split(' ').map(|pair| pair.split_once('=').unwrap()).collect()
}

pub(crate) fn figure(line: &str, name: &str) -> f64 {
    let pairs = pairs(line);
    let (_, value) = pairs.iter().find(|(key, _)| *key == name).unwrap_or_else(|| panic!("{line}"));
    value.parse().unwrap()
}

pub(crate) fn rows(path: &Path) -> Vec<Value> {
    let json: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    json.as_array().unwrap().clone()
}

pub(crate) fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("{name} is no number in {row}"))
}
