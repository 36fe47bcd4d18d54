//! `redis-shm bench` as its users meet it. Needs redis-server and the module:
//! `SHM_FIFO_MODULE` names it, as `make test` does.
#![cfg(feature = "measure")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use support::pictures::assert_pictures;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_redis-shm");
const WATCHDOG: Duration = Duration::from_secs(60);
const CONDITIONS: [&str; 11] = [
    "two-cores",
    "one-core",
    "busy-cores",
    "oversubscribed",
    "idle-connections",
    "clients-50",
    "processes-20",
    "bgsave",
    "cpu-quota",
    "slow-commands",
    "connect",
];

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("bench").args(arguments).stdin(Stdio::null()).env_remove("REDISCLI_AUTH");
    command
}

/// Runs it to its end.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn run_well(command: &mut Command) -> String {
    let (code, stdout, stderr) = run(command);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    stdout
}

fn rows(path: &Path) -> Vec<Value> {
    let json: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    json.as_array().unwrap().clone()
}

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("{name} is no number in {row}"))
}

fn keys(row: &Value) -> BTreeSet<&str> {
    row.as_object().unwrap().keys().map(String::as_str).collect()
}

/// A server without the module, ended on drop.
struct PlainServer {
    process: Child,
    directory: TempDir,
}

impl PlainServer {
    fn start(options: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(directory.path().join("redis.sock"))
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, directory };
        let deadline = Instant::now() + WATCHDOG;
        while UnixStream::connect(server.socket()).is_err() {
            assert!(Instant::now() < deadline, "redis-server did not start");
            thread::sleep(Duration::from_millis(5));
        }
        server
    }

    fn socket(&self) -> String {
        self.directory.path().join("redis.sock").to_str().unwrap().to_owned()
    }
}

impl Drop for PlainServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn help_has_the_options_of_redis_benchmark() {
    let stdout = run_well(&mut bench(&["--help"]));
    for option in ["-c, ", "-n, ", "-P, ", "-d, ", "-t, ", "-r, ", "-q, ", "--csv", "-s, ", "-h, "]
    {
        assert!(stdout.contains(option), "{option} is not in {stdout}");
    }
}

#[test]
fn children_are_not_offered_to_users() {
    let (_, stdout, _) = run(Command::new(PROGRAM).arg("--help"));
    assert!(!stdout.contains("child"), "{stdout}");
}

#[test]
fn bad_arguments_are_named() {
    let table: [(&[&str], &str); 8] = [
        (&["-c", "0"], "--clients"),
        (&["-P", "1,x"], "--pipeline"),
        (&["-t", "ping,fly"], "fly"),
        (&["-d", "999999999"], "--data"),
        (&["--transport", "pigeon"], "[possible values: tcp, unix, shm]"),
        (&["--rounds", "0"], "--rounds"),
        (&["--csv", "-q"], "--quiet"),
        (&["--conditions", "one-core", "-c", "5"], "--clients"),
    ];
    for (arguments, word) in table {
        let (code, stdout, stderr) = run(&mut bench(arguments));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr.contains(word), "{arguments:?}: {stderr}");
    }
}

#[test]
fn an_unknown_condition_is_refused_with_the_list() {
    let (code, _, stderr) = run(&mut bench(&["--conditions", "full-moon"]));
    assert_eq!(code, Some(2));
    for name in ["full-moon"].iter().chain(&CONDITIONS) {
        assert!(stderr.contains(name), "{name} is not in {stderr}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_named_before_the_work() {
    let (code, _, stderr) = run(&mut bench(&["--json", "/no/such/directory/x.json"]));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("/no/such/directory/x.json"), "{stderr}");
}

#[test]
fn redis_bench_writes_json_plots_and_a_table() {
    let directory = TempDir::new().unwrap();
    let (json, plots) = (directory.path().join("b.json"), directory.path().join("plots"));
    let mut command =
        bench(&["-c", "1,3", "-P", "1,7", "-n", "50", "--rounds", "2", "-d", "3,20000"]);
    let stdout = run_well(command.arg("--json").arg(&json).arg("--plots").arg(&plots));
    for word in ["PING, 1 client", "GET, values of 20000 B, 3 clients", "shm/best", "medians of 2"]
    {
        assert!(stdout.contains(word), "{word} is not in {stdout}");
    }
    for transport in ["tcp", "unix", "shm"] {
        let line = format!("{transport:<5} without pipelining 0.");
        assert!(stdout.contains(&line), "{line} is not in {stdout}");
    }
    let rows = rows(&json);
    // PING, MIXED, and SET and GET in two sizes; two numbers of clients, two depths.
    assert_eq!(rows.len(), 6 * 2 * 2 * 3);
    for row in &rows {
        let expected = [
            "clients",
            "command",
            "commands_per_s",
            "p50_ns",
            "p999_ns",
            "p99_ns",
            "pipeline",
            "requests",
            "transport",
            "value_bytes",
        ];
        assert_eq!(keys(row), BTreeSet::from(expected));
        let per_turn = number(row, "clients") * number(row, "pipeline");
        let requests = (50.0 / per_turn).ceil() * per_turn * 2.0;
        assert!((number(row, "requests") - requests).abs() < 0.5, "{row}");
        assert!(number(row, "commands_per_s") > 0.0 && number(row, "p50_ns") > 0.0, "{row}");
        assert!(number(row, "p50_ns") <= number(row, "p99_ns"), "{row}");
        assert!(number(row, "p99_ns") <= number(row, "p999_ns"), "{row}");
    }
    let plots: Vec<_> = fs::read_dir(&plots).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Throughput and latency, each as SVG and as PNG.
    assert_eq!(plots.len(), 6 * 2 * 2 * 2);
    assert_pictures(&plots, 1200);
}

#[test]
fn redis_bench_prints_nothing_but_csv_if_asked() {
    let arguments =
        ["--csv", "-t", "set,get", "-c", "2", "-P", "1,3", "-n", "30", "-r", "20", "--rounds", "1"];
    let stdout = run_well(&mut bench(&arguments));
    let lines: Vec<Vec<&str>> = stdout.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 1 + 2 * 2 * 3);
    assert_eq!(
        lines[0].join(","),
        "transport,command,clients,pipeline,value_bytes,requests,\
                                    commands_per_s,p50_ns,p99_ns,p999_ns"
    );
    for line in &lines[1..] {
        assert_eq!(line.len(), 10);
        assert!(line[2..].iter().all(|figure| figure.parse::<f64>().unwrap() > 0.0), "{line:?}");
    }
}

