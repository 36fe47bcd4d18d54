//! `redis-shm exec` and `doctor` with the library as it is shipped: which programs they
//! let it into, for which servers, and what they say of it.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};
use support::{Server, output, program, redis_shm, run, watched};

/// How a command that is run to its end ends.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn end(command: &mut Command) -> Ended {
    let Output { status, stdout, stderr } = output(command, "");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn exec(arguments: &[&str]) -> Command {
    let mut command = Command::new(redis_shm());
    command.arg("exec").args(arguments);
    command
}

/// Lets the command become a shell that says a few words to each of these, of which
/// `redis-cli` is given one.
fn talk_to(command: &mut Command, places: &[String]) {
    let words = "PING\\nPING\\nPING\\n";
    let lines = places.iter().map(|place| format!("printf '{words}' | redis-cli {place}\n"));
    let script: String = lines.collect();
    let stdout = run(command.args(["--after", "1", "--", "sh", "-ec", &script]), "");
    assert_eq!(stdout, "PONG\n".repeat(3 * places.len()));
}

fn by_unix(server: &Server) -> String {
    format!("-s {}", server.socket().display())
}

fn by_tcp(server: &Server) -> String {
    format!("-p {}", server.port)
}

/// A range of ports that a server's is in.
fn around(server: &Server) -> String {
    format!("{}-{}", server.port, server.port + 1)
}

#[test]
fn several_servers_by_unix_socket_and_tcp() {
    watched(|| {
        let [one, two, three, other] = std::array::from_fn(|_| Server::start(&[]));
        let mut command = exec(&["-p", &around(&three), "-h", "localhost"]);
        command.arg("-s").arg(one.socket()).arg("-s").arg(two.socket());
        let places =
            [by_unix(&one), by_unix(&two), by_tcp(&three), by_unix(&other), by_unix(&three)];
        talk_to(&mut command, &places);
        let moved = [&one, &two, &three, &other].map(Server::moved);
        assert_eq!(moved, [1, 1, 1, 0]);
    });
}

#[test]
fn none_moves_before_its_first_reply() {
    watched(|| {
        for after in ["0", "1"] {
            let server = Server::start(&[]);
            let socket = server.socket();
            let socket = socket.to_str().unwrap();
            let pings = |count: &str| {
                let mut command = exec(&["--after", after, "-s", socket, "--", "redis-cli"]);
                run(command.args(["-s", socket, "-r", count, "PING"]), "")
            };
            assert_eq!((pings("1").as_str(), server.moved()), ("PONG\n", 0), "{after}");
            assert_eq!((pings("3"), server.moved()), ("PONG\n".repeat(3), 1), "{after}");
        }
    });
}

#[test]
fn a_program_within_a_program_has_the_servers_of_both() {
    watched(|| {
        let [one, two] = std::array::from_fn(|_| Server::start(&[]));
        let mut command = exec(&["-s", one.socket().to_str().unwrap(), "--"]);
        command.arg(redis_shm()).args(["exec", "-p", &two.port.to_string()]);
        talk_to(&mut command, &[by_unix(&one), by_tcp(&two)]);
        assert_eq!([one.moved(), two.moved()], [1, 1]);
    });
}

#[test]
fn servers_may_be_in_the_environment_alone() {
    watched(|| {
        let server = Server::start(&[]);
        let mut command = exec(&[]);
        command.env("SHM_FIFO_ENDPOINTS", format!("unix:{}", server.socket().display()));
        talk_to(&mut command, &[by_unix(&server)]);
        assert_eq!(server.moved(), 1);
    });
}

#[test]
fn a_socket_is_found_from_another_directory_whatever_its_path() {
    watched(|| {
        let server = Server::start(&[]);
        let elsewhere = tempfile::tempdir().unwrap();
        let name = "a b,c%d";
        std::os::unix::fs::symlink(server.directory.path(), elsewhere.path().join(name)).unwrap();
        let mut command = exec(&["-s", &format!("{name}/redis.sock")]);
        command.current_dir(elsewhere.path());
        let place = format!("-s '{}/{name}/redis.sock'", elsewhere.path().display());
        talk_to(&mut command, &[format!("-s '{name}/redis.sock'"), place]);
        assert_eq!(server.moved(), 2);
    });
}

