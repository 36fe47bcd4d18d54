//! A real Redis with the module, and programs run by `redis-shm exec`.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test file uses its own part of it"
)]

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use tempfile::TempDir;

#[path = "../../../tests/support/watchdog.rs"]
mod watchdog;
pub(crate) use watchdog::watched;

/// The module; `redis-shm` and the library that it preloads are beside it.
fn module() -> PathBuf {
    let path = env::var_os("SHM_FIFO_MODULE").expect(
        "SHM_FIFO_MODULE names libshm_fifo_redis_server.so; make test builds it and sets it",
    );
    let module = PathBuf::from(path);
    assert!(module.is_file(), "there is no {}; build it with: make module", module.display());
    module
}

/// `redis-shm`, as it is shipped.
pub(crate) fn redis_shm() -> PathBuf {
    beside_module("redis-shm")
}

/// What it preloads.
pub(crate) fn library() -> PathBuf {
    beside_module("libshm_fifo_redis_preload.so")
}

fn beside_module(name: &str) -> PathBuf {
    let file = module().with_file_name(name);
    assert!(file.is_file(), "there is no {}; build it with: make module", file.display());
    file
}

/// The library, for who preloads it without `redis-shm`.
pub(crate) fn preload_library() -> PathBuf {
    redis_shm().with_file_name("libshm_fifo_redis_preload.so")
}

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs");

/// A C library that programs are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Libc {
    Glibc,
    Musl,
}

impl Libc {
    /// A program of `programs/`, compiled once.
    pub(crate) fn program(self, name: &str) -> PathBuf {
        static KNOWN: Mutex<BTreeMap<(Libc, String), PathBuf>> = Mutex::new(BTreeMap::new());
        let mut known = KNOWN.lock().unwrap();
        known.entry((self, name.to_owned())).or_insert_with(|| self.compile(name)).clone()
    }

    fn compile(self, name: &str) -> PathBuf {
        let (compiler, suffix) = match self {
            Self::Glibc => ("cc", ""),
            Self::Musl => ("musl-gcc", "-musl"),
        };
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}{suffix}"));
        let mut command = Command::new(compiler);
        command.args(["-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]);
        if self == Self::Musl {
            // The kernel's headers, which are no part of it, and what it does not have.
            command.args(["-idirafter", "/usr/include", "-idirafter"]);
            command.arg(format!("/usr/include/{}-linux-gnu", env::consts::ARCH));
            command.arg("-include").arg(Path::new(PROGRAMS).join("musl.h"));
        }
        let source = Path::new(PROGRAMS).join(name).with_extension("c");
        let status = command.arg("-o").arg(&program).arg(source).status().unwrap_or_else(|error| {
            panic!("{compiler}: {error}; apt-get install build-essential musl-tools")
        });
        assert!(status.success(), "{name}.c does not compile: {command:?}");
        program
    }
}

/// A program of `programs/`, as the system compiles it.
pub(crate) fn program(name: &str) -> PathBuf {
    Libc::Glibc.program(name)
}

/// By which kind of socket a program reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unix,
    Tcp,
}

/// Runs one of a program's tests: first as it is, for control, then on shared memory,
/// where so many of its connections move.
pub(crate) fn both_ways(server: &Server, program: &Path, name: &str, moves: u64) {
    both_ways_by(Kind::Unix, server, program, name, moves);
}

/// The same by that kind of socket.
pub(crate) fn both_ways_by(kind: Kind, server: &Server, program: &Path, name: &str, moves: u64) {
    let address = server.address(kind);
    let control = run(Command::new(program).arg(&address).arg(name), "");
    assert_eq!((control.as_str(), server.moved()), ("passed\n", 0));
    assert_eq!(server.command(&["FLUSHALL"]), "+OK");
    let mut command = server.exec_by(kind, 16);
    assert_eq!(run(command.arg(program).arg(&address).arg(name), ""), "passed\n");
    assert_eq!(server.moved(), moves, "connections that moved");
    server.wait_for("sessions", 0);
    assert_eq!((server.counter("protocol_errors"), server.counter("missed_doorbells")), (0, 0));
}

/// A test for each of a program's, and how many of its connections move: for glibc, and for
/// musl.
macro_rules! tested_both_ways {
    ($program:literal; $($name:ident: $moves:literal),+ $(,)?) => {
        crate::support::tested_both_ways!(Glibc: $program; $($name: $moves),+);

        mod musl {
            crate::support::tested_both_ways!(Musl: $program; $($name: $moves),+);
        }
    };
    ($libc:ident: $program:literal; $($name:ident: $moves:literal),+) => {$(
        #[test]
        fn $name() {
            let program = crate::support::Libc::$libc.program($program);
            crate::support::watched(move || {
                let server = crate::support::Server::start(&[]);
                crate::support::both_ways(&server, &program, stringify!($name), $moves);
            });
        }
    )+};
}
pub(crate) use tested_both_ways;

/// Waits until that process, which has one thread, sleeps in the kernel.
pub(crate) fn wait_until_asleep(pid: u32) {
    // The watchdog ends it.
    loop {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let state = status.rsplit_once(") ").unwrap().1;
        if state.starts_with('S') {
            return;
        }
        std::thread::yield_now();
    }
}

