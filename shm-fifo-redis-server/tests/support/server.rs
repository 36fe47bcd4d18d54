//! A redis-server of a test's own: on addresses nobody else has, with the module,
//! and gone when the test ends, however it ends.

use super::process::Process;
use super::version::{Feature, ServerVersion, not_run};
use super::watchdog::Watchdog;
use super::wire::Wire;
use super::{PATIENCE, holds_within, wait_until};
use shm_fifo_redis_client::{Client, Connection, Stream};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

const MODULE_FILE: &str = "libshm_fifo_redis_server.so";
/// Another program may take the free port before the server does.
const PORT_ATTEMPTS: usize = 5;
/// Lines of the log that a failed test shows.
const LOG_TAIL: usize = 40;
/// No tested server has more: one for each io-thread, where they have their own.
const MOST_EVENT_LOOPS: usize = 4;
/// No test takes so long, not even where io-threads that never sleep leave the others
/// the CPU once in a time slice.
const TEST_TIME: Duration = Duration::from_secs(600);

/// How a server is to be started.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerOptions {
    within: Vec<String>,
    without_module: bool,
    cluster_node: bool,
    module_args: Vec<String>,
    args: Vec<String>,
    config: Option<String>,
}

impl ServerOptions {
    /// Arguments of `loadmodule`, behind the path.
    pub(crate) fn module_args(mut self, args: &[&str]) -> Self {
        self.module_args = args.iter().map(|&arg| arg.to_owned()).collect();
        self
    }

    /// A command that runs the server, as `ip netns exec NAME` does.
    pub(crate) fn within(mut self, command: &[&str]) -> Self {
        self.within = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// For the server the machine is one with `vm.overcommit_memory` 2, which has memory
    /// allocated before it is used. Needs root; `None`, and said, where that is not to be had.
    pub(crate) fn committing_memory(self) -> Option<Self> {
        const SCRIPT: &str = "echo 2 > \"$0\" && mount --bind \"$0\" /proc/sys/vm/overcommit_memory \
            && rm \"$0\" && exec \"$@\"";
        let setting = tempfile::NamedTempFile::new().unwrap().into_temp_path().keep().unwrap();
        let unshared = ["unshare", "--mount", "sh", "-c", SCRIPT, setting.to_str().unwrap()];
        let may = Command::new(unshared[0]).args(&unshared[1..]).arg("true").output();
        if may.is_ok_and(|output| output.status.success()) {
            return Some(self.within(&unshared));
        }
        not_run(&"this machine", "root, for a setting of the kernel's of its own");
        None
    }

    /// Further arguments of the server.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(|&arg| arg.to_owned()).collect();
        self
    }

    /// So many io-threads, which get something to do however small the load is.
    pub(crate) fn io_threads(mut self, count: usize) -> Self {
        let tested = ServerVersion::of_tested_server();
        // Valkey's wait for load, unless they are told not to.
        let always = match tested.number {
            _ if !tested.is_valkey() || tested.number < (8, 0) => ["--io-threads-do-reads", "yes"],
            (8, _) | (9, 0) => ["--events-per-io-thread", "0"],
            _ => ["--io-threads-always-active", "yes"],
        };
        self.args.extend(["--io-threads".to_owned(), count.to_string()]);
        self.args.extend(always.map(str::to_owned));
        self
    }

    /// No module is loaded.
    pub(crate) fn without_module(mut self) -> Self {
        self.without_module = true;
        self
    }

    /// A node of a cluster.
    pub(crate) fn cluster_node(mut self) -> Self {
        self.cluster_node = true;
        self
    }

