//! `redis-shm` as its users meet it. Needs redis-server, and for the demo the
//! module: `SHM_FIFO_MODULE` names it, as `make test` does.
#![cfg(feature = "measure")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use serde_json::Value;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use support::module::module;
use support::pictures::assert_pictures;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_redis-shm");
const WATCHDOG: Duration = Duration::from_secs(60);

fn redis_shm(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null()).env_remove("REDISCLI_AUTH");
    command
}

/// Copies it by another process: what this one has open for writing, a child that another
/// test starts meanwhile has as well, and nobody can run it (ETXTBSY).
fn copy_of_program(path: &Path) {
    let copied = Command::new("cp").arg(PROGRAM).arg(path).status();
    assert!(copied.unwrap().success());
}

/// Runs it to its end.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(status.signal(), None, "it was ended by a signal");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WATCHDOG;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A redis-server without the module, gone when dropped.
struct Server {
    child: Child,
    directory: TempDir,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", "redis.sock", "--dir"])
            .arg(directory.path())
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed; make setup does it");
        let server = Self { child, directory };
        wait_until("the start of redis-server", || UnixStream::connect(server.socket()).ok());
        server
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    fn latency(&self, arguments: &[&str]) -> Command {
        let mut command = redis_shm(&["latency", "--samples", "100", "-s"]);
        command.arg(self.socket()).args(arguments);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _: io::Result<()> = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_names_every_subcommand_and_the_exit_codes() {
    let (code, stdout, _) = run(&mut redis_shm(&["--help"]));
    assert_eq!(code, Some(0));
    for word in ["demo", "latency", "Exit codes"] {
        assert!(stdout.contains(word), "{stdout}");
    }
}

#[test]
fn help_of_latency_leaves_h_to_the_host_as_redis_cli_does() {
    let (code, stdout, _) = run(&mut redis_shm(&["latency", "--help"]));
    assert_eq!(code, Some(0));
    for line in ["-h, --host <HOST>", "-p, --port <PORT>", "-s, --socket <PATH>", "REDISCLI_AUTH"] {
        assert!(stdout.contains(line), "{stdout}");
    }
}

#[test]
fn help_never_shows_the_password_in_the_environment() {
    let (_, stdout, _) = run(redis_shm(&["latency", "--help"]).env("REDISCLI_AUTH", "sesame-open"));
    assert!(!stdout.contains("sesame-open"), "{stdout}");
}

#[test]
fn bad_arguments_are_named() {
    let table: [(&[&str], &str); 10] = [
        (&[], "Usage"),
        (&["fly"], "fly"),
        (&["demo", "--requests", "0"], "--requests"),
        (&["latency", "-p", "66000"], "66000"),
        (&["latency", "--duration", "0"], "--duration"),
        (&["latency", "--transport", "pigeon"], "[possible values: tcp, unix, shm]"),
        (&["exec", "-p", "7005-7000", "--", "true"], "7005-7000"),
        (&["latency", "--user", "me"], "--pass"),
        (&["bench", "--user", "me"], "--pass"),
        (&["report", "--user", "me"], "--pass"),
    ];
    for (arguments, word) in table {
        let (code, stdout, stderr) = run(&mut redis_shm(arguments));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr.contains(word), "{arguments:?}: {stderr}");
    }
}

#[test]
fn contradicting_transport_and_address_is_an_error_that_says_what_to_use() {
    let table: [(&[&str], &str); 2] = [
        (&["latency", "--transport", "unix"], "-s PATH"),
        (&["latency", "--transport", "tcp", "-s", "/run/redis.sock"], "-h and -p"),
    ];
    for (arguments, word) in table {
        let (code, _, stderr) = run(&mut redis_shm(arguments));
        assert_eq!(code, Some(2));
        assert!(stderr.contains(word), "{stderr}");
    }
}

#[test]
fn a_missing_server_program_says_what_to_install() {
    let (code, _, stderr) = run(&mut redis_shm(&["demo", "--server", "no-such-server"]));
    assert_eq!(code, Some(2));
    for word in ["no-such-server", "apt-get install redis-server", "--server PATH"] {
        assert!(stderr.contains(word), "{stderr}");
    }
}

#[test]
fn a_missing_module_says_how_to_get_or_name_it() {
    let directory = TempDir::new().unwrap();
    let alone = directory.path().join("redis-shm");
    copy_of_program(&alone);
    let mut command = Command::new(alone);
    command.args(["demo", "--server", "/bin/sh"]).env_remove("SHM_FIFO_MODULE");
    let (code, _, stderr) = run(&mut command);
    assert_eq!(code, Some(2));
    for word in ["libshm_fifo_redis_server.so", "make build", "--module PATH"] {
        assert!(stderr.contains(word), "{stderr}");
    }
}

#[test]
fn an_installed_program_finds_the_installed_module() {
    let prefix = TempDir::new().unwrap();
    let [programs, modules] = ["bin", "lib/redis/modules"].map(|name| prefix.path().join(name));
    for directory in [&programs, &modules] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(modules.join("libshm_fifo_redis_server.so"), "").unwrap();
    let installed = programs.join("redis-shm");
    copy_of_program(&installed);

    let mut command = Command::new(installed);
    command.args(["demo", "--requests", "1"]).env_remove("SHM_FIFO_MODULE");
    let (code, _, stderr) = run(&mut command);

    // The server does not start with it: the module was found, and is none.
    assert_eq!(code, Some(2));
    let found = fs::canonicalize(&modules).unwrap();
    assert!(stderr.contains(found.to_str().unwrap()), "{stderr}");
}

#[test]
fn a_server_that_will_not_start_has_its_reason_shown() {
    let directory = TempDir::new().unwrap();
    let module = directory.path().join("module.so");
    fs::write(&module, "no module").unwrap();
    let output = directory.path().join("out");
    let mut command = redis_shm(&["demo"]);
    command.arg("--module").arg(&module).arg("--output").arg(output);
    let (code, _, stderr) = run(command.env("TMPDIR", directory.path()));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("module.so failed to load"), "{stderr}");
}