#[test]
fn redis_bench_shares_connections_out_to_threads() {
    let arguments = ["-q", "-t", "ping", "-c", "5", "-P", "2", "-n", "100", "--rounds", "1"];
    let stdout = run_well(bench(&arguments).args(["--threads", "2", "--transport", "unix,shm"]));
    let rates: Vec<&str> = stdout.lines().filter(|line| line.contains("per second")).collect();
    assert_eq!(rates.len(), 2, "{stdout}");
    assert!(rates[1].starts_with("shm PING clients=5 pipeline=2 bytes=0: "), "{stdout}");
}

#[test]
fn redis_bench_measures_the_sockets_of_a_server_without_the_module() {
    let server = PlainServer::start(&["--requirepass", "sesame"]);
    let arguments = ["-q", "-t", "ping", "-c", "1", "-P", "1", "-n", "10", "--rounds", "1", "-s"];
    let mut command = bench(&arguments);
    command.arg(server.socket()).args(["--transport", "unix"]).env("REDISCLI_AUTH", "sesame");
    assert!(run_well(&mut command).starts_with("unix PING "));
    let mut command = bench(&arguments);
    command.arg(server.socket()).env("REDISCLI_AUTH", "sesame");
    let (code, stdout, stderr) = run(&mut command);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("loadmodule") && stderr.contains("--transport"), "{stderr}");
}

#[test]
fn a_transport_without_address_is_an_error_that_says_what_is_missing() {
    let (code, _, stderr) = run(&mut bench(&["--transport", "unix", "-p", "1"]));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("-s PATH") || stderr.contains("cannot connect"), "{stderr}");
}

#[test]
fn redis_bench_knows_each_condition() {
    let temporary = TempDir::new().unwrap();
    let json = temporary.path().join("c.json");
    for name in CONDITIONS {
        let arguments = ["--conditions", name, "-n", "3", "--rounds", "1", "--json"];
        let own = TempDir::new().unwrap();
        let stdout = run_well(bench(&arguments).arg(&json).env("TMPDIR", own.path()));
        assert!(stdout.contains(name), "{stdout}");
        assert_eq!(fs::read_dir(own.path()).unwrap().count(), 0, "{name} left something behind");
        let rows = rows(&json);
        let variants = if name == "slow-commands" { 2 } else { 1 };
        let absent = stdout.contains(&format!("{name}: not available here: "));
        assert_eq!(rows.len(), if absent { 0 } else { 3 * variants }, "{stdout}");
        for row in &rows {
            let expected = [
                "client_cpu_ns_per_command",
                "commands_per_s",
                "condition",
                "p50_ns",
                "p999_ns",
                "p99_ns",
                "server_cpu_ns_per_command",
                "transport",
            ];
            assert_eq!(keys(row), BTreeSet::from(expected));
            assert!(row["condition"].as_str().unwrap().starts_with(name), "{row}");
            assert!(number(row, "p50_ns") > 0.0 && number(row, "commands_per_s") > 0.0, "{row}");
        }
    }
}

/// Processes whose command line contains `word`.
fn processes_with(word: &str) -> Vec<u32> {
    let has_word = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(word)
    };
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(has_word).collect()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + WATCHDOG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A bench that would last for ever, with busy processes and a server; and the
/// words by which its processes can be told.
fn endless_bench(temporary: &Path) -> (Child, String) {
    let mut command = bench(&["--conditions", "busy-cores", "--rounds", "1000"]);
    command.env("TMPDIR", temporary).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let mark = format!("--parent\0{}\0", child.id());
    wait_until("the start of the children", || processes_with(&mark).len() >= 3);
    (child, mark)
}

#[test]
fn redis_bench_that_is_interrupted_ends_everything_it_started() {
    let temporary = TempDir::new().unwrap();
    let (mut child, mark) = endless_bench(temporary.path());
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(processes_with(&mark), [0; 0]);
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn redis_bench_that_is_killed_leaves_no_process() {
    let temporary = TempDir::new().unwrap();
    let (mut child, mark) = endless_bench(temporary.path());
    let directory = fs::read_dir(temporary.path()).unwrap().next().unwrap().unwrap().path();
    let socket = directory.join("redis.sock");
    let answers = || UnixStream::connect(&socket).is_ok();
    wait_until("the start of the server", answers);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the end of the children", || processes_with(&mark).is_empty());
    wait_until("the end of the server", || !answers());
}