    /// A redis.conf with this text; `MODULE` in it is the module's path. No module
    /// is loaded but by that.
    pub(crate) fn config(mut self, text: &str) -> Self {
        self.config = Some(text.replace("MODULE", module_path().to_str().unwrap()));
        self.without_module()
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    /// If it ends or does not answer; its log is shown.
    pub(crate) fn start(self) -> TestServer {
        let mut server = TestServer::spawn(self.clone());
        for _ in 1..PORT_ATTEMPTS {
            if server.answers() || !server.log().contains("Address already in use") {
                break;
            }
            server = TestServer::spawn(self.clone());
        }
        assert!(server.answers(), "the server does not answer");
        server
    }

    /// Runs a server in `directory`, whose log goes on if there is one.
    fn run(&self, directory: &Path, port: u16) -> Child {
        let log = File::options().create(true).append(true).open(directory.join("redis.log"));
        let log = log.unwrap();
        let mut words = self.within.iter().map(OsString::from).chain([server_path().into()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        if let Some(text) = &self.config {
            let path = directory.join("redis.conf");
            fs::write(&path, text).unwrap();
            command.arg(path);
        }
        command.args(arguments(directory, port)).args(&self.args);
        if self.cluster_node {
            // By default the bus is 10000 above the port, which may not exist.
            let bus = free_port().to_string();
            command.args(["--cluster-enabled", "yes", "--cluster-port", &bus]);
        }
        if !self.without_module {
            command.arg("--loadmodule").arg(module_path()).args(&self.module_args);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        // SAFETY: prctl is async-signal-safe and takes no pointer here.
        unsafe {
            command.pre_exec(|| {
                // A test process that is killed or aborted drops nothing.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        command.spawn().unwrap_or_else(|error| {
            panic!("cannot start {}: {error}", server_path().display());
        })
    }

    /// Starts a server that cannot start. Returns its log.
    ///
    /// # Panics
    /// If it answers instead of ending.
    pub(crate) fn start_in_vain(self) -> String {
        let mut server = TestServer::spawn(self);
        assert!(!server.answers(), "the server started");
        assert!(!server.exit_status().success(), "a server that cannot start says so");
        server.log()
    }
}

/// A running private server.
#[derive(Debug)]
pub(crate) struct TestServer {
    child: Child,
    options: ServerOptions,
    directory: TempDir,
    port: u16,
    /// A connection on which the test asks what is no part of it.
    aside: Mutex<Option<Wire>>,
    _watchdog: Watchdog,
}

impl TestServer {
    /// A server with the module and its default settings.
    pub(crate) fn start() -> Self {
        ServerOptions::default().start()
    }

    /// A server whose rings have `bytes` bytes.
    pub(crate) fn with_rings_of(bytes: usize) -> Self {
        ServerOptions::default().module_args(&["ring-bytes", &bytes.to_string()]).start()
    }

    fn spawn(options: ServerOptions) -> Self {
        let (directory, port) = (temporary_directory(), free_port());
        let child = options.run(directory.path(), port);
        // The servers of all tests end with the process.
        let watchdog = Watchdog::with_patience(TEST_TIME);
        Self { child, options, directory, port, aside: Mutex::new(None), _watchdog: watchdog }
    }

    /// Starts it anew after [`TestServer::kill`], as before: in its directory and on
    /// its port.
    ///
    /// # Panics
    /// If it ends or does not answer; its log is shown.
    pub(crate) fn restart(&mut self) {
        *self.aside.get_mut().unwrap() = None;
        self.child = self.options.run(self.directory.path(), self.port);
        assert!(self.answers(), "the server does not answer");
    }

    /// Whether it answers, once it does or has ended.
    fn answers(&mut self) -> bool {
        let mut answers = false;
        holds_within(PATIENCE, || {
            answers = ping(&self.socket()).is_ok_and(|reply| reply == *b"+PONG\r\n");
            answers || self.child.try_wait().unwrap().is_some()
        });
        answers
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// The path of a file in the server's directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("redis.log")).unwrap_or_default()
    }

    /// A connection on the unix socket.
    pub(crate) fn plain(&self) -> Wire {
        Wire::over(Stream::connect_unix(self.socket(), Some(PATIENCE)).unwrap())
    }

    /// A connection by TCP.
    pub(crate) fn tcp(&self) -> Wire {
        Wire::over(Stream::connect_tcp("127.0.0.1", self.port, Some(PATIENCE)).unwrap())
    }

    /// A connection in shared memory.
    pub(crate) fn shm(&self) -> Wire {
        self.plain().into_shm()
    }

    /// A redis-rs connection in shared memory.
    pub(crate) fn connection(&self) -> Connection {
        self.connection_with("")
    }

    /// As [`TestServer::connection`], with more of the address, as `&db=3`.
    pub(crate) fn connection_with(&self, options: &str) -> Connection {
        self.client(&format!("redis+shm+unix://{}?shm=require{options}", self.socket().display()))
            .get_connection()
            .unwrap()
    }

    /// A redis-rs connection on the unix socket.
    pub(crate) fn plain_connection(&self) -> Connection {
        self.client(&format!("redis+unix://{}", self.socket().display())).get_connection().unwrap()
    }

    fn client(&self, address: &str) -> Client {
        Client::open(address).unwrap().connect_timeout(PATIENCE).response_timeout(PATIENCE)
    }

    /// The reply to `command`, on a connection that is no part of the test.
    pub(crate) fn ask(&self, command: &str) -> String {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        aside.get_or_insert_with(|| self.plain()).ask(command)
    }

    /// As [`TestServer::ask`], for words with spaces in them.
    pub(crate) fn ask_words(&self, words: &[&[u8]]) -> String {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = aside.get_or_insert_with(|| self.plain()).ask_words(words);
        String::from_utf8_lossy(&reply).into_owned()
    }

    /// A number in `INFO`.
    #[track_caller]
    pub(crate) fn info(&self, field: &str) -> u64 {
        self.info_text(field).parse().unwrap()
    }

    /// A value in `INFO`.
    #[track_caller]
    pub(crate) fn info_text(&self, field: &str) -> String {
        let info = self.ask("INFO everything");
        let mut lines = info.lines();
        let value = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {field} in {info}")).to_owned()
    }

    /// Lets every event loop of the server have a moved client for once: what is made
    /// for each, and kept, is made by then.
    pub(crate) fn warm_up(&self) {
        // Redis 8 hands each client to the io-thread with the fewest.
        let mut clients: Vec<Wire> = (0..2 * MOST_EVENT_LOOPS).map(|_| self.shm()).collect();
        clients.iter_mut().for_each(Wire::assert_answers);
        drop(clients);
        wait_until("they are gone", || self.holds_no_shared_memory());
    }

    /// Whether no shared memory is left: no session, offer, descriptor or mapping, but of
    /// regions that are made ahead.
    pub(crate) fn holds_no_shared_memory(&self) -> bool {
        // One that is being made is not ready yet.
        let others_are_ready =
            || self.process().region_fds() as u64 == self.info("shm_ready_regions");
        self.info("shm_sessions") + self.info("shm_offers") + self.info("shm_region_bytes") == 0
            && self.process().region_maps() == 0
            && holds_within(PATIENCE, others_are_ready)
    }

    /// Its file descriptors, but for regions, once it has no shared memory and no client but
    /// those that are `connected`. (The one that [`TestServer::ask`] uses is not counted
    /// among these.)
    #[track_caller]
    pub(crate) fn fds_at_rest(&self, connected: u64) -> usize {
        let asking = 1;
        wait_until("the others are gone", || {
            self.holds_no_shared_memory() && self.info("connected_clients") == connected + asking
        });
        self.process().fds_beside_regions()
    }

    /// The reply to `MODULE LOAD`.
    pub(crate) fn load_module(&self) -> String {
        self.ask(&format!("MODULE LOAD {}", module_path().display()))
    }

    /// Kills it as `kill -9` does, and waits until it is dead.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn exit_status(&mut self) -> ExitStatus {
        let mut status = None;
        holds_within(PATIENCE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.expect("the server ends")
    }

    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the server ended");
        assert_eq!(self.ask("PING"), "+PONG\r\n");
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // Both fail only where it has ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
            eprintln!("the end of the server's log:\n{}", tail.join("\n"));
        }
    }
}

/// What a server that may still be about to end answers to PING.
fn ping(socket: &Path) -> io::Result<[u8; 7]> {
    let mut socket = UnixStream::connect(socket)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(b"PING\r\n")?;
    let mut reply = [0; 7];
    socket.read_exact(&mut reply)?;
    Ok(reply)
}

fn arguments(directory: &Path, port: u16) -> Vec<String> {
    let directory = directory.to_str().unwrap();
    let pairs = [
        ("--port", port.to_string()),
        ("--bind", "127.0.0.1".to_owned()),
        ("--unixsocket", format!("{directory}/redis.sock")),
        ("--dir", directory.to_owned()),
        ("--logfile", String::new()),
        ("--loglevel", "notice".to_owned()),
        ("--save", String::new()),
        ("--appendonly", "no".to_owned()),
        ("--daemonize", "no".to_owned()),
    ];
    let mut arguments: Vec<String> =
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    if ServerVersion::of_tested_server().has(Feature::GuardedCommands) {
        let guarded = ["--enable-debug-command", "yes", "--enable-module-command", "yes"];
        arguments.extend(guarded.map(str::to_owned));
    }
    if let Ok(threads) = env::var("SHM_FIFO_TEST_IO_THREADS") {
        // The second is for servers before Redis 8 and Valkey 8; those know it as well.
        let threads = ["--io-threads", &threads, "--io-threads-do-reads", "yes"];
        arguments.extend(threads.map(str::to_owned));
    }
    arguments
}

/// Whether the servers have io-threads.
pub(crate) fn has_io_threads() -> bool {
    env::var("SHM_FIFO_TEST_IO_THREADS").is_ok_and(|count| count != "1")
}

/// A directory with a short path: that of a unix socket has at most 107 bytes.
fn temporary_directory() -> TempDir {
    let mut parent = env::temp_dir();
    if parent.as_os_str().len() > 80 {
        parent = PathBuf::from("/tmp");
    }
    tempfile::Builder::new().prefix("shm-fifo-").tempdir_in(parent).unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The server to test with.
pub(super) fn server_path() -> PathBuf {
    let name = env::var_os("SHM_FIFO_TEST_SERVER").unwrap_or_else(|| "redis-server".into());
    find_program(&name).unwrap_or_else(|| {
        panic!(
            "{} was not found; install it (Debian, Ubuntu: apt-get install redis-server; \
             Fedora: dnf install redis) or name one in SHM_FIFO_TEST_SERVER",
            name.display()
        )
    })
}

/// Finds a program as a shell would.
pub(crate) fn find_program(name: &OsStr) -> Option<PathBuf> {
    let named = PathBuf::from(name);
    if named.components().count() > 1 {
        return named.is_file().then_some(named);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// The module to test: the one named, or the one built with these tests.
pub(crate) fn module_path() -> PathBuf {
    let found = match env::var_os("SHM_FIFO_MODULE") {
        Some(named) => Some(PathBuf::from(named)),
        None => {
            // This program is in deps/; the module is there and, linked, above.
            let program = env::current_exe().unwrap();
            let mut directories = program.ancestors().skip(1).take(2);
            directories.find_map(|directory| {
                let module = directory.join(MODULE_FILE);
                module.is_file().then_some(module)
            })
        }
    };
    // Absolute, because the server changes its directory.
    found.and_then(|path| fs::canonicalize(path).ok()).unwrap_or_else(|| {
        panic!(
            "there is no {MODULE_FILE}; run cargo build -p shm-fifo-redis-server, or name it in \
             SHM_FIFO_MODULE"
        )
    })
}