/// A server of our own, ended on drop.
pub(crate) struct Server {
    process: Child,
    options: Vec<String>,
    pub(crate) directory: TempDir,
    pub(crate) port: u16,
}

impl Server {
    /// With the module.
    pub(crate) fn start(options: &[&str]) -> Self {
        let module = module();
        let module = module.to_str().expect("a path of text");
        Self::start_with(&[&["--loadmodule", module], options].concat())
    }

    /// Without it.
    pub(crate) fn start_plain() -> Self {
        Self::start_with(&[])
    }

    fn start_with(options: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        // Given back before Redis takes it; another taker makes the test fail.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>();
        let process = start_process(directory.path(), port, &options);
        Self { process, options, directory, port }
    }

    /// Ends it as an operator does.
    pub(crate) fn terminate(&mut self) {
        let status = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        assert!(status.unwrap().success());
        self.process.wait().unwrap();
    }

    /// The same, and starts another one in its place.
    pub(crate) fn restart(&mut self) {
        self.terminate();
        self.process = start_process(self.directory.path(), self.port, &self.options);
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// A command by a connection that stays on its socket; its reply as text.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        Plain::connect(&self.socket()).command(words)
    }

    /// A field of `INFO shm`.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let info = self.command(&["INFO", "shm"]);
        let prefix = format!("shm_{name}:");
        let value = info.lines().find_map(|line| line.strip_prefix(&prefix));
        value.unwrap_or_else(|| panic!("no {name} in {info}")).trim().parse().unwrap()
    }

    /// Connections that have ever moved.
    pub(crate) fn moved(&self) -> u64 {
        self.counter("total_sessions")
    }

    /// Waits until `INFO shm` says so.
    pub(crate) fn wait_for(&self, name: &str, value: u64) {
        // The watchdog ends it.
        while self.counter(name) != value {
            std::thread::yield_now();
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }

    /// Stops it, as a debugger does.
    pub(crate) fn stop(&self) {
        let status = Command::new("kill").args(["-STOP", &self.pid().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// What a program is given to connect by such a socket: a path, or a port of loopback.
    pub(crate) fn address(&self, kind: Kind) -> OsString {
        match kind {
            Kind::Unix => self.socket().into(),
            Kind::Tcp => self.port.to_string().into(),
        }
    }

    /// `redis-shm exec` by unix socket; the program's words are to be added.
    pub(crate) fn exec(&self, after: u64) -> Command {
        self.exec_by(Kind::Unix, after)
    }

    /// The same by loopback TCP.
    pub(crate) fn exec_tcp(&self, after: u64) -> Command {
        self.exec_by(Kind::Tcp, after)
    }

    /// The same by that kind of socket.
    pub(crate) fn exec_by(&self, kind: Kind, after: u64) -> Command {
        let mut command = Command::new(redis_shm());
        command.arg("exec");
        match kind {
            Kind::Unix => command.arg("-s"),
            Kind::Tcp => command.args(["-h", "127.0.0.1", "-p"]),
        };
        command.arg(self.address(kind));
        command.args(["--strict", "--after", &after.to_string(), "--"]);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start_process(directory: &Path, port: u16, options: &[String]) -> Child {
    let mut process = Command::new("redis-server")
        .current_dir(directory)
        .args(["--port", &port.to_string(), "--save", "", "--unixsocket", "redis.sock"])
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server starts; install it with: apt-get install redis-server");
    wait_until_ready(&mut process);
    process
}

/// Reads its log up to the line that says so, and lets a thread read on: a
/// server whose log is full stops.
fn wait_until_ready(process: &mut Child) {
    let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
    let ready = |line: &String| line.contains("now ready to accept connections at");
    let line = log.by_ref().map_while(Result::ok).find(ready);
    line.expect("redis-server says that it is ready; is its port taken?");
    std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
}

/// A connection on a socket.
pub(crate) struct Plain(BufReader<UnixStream>);

impl Plain {
    pub(crate) fn connect(socket: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(socket).unwrap()))
    }

    /// Sends a command and returns its reply's text: that of a string, the line of
    /// anything else.
    pub(crate) fn command(&mut self, words: &[&str]) -> String {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let Some(length) =
            line.strip_prefix('$').map(|digits| digits.trim().parse::<i64>().unwrap())
        else {
            return line.trim_end().to_owned();
        };
        let Ok(length) = usize::try_from(length) else { return String::new() };
        let mut bytes = vec![0; length + 2];
        self.0.read_exact(&mut bytes).unwrap();
        bytes.truncate(length);
        String::from_utf8(bytes).unwrap()
    }
}

/// Runs a program with `input` to its end; its output as text.
pub(crate) fn run(command: &mut Command, input: &str) -> String {
    let Output { status, stdout, stderr } = output(command, input);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout
}

/// Runs a program with `input` to its end.
pub(crate) fn output(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A program need not read all of it.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

/// `key: value` lines as a map.
pub(crate) fn fields(text: &str) -> HashMap<String, String> {
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    text.lines().filter_map(field).collect()
}