#[test]
fn what_names_no_server_is_refused() {
    watched(|| {
        for (arguments, word) in [
            (["-p", "7005-7000"], "7005-7000"),
            (["-p", "redis"], "redis"),
            (["-h", "no-such-host.invalid"], "no-such-host.invalid"),
        ] {
            let ended = end(exec(&arguments).args(["--", "true"]));
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?}");
            assert!(ended.stderr.contains(word), "{arguments:?}: {}", ended.stderr);
        }
    });
}

/// A program made with these options of the compiler, which prints whether the library
/// is in its environment.
fn compiled(name: &str, options: &[&str]) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let source = directory.join(format!("{name}.c"));
    let text = "#include <stdio.h>\n#include <stdlib.h>\n\
                int main(void) { puts(getenv(\"LD_PRELOAD\") ? \"with\" : \"without\"); }\n";
    fs::write(&source, text).unwrap();
    let program = directory.join(name);
    let status = Command::new("cc").args(options).arg("-o").arg(&program).arg(&source).status();
    assert!(status.expect("cc runs").success(), "{name} does not compile with {options:?}");
    program
}

/// Runs it in the three ways; without `--strict` it does what it does.
fn cannot_be_served(program: &Path, reason: &str, prints: &str) {
    let name = program.to_str().unwrap();
    let run = |options: &[&str]| end(exec(options).env_remove("LD_PRELOAD").args(["--", name]));
    let strict = run(&["--strict"]);
    assert_eq!((strict.code, strict.stdout.as_str()), (Some(1), ""), "{}", strict.stderr);
    let said = format!("redis-shm: {name} cannot be moved to shared memory: ");
    assert!(
        strict.stderr.starts_with(&said) && strict.stderr.contains(reason),
        "{}",
        strict.stderr
    );
    let plain = run(&[]);
    assert_eq!((plain.code, plain.stdout.as_str(), plain.stderr.as_str()), (Some(0), prints, ""));
    let verbose = run(&["--verbose"]);
    assert_eq!((verbose.code, verbose.stdout.as_str()), (Some(0), prints));
    assert!(verbose.stderr.contains(reason), "{}", verbose.stderr);
}

#[test]
fn a_static_program_runs_as_it_is() {
    watched(|| {
        let program = compiled("static", &["-static"]);
        // Its children may be served.
        cannot_be_served(&program, "linked statically", "with\n");
    });
}

#[test]
fn a_program_of_another_c_library_runs_as_it_is() {
    watched(|| {
        // As no known one is called; it is this system's that runs it.
        let directory = tempfile::tempdir().unwrap();
        let linker = directory.path().join("ld-other.so.1");
        let own = run(Command::new("cc").arg("-print-file-name=ld-linux-x86-64.so.2"), "");
        let own = Path::new(own.trim()).canonicalize();
        let own = own.unwrap_or_else(|_| "/lib/ld-linux-aarch64.so.1".into());
        std::os::unix::fs::symlink(own, &linker).unwrap();
        let option = format!("-Wl,--dynamic-linker={}", linker.display());
        cannot_be_served(&compiled("other", &[&option]), "neither glibc nor musl", "with\n");
    });
}

#[test]
fn a_program_with_a_sanitizer_runs_as_it_is() {
    watched(|| {
        for sanitizer in ["address", "leak"] {
            let program = compiled(sanitizer, &[&format!("-fsanitize={sanitizer}")]);
            cannot_be_served(&program, "a sanitizer", "with\n");
        }
    });
}

#[test]
fn other_programs_are_run_with_the_library() {
    watched(|| {
        let program = compiled("dynamic", &[]);
        let setuid = compiled("own-setuid", &[]);
        // Of our own: nobody becomes anybody by it.
        assert!(Command::new("chmod").arg("u+s").arg(&setuid).status().unwrap().success());
        for program in [program, setuid] {
            assert_eq!(run(exec(&["--strict", "--"]).arg(program), ""), "with\n");
        }
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        fs::write(&script, "echo \"script $1\"\n").unwrap();
        assert!(Command::new("chmod").arg("+x").arg(&script).status().unwrap().success());
        assert_eq!(run(exec(&["--strict", "--"]).arg(&script).arg("runs"), ""), "script runs\n");
    });
}

