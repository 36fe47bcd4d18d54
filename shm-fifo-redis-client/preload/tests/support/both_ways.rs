//! Programs as people run them, each once on its socket and once by `redis-shm exec`:
//! what they print must be the same, and in shared memory the connections that they name
//! must have moved.
//!
//! A program asks the test for what it cannot do or see itself: it pushes
//! `<what> <its CLIENT ID> <its process id>` to the list `asked` and waits by `BLPOP` for
//! `answer:<its CLIENT ID>`.
//!
//! | What | The test |
//! |---|---|
//! | `check` | looks that client up in `SHM.LIST`: on a socket it must not be there, by `exec` it must |
//! | `kill` | `CLIENT KILL`s it, and answers whoever connects next |
//! | `restart` | ends the server, starts another one there, and answers likewise |
//! | `terminate` | sends SIGTERM to the process, and no answer: the signal ends the wait |
//! | `terminate-and-answer` | sends both, where a handler is called when the command has ended |
#![allow(dead_code, reason = "each test file uses its own part of it")]

use crate::support::{Server, redis_shm, watched};
use redis::{Commands, Connection};
use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Far beyond what any program takes on a busy machine, and before a test's own watchdog.
const WATCHDOG: Duration = Duration::from_secs(55);

/// Where `make clients` has installed packages of Python and Node.
pub(crate) fn packages() -> PathBuf {
    let directory = env::var_os("SHM_FIFO_CLIENTS");
    directory.expect("SHM_FIFO_CLIENTS is set; make clients installs the clients").into()
}

/// A file of `clients/`.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// A program's command line, and how it reaches the server.
#[derive(Debug)]
pub(crate) struct Program {
    words: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    by_tcp: bool,
    may_stay: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Socket,
    SharedMemory,
}

impl Program {
    /// A program, or an interpreter of one; the server's address will be its last word.
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        let (words, environment) = (vec![program.into()], Vec::new());
        Self { words, environment, by_tcp: false, may_stay: false }
    }

    /// Python with what was installed for it.
    pub(crate) fn python(name: &str) -> Self {
        Self::new(packages().join("python/bin/python3")).word(source(name))
    }

    /// Node's program, by the Node of that package.
    pub(crate) fn node(package: &str) -> Self {
        let node = packages().join("node_modules").join(package).join("bin/node");
        Self::new(node).with_node(source("node.js"))
    }

    /// The same by Bun, whose connections may stay on their sockets.
    pub(crate) fn bun(library: &str) -> Self {
        let bun = packages().join("node_modules/bun/bin/bun");
        let program = Self::new(bun).with_node(source("node.js")).word(library);
        Self { may_stay: true, ..program }
    }

    /// A program of Node's with what was installed for it.
    pub(crate) fn with_node(mut self, program: PathBuf) -> Self {
        self.environment.push(("NODE_PATH", packages().join("node_modules").into()));
        self.word(program)
    }

    /// An example of this crate, which make builds: cargo puts it beside the tests.
    pub(crate) fn redis_rs() -> Self {
        let test = env::current_exe().expect("this test has a path");
        let program = test.parent().unwrap().with_file_name("examples").join("redis_rs");
        assert!(program.is_file(), "there is no {}; make clients builds it", program.display());
        Self::new(program)
    }

    /// A program in C or C++.
    pub(crate) fn compiled(name: &str, options: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("");
        let compiler = if name.ends_with(".c") { "cc" } else { "c++" };
        let status = Command::new(compiler)
            .args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&program)
            .arg(source(name))
            .args(options)
            .status()
            .expect("a compiler runs; install it with: apt-get install build-essential");
        assert!(status.success(), "{name} does not compile");
        Self::new(program)
    }

    pub(crate) fn word(mut self, word: impl Into<OsString>) -> Self {
        self.words.push(word.into());
        self
    }

    /// Its address is a port of loopback, not a path.
    pub(crate) fn by_tcp(mut self) -> Self {
        self.by_tcp = true;
        self
    }

    /// Runs it both ways and compares what it says.
    pub(crate) fn compare(self) {
        watched(move || {
            let by_socket = self.run(Transport::Socket);
            let by_memory = self.run(Transport::SharedMemory);
            assert_eq!(by_memory, by_socket, "{self} says something else in shared memory");
        });
    }

    /// What it said, and how many of its connections it had looked at.
    fn run(&self, transport: Transport) -> (String, usize) {
        let mut test = Test::new(self, transport);
        let ended = test.serve();
        let Test { mut running, server, checked, mistaken, .. } = test;
        let (stdout, stderr) = running.end();
        let said = format!("{self} by {transport:?} said\n{stdout}{stderr}");
        match ended {
            Ok(status) => assert!(status.success(), "{said}and ended by {status}"),
            Err(what) => panic!("{said}and then {what}"),
        }
        // Only now: at its exit it has said why some stayed.
        assert!(mistaken.is_empty(), "{said}and {}", mistaken.join(", "));
        assert!(checked > 0, "{said}and let no connection be checked");
        assert_eq!((server.counter("protocol_errors"), server.counter("missed_doorbells")), (0, 0));
        (stdout, checked)
    }

    fn command(&self, server: &Server, transport: Transport) -> Command {
        let port = server.port.to_string();
        let mut command = match transport {
            Transport::Socket => Command::new(&self.words[0]),
            Transport::SharedMemory => {
                let mut exec = Command::new(redis_shm());
                // What has moved, and why the rest has not, is in the message of a failure.
                exec.args(["exec", "--verbose"]);
                if self.by_tcp {
                    exec.args(["-h", "127.0.0.1", "-p", &port]);
                } else {
                    exec.arg("-s").arg(server.socket());
                }
                if !self.may_stay {
                    exec.arg("--strict");
                }
                exec.arg("--").arg(&self.words[0]);
                exec
            }
        };
        command.args(&self.words[1..]);
        if self.by_tcp {
            command.arg(port);
        } else {
            command.arg(server.socket());
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(server.directory.path());
        command
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.words.iter().map(|word| word.to_string_lossy()).collect();
        write!(f, "`{}`", words.join(" "))
    }
}

