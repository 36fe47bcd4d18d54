//! What cannot be served starts and runs as if nothing were there: programs with sanitizers and
//! without libraries (`programs/left_alone.c`), as the program itself and as its children; what
//! is served beside them, for glibc and musl, finds nothing either; and what programs do to
//! their system calls, descriptors and threads (`programs/sandbox.c`).
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::path::PathBuf;
use std::process::Command;
use support::{Server, library, output, redis_shm, run, tested_both_ways, watched};

tested_both_ways! {
    "sandbox";
    traffic: 3,
    forbidden_beforehand: 0,
    forbids_itself: 0,
    forbids_itself_by_syscall: 0,
    no_descriptor_left: 0,
    closed_in_every_way: 6,
    cancelled_threads: 1,
    smallest_stack: 3,
}

/// A compiler and its options, for a program like any.
struct Kind {
    name: &'static str,
    compiler: &'static str,
    options: &'static [&'static str],
}

const PLAIN: Kind = Kind { name: "plain", compiler: "cc", options: &[] };
const MUSL: Kind = Kind { name: "musl", compiler: "musl-gcc", options: &[] };
const STATIC: Kind = Kind { name: "static", compiler: "cc", options: &["-static"] };
const ADDRESS: Kind = Kind { name: "address", compiler: "cc", options: &["-fsanitize=address"] };
const LEAK: Kind = Kind { name: "leak", compiler: "cc", options: &["-fsanitize=leak"] };

impl Kind {
    /// The program for the test of this name: tests run at the same time.
    fn compiled(&self, test: &str) -> PathBuf {
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("left-alone-{}-{test}", self.name));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/left_alone.c");
        let mut command = Command::new(self.compiler);
        command.args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]).args(self.options);
        let status = command.arg("-o").arg(&program).arg(source).status().unwrap_or_else(|error| {
            panic!("{}: {error}; apt-get install build-essential musl-tools", self.compiler)
        });
        assert!(status.success(), "{command:?}");
        program
    }
}

/// Runs `sh` with this script, as it is and preloaded, and returns what it prints both times:
/// nothing on stderr.
fn same_both_ways(server: &Server, script: &str) -> String {
    let [plain, preloaded] = [None, Some(())].map(|preloaded| {
        let mut command = match preloaded {
            None => Command::new("sh"),
            Some(()) => {
                let mut exec = server.exec(16);
                exec.arg("sh");
                exec
            }
        };
        let output = output(command.args(["-ec", script]), "");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert!(output.status.success(), "{}: {}", output.status, text(output.stderr));
        (text(output.stdout), text(output.stderr))
    });
    assert_eq!(plain, preloaded);
    assert_eq!(plain.1, "");
    plain.0
}

/// As a child of a preloaded shell.
fn is_left_alone(kind: &Kind) {
    let program = kind.compiled("alone");
    let program = program.display();
    let server = Server::start(&[]);
    let socket = server.socket();
    let socket = socket.display();
    let found = same_both_ways(&server, &format!("{program} {socket} found"));
    assert!(found.starts_with("errno 0, dlerror none\n"), "{found}");
    assert_eq!(same_both_ways(&server, &format!("{program} {socket} traffic")), "passed\n");
    assert_eq!(server.moved(), 0);
}

#[test]
fn a_program_finds_nothing_of_it() {
    watched(|| {
        for kind in [&PLAIN, &MUSL] {
            let program = kind.compiled("alone");
            let server = Server::start(&[]);
            let command = format!("{} {} found", program.display(), server.socket().display());
            same_both_ways(&server, &command);
        }
    });
}

/// Of a shell for glibc.
#[test]
fn a_child_for_musl_is_served() {
    watched(|| {
        let program = MUSL.compiled("child");
        let server = Server::start(&[]);
        let command = format!("{} {} traffic", program.display(), server.socket().display());
        assert_eq!(same_both_ways(&server, &command), "passed\n");
        assert_eq!(server.moved(), 3);
    });
}

