//! A real Redis without the module.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A server of our own, ended on drop.
pub(crate) struct RedisServer {
    process: Child,
    directory: TempDir,
    port: u16,
}

impl RedisServer {
    /// Starts a server on a unix socket and on a loopback port nobody uses.
    pub(crate) fn start(options: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        // Given back before Redis takes it; another taker makes the test fail.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut process = Command::new("redis-server")
            .current_dir(directory.path())
            .args(["--port", &port.to_string(), "--save", "", "--unixsocket", "redis.sock"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server starts; install it with: apt-get install redis-server");
        wait_until_ready(&mut process);
        Self { process, directory, port }
    }

    /// Stops it as SIGSTOP does: connections wait in its queues from now on.
    pub(crate) fn stop(&self) {
        let pid = self.process.id().to_string();
        let stopped = Command::new("kill").args(["-STOP", &pid]).status();
        assert!(stopped.unwrap().success());
        let is_stopped = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit(") ").next().unwrap().starts_with('T')
        };
        while !is_stopped() {
            std::thread::yield_now();
        }
    }

    pub(crate) fn port(&self) -> String {
        self.port.to_string()
    }

    /// A connection on its unix socket.
    pub(crate) fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(format!("unix://{}", self.path())).unwrap();
        client.get_connection().unwrap()
    }

    /// Runs a command, given as in redis-cli.
    pub(crate) fn ask(&self, command: &str) -> redis::Value {
        let mut words = command.split(' ');
        let mut packed = redis::cmd(words.next().unwrap());
        packed.arg(words.collect::<Vec<_>>()).query(&mut self.connection()).unwrap()
    }

    pub(crate) fn path(&self) -> String {
        self.directory.path().join("redis.sock").to_str().unwrap().to_owned()
    }

    pub(crate) fn unix_address(&self) -> String {
        format!("redis+shm+unix://{}", self.path())
    }

    pub(crate) fn tcp_address(&self) -> String {
        format!("redis+shm://127.0.0.1:{}", self.port)
    }
}

/// Reads its log up to the line that says so, and lets a thread read on: a
/// server whose log is full stops.
fn wait_until_ready(process: &mut Child) {
    let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
    let ready = |line: &String| line.contains("eady to accept connections");
    let line = log.by_ref().map_while(Result::ok).find(ready);
    line.expect("redis-server says that it is ready; is its port taken?");
    std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