/// One run: the server, the program, and what has been asked for so far.
struct Test<'program> {
    program: &'program Program,
    transport: Transport,
    server: Server,
    running: Running,
    checked: usize,
    /// What was found of connections that should be elsewhere.
    mistaken: Vec<String>,
}

impl<'program> Test<'program> {
    fn new(program: &'program Program, transport: Transport) -> Self {
        let server = Server::start(&[]);
        let running = Running::start(program.command(&server, transport));
        Self { program, transport, server, running, checked: 0, mistaken: Vec::new() }
    }

    /// Does what the program asks for until it ends.
    fn serve(&mut self) -> Result<ExitStatus, String> {
        let deadline = Instant::now() + WATCHDOG;
        let mut connection = connect(&self.server);
        loop {
            // A pause of the loop, and no longer than it takes the program to ask.
            let asked: Option<(String, String)> =
                connection.blpop("asked", 0.05).map_err(|error| error.to_string())?;
            if let Some((_, asked)) = asked {
                self.answer(&asked, &mut connection)?;
            } else if let Some(status) = self.running.child.try_wait().expect("it is a child") {
                return Ok(status);
            } else if Instant::now() > deadline {
                return Err("hung".to_owned());
            }
        }
    }

    fn answer(&mut self, asked: &str, connection: &mut Connection) -> Result<(), String> {
        let words: Vec<&str> = asked.split(' ').collect();
        let [what, id, pid] = words[..] else { return Err(format!("asked for {asked:?}")) };
        match what {
            "check" => self.check(id, connection),
            "kill" => {
                let killed: i64 = command(connection, &["CLIENT", "KILL", "ID", id]);
                assert_eq!(killed, 1, "clients killed");
            }
            "restart" => {
                self.server.restart();
                *connection = connect(&self.server);
            }
            "terminate" | "terminate-and-answer" => {
                let sent = Command::new("kill").args(["-TERM", pid]).status();
                assert!(sent.expect("kill runs").success());
            }
            _ => return Err(format!("asked for {asked:?}")),
        }
        if what != "terminate" {
            let _: i64 = command(connection, &["RPUSH", &format!("answer:{id}"), "yes"]);
        }
        Ok(())
    }

    /// Whether that client has moved, and should have.
    fn check(&mut self, id: &str, connection: &mut Connection) {
        self.checked += 1;
        let list: Vec<HashMap<String, String>> = command(connection, &["SHM.LIST"]);
        let state = list.iter().find(|client| client["id"] == id).map(|client| &client["state"]);
        let moved = state.is_some_and(|state| state != "offered");
        if moved != (self.transport == Transport::SharedMemory) && !self.program.may_stay {
            self.mistaken.push(format!("connection {} had state {state:?}", self.checked));
        }
    }
}

fn connect(server: &Server) -> Connection {
    let address = format!("unix://{}", server.socket().display());
    let connection = redis::Client::open(address).and_then(|client| client.get_connection());
    connection.expect("the server is connected to")
}

fn command<T: redis::FromRedisValue>(connection: &mut Connection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).query(connection).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// A process with its children, ended on drop.
#[derive(Debug)]
struct Running {
    child: Child,
    output: Option<[JoinHandle<String>; 2]>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that its children can be ended as well.
        let started = command.process_group(0).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, output: Some([collect(stdout), collect(stderr)]) }
    }

    /// What it has said until now, with which it and its children end.
    fn end(&mut self) -> (String, String) {
        self.kill();
        let [stdout, stderr] = self.output.take().unwrap().map(|text| text.join().unwrap());
        (stdout, stderr)
    }

    fn kill(&mut self) {
        // Nobody is there any more where all went well.
        let group = format!("-{}", self.child.id());
        drop(Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status());
        drop(self.child.wait());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