#[test]
fn static_programs_are_left_alone() {
    watched(|| is_left_alone(&STATIC));
}

#[test]
fn address_sanitizer_is_left_alone() {
    watched(|| is_left_alone(&ADDRESS));
}

#[test]
fn leak_sanitizer_is_left_alone() {
    watched(|| is_left_alone(&LEAK));
}

/// AddressSanitizer still sees what it is there for.
#[test]
fn address_sanitizer_finds_its_faults() {
    watched(|| {
        let source = tempfile::Builder::new().suffix(".c").tempfile().unwrap();
        let text = "#include <stdlib.h>\n#include <unistd.h>\n\
                    int main(void) { char *p = malloc(8); return read(0, p, 9) < 0; }\n";
        std::fs::write(source.path(), text).unwrap();
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("left-alone-fault");
        let status = Command::new("cc")
            .args(["-w", "-fsanitize=address", "-o"])
            .arg(&program)
            .arg(source.path())
            .status();
        assert!(status.unwrap().success());
        let output = output(Command::new(&program).env("LD_PRELOAD", library()), "nine byte");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{stderr}");
        assert!(stderr.contains("heap-buffer-overflow"), "{stderr}");
    });
}

#[test]
fn all_of_them_in_one_pipeline() {
    watched(|| {
        let server = Server::start(&[]);
        let socket = server.socket();
        let stages = [&MUSL, &ADDRESS, &STATIC, &LEAK, &MUSL].map(|kind| {
            format!("{} {} copy", kind.compiled("pipeline").display(), socket.display())
        });
        let script = format!("echo one | {} | tr o O; echo $?", stages.join(" | "));
        let copied = same_both_ways(&server, &script);
        assert_eq!(copied, format!("One\n{}0\n", "passed\n".repeat(stages.len())));
    });
}

/// The program itself, not its child.
#[test]
fn exec_runs_it_with_the_library_for_their_children() {
    watched(|| {
        let server = Server::start(&[]);
        let mut command = Command::new(redis_shm());
        command.arg("exec").arg("-s").arg(server.socket()).arg("--").arg(ADDRESS.compiled("exec"));
        assert_eq!(run(command.arg(server.socket()).arg("traffic"), ""), "passed\n");
        assert_eq!(server.moved(), 0);
    });
}

/// What the dynamic linker does not find ends a program before it begins.
#[test]
fn the_library_needs_the_c_library_alone_and_an_old_one() {
    let dynamic = run(Command::new("objdump").arg("-p").arg(library()), "");
    let needed: Vec<&str> = dynamic
        .lines()
        .filter_map(|line| line.trim().strip_prefix("NEEDED"))
        .map(str::trim)
        .collect();
    assert_eq!(needed, ["libc.so.6"]);
    let versions: Vec<(u32, u32)> = dynamic
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("GLIBC_"))
        .map(|version| {
            let mut numbers = version.split('.').map(|number| number.parse().unwrap());
            (numbers.next().unwrap(), numbers.next().unwrap())
        })
        .collect();
    assert!(!versions.is_empty(), "{dynamic}");
    assert!(versions.iter().all(|&version| version <= (2, 18)), "{versions:?}");
}

/// A signal handler that comes here in a program which has loaded a library since must not make
/// the dynamic linker allocate: what threads have of their own is there from their start.
#[test]
fn the_data_of_threads_is_there_from_the_start() {
    const STATIC_TLS: u64 = 0x10;
    let dynamic = run(Command::new("objdump").arg("-p").arg(library()), "");
    let flags = dynamic.lines().find_map(|line| line.trim().strip_prefix("FLAGS "));
    let digits = flags.and_then(|flags| flags.trim().strip_prefix("0x")).unwrap();
    assert_ne!(u64::from_str_radix(digits, 16).unwrap() & STATIC_TLS, 0, "{dynamic}");
}