#[test]
fn without_a_server_everybody_says_where_it_looked() {
    for line in ["latency", "latency --compare", "stat", "doctor", "bench", "report"] {
        let words = line.split(' ').collect::<Vec<_>>();
        let (code, _, stderr) = run(redis_shm(&words).args(["-s", "/no/such/redis.sock"]));
        assert_eq!(code, Some(2), "{line}");
        let words = ["cannot connect to /no/such/redis.sock: ", "; is the server running there?"];
        let once = words.iter().all(|words| stderr.matches(words).count() == 1);
        assert!(once, "{line}: {stderr}");
    }
}

#[test]
fn a_directory_that_nobody_can_write_into_is_named_before_the_work() {
    for arguments in [["demo", "--output", "/proc"], ["bench", "--plots", "/proc"]] {
        // No server would start.
        let (code, stdout, stderr) =
            run(redis_shm(&arguments).args(["--server", "/bin/true", "--module", "/dev/null"]));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr.contains("cannot write into /proc"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn redis_latency_prints_one_line_for_programs() {
    let server = Server::start(&[]);
    let (code, stdout, stderr) = run(&mut server.latency(&["--transport", "unix"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let pairs: Vec<(&str, &str)> =
        stdout.trim_end().split(' ').filter_map(|pair| pair.split_once('=')).collect();
    let names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    let expected =
        ["transport", "samples", "min_us", "avg_us", "p50_us", "p99_us", "p999_us", "max_us"];
    assert_eq!(names, expected);
    assert_eq!(pairs[1].1, "100");
    let figures: Vec<f64> = pairs[2..].iter().map(|(_, value)| value.parse().unwrap()).collect();
    let [min, avg, p50, p99, p999, max] = figures[..] else { panic!("{stdout}") };
    assert!(0.0 < min && min <= avg && avg <= max, "{stdout}");
    assert!(min <= p50 && p50 <= p99 && p99 <= p999 && p999 <= max, "{stdout}");
}

#[test]
fn redis_latency_over_shm_starts_from_either_socket() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let module = module();
    let server =
        Server::start(&["--loadmodule", module.to_str().unwrap(), "--port", port.as_str()]);
    let (code, stdout, stderr) = run(&mut server.latency(&[]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("transport=shm samples=100 "), "{stdout}");
    let (code, stdout, stderr) = run(&mut redis_shm(&["latency", "--samples", "100", "-p", &port]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("transport=shm samples=100 "), "{stdout}");
}

#[test]
fn redis_latency_over_shm_without_the_module_is_a_no_with_its_reason() {
    let server = Server::start(&[]);
    let (code, stdout, stderr) = run(&mut server.latency(&["--transport", "shm"]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("does not have the shm module"), "{stderr}");
    assert!(stderr.contains("loadmodule"), "{stderr}");
}

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("{name} is no number in {row}"))
}

/// Which transport and command each row is for, after a look at its figures.
fn measured(rows: &Value, requests: f64) -> Vec<(String, String)> {
    let rows = rows.as_array().unwrap();
    for row in rows {
        let counts = ["clients", "pipeline", "requests"].map(|name| number(row, name));
        assert_eq!(counts, [1.0, 1.0, requests]);
        let figures = ["p50_ns", "p99_ns", "p999_ns", "max_ns"].map(|name| number(row, name));
        assert!(figures[0] > 0.0 && figures.is_sorted(), "{row}");
        assert!(number(row, "commands_per_s") > 0.0, "{row}");
        assert_eq!(row.as_object().unwrap().len(), 10, "{row}");
    }
    let text = |row: &Value, name| row[name].as_str().unwrap().to_owned();
    rows.iter().map(|row| (text(row, "transport"), text(row, "command"))).collect()
}

fn check_json(path: &Path, requests: f64) {
    let json: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(!json["machine"]["cpu"].as_str().unwrap().is_empty());
    assert!(number(&json["machine"], "cores") >= 1.0);
    assert!(json["machine"]["kernel"].as_str().unwrap().starts_with("Linux "));
    assert_eq!(json["server"]["name"], "redis");
    assert!(json["server"]["version"].as_str().unwrap().contains('.'));
    let mut expected = Vec::new();
    for command in ["PING", "SET", "GET"] {
        expected.extend(["tcp", "unix", "shm"].map(|way| (way.to_owned(), command.to_owned())));
    }
    assert_eq!(measured(&json["results"], requests), expected);
    assert_eq!(measured(&json["redis_rs"], requests), expected);
}

#[test]
fn redis_demo_measures_everything_and_leaves_only_its_results() {
    let temporary = TempDir::new().unwrap();
    let output = TempDir::new().unwrap();
    let target = output.path().join("new/demo");
    let mut command = redis_shm(&["demo", "--requests", "50", "--output"]);
    let (code, stdout, stderr) = run(command.arg(&target).env("TMPDIR", temporary.path()));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for word in ["p99.9 µs", "commands/s", "redis-rs", "Median round trip", "█"] {
        assert!(stdout.contains(word), "{stdout}");
    }
    assert!(!stdout.contains('\x1b'), "colours without a terminal: {stdout}");
    check_json(&target.join("demo.json"), 50.0);
    assert_pictures(&["latency.svg", "latency.png"].map(|name| target.join(name)), 1200);
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "something was left behind");
}