/// What doctor, with these arguments and this variable, says of the library, and whether
/// it is a note.
fn doctor(server: &Server, arguments: &[&str], variable: (&str, &str)) -> (String, bool) {
    let mut command = Command::new(redis_shm());
    command.arg("doctor").arg("-s").arg(server.socket()).args(arguments);
    let ended = end(command.env_remove("REDISCLI_AUTH").env(variable.0, variable.1));
    // A library that does not work is no reason for a no.
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    let line = ended.stdout.lines().find(|line| line.contains(" preload library "));
    let line = line.unwrap_or_else(|| panic!("no library: {}", ended.stdout));
    (line.to_owned(), line.starts_with("note "))
}

const NO_VARIABLE: (&str, &str) = ("SHM_FIFO_REPORT", "");

#[test]
fn verbose_asks_each_process_for_its_report() {
    watched(|| {
        let mut command = exec(&["--verbose", "--"]);
        command.arg(program("report")).arg("fork").env("SHM_FIFO_AFTER_COMMANDS", "few");
        let ended = end(&mut command);
        assert_eq!(ended.code, Some(0), "{}", ended.stdout);
        let told = ended.stderr.matches("]: nothing moves: SHM_FIFO_AFTER_COMMANDS: ").count();
        assert_eq!((told, ended.stderr.lines().count()), (2, 2), "{}", ended.stderr);
    });
}

#[test]
fn doctor_runs_a_program_whose_connection_moves() {
    watched(|| {
        let server = Server::start(&["--requirepass", "sesame"]);
        let (line, is_note) = doctor(&server, &["-a", "sesame"], NO_VARIABLE);
        assert!(!is_note && line.ends_with(", and its connection moved"), "{line}");
    });
}

#[test]
fn doctor_tells_of_an_environment_in_which_nothing_moves() {
    watched(|| {
        let server = Server::start(&[]);
        let table = [
            ("SHM_FIFO_ENDPOINTS", "tcp:redis:6379", "SHM_FIFO_ENDPOINTS: tcp:redis:6379 "),
            ("SHM_FIFO_AFTER_COMMANDS", "few", "SHM_FIFO_AFTER_COMMANDS: \"few\" "),
        ];
        for (name, value, words) in table {
            let (line, is_note) = doctor(&server, &[], (name, value));
            assert!(is_note && line.contains("its connection stayed on its socket: "), "{line}");
            assert!(line.contains(&format!("nothing moves: {words}")), "{line}");
        }
    });
}

#[test]
fn doctor_tells_of_a_connection_that_stays_though_its_own_moves() {
    watched(|| {
        let server = Server::start(&[]);
        let (line, is_note) = doctor(&server, &[], ("SHM_FIFO_AFTER_COMMANDS", "1000000"));
        assert!(is_note && line.contains("its connection stayed on its socket"), "{line}");
    });
}

#[test]
fn doctor_does_not_guess_what_it_may_not_ask() {
    watched(|| {
        let server = Server::start(&[]);
        for denied in ["-shm.list", "-client|id"] {
            let rules = ["ACL", "SETUSER", "app", "reset", "on", ">sesame", "+@all", denied];
            assert_eq!(server.command(&rules), "+OK");
            let login = ["--user", "app", "-a", "sesame"];
            let (line, is_note) = doctor(&server, &login, NO_VARIABLE);
            assert!(is_note && line.contains("cannot be told, since "), "{denied}: {line}");
            assert!(line.contains("NOPERM"), "{denied}: {line}");
        }
    });
}

#[test]
fn doctor_needs_the_library_where_exec_would_look_for_it() {
    watched(|| {
        let server = Server::start(&[]);
        let directory = tempfile::tempdir().unwrap();
        let alone = directory.path().join("redis-shm");
        // By another process: what one of ours has open for writing, a child that another test
        // starts meanwhile has as well, and nobody can run it (ETXTBSY).
        let copied = Command::new("cp").arg(redis_shm()).arg(&alone).status();
        assert!(copied.unwrap().success());
        let ended = end(Command::new(&alone).arg("doctor").arg("-s").arg(server.socket()));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains("note     preload library "), "{}", ended.stdout);
        assert!(ended.stdout.contains("build it with: cargo build"), "{}", ended.stdout);
    });
}
