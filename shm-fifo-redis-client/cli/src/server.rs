//! A redis-server of our own: started with the module, on addresses nobody else
//! has, and gone when the value is dropped.

use crate::connect::Target;
use crate::exchange::Command;
use crate::interrupt::Interrupts;
use anyhow::{Context, bail};
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const MODULE_FILE: &str = "libshm_fifo_redis_server.so";

const START_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Another program may take the free port before the server does.
const PORT_ATTEMPTS: usize = 5;
/// A server that gives up says why in its last lines.
const LAST_LINES: usize = 4;
/// `sun_path` has 108 bytes; the file's name takes some.
const LONGEST_DIRECTORY: usize = 80;

/// A running private server.
#[derive(Debug)]
pub(crate) struct PrivateServer {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl PrivateServer {
    /// Starts a server with `module`, by a command that ends where the server's own
    /// arguments begin, and waits until it answers.
    pub(crate) fn start(
        command: impl Fn() -> process::Command,
        module: &Path,
        interrupts: &Interrupts,
    ) -> anyhow::Result<Self> {
        for _ in 1..PORT_ATTEMPTS {
            let mut started = Self::spawn(command(), module)?;
            match started.wait_until_ready(interrupts) {
                Ok(()) => return Ok(started),
                Err(_) if started.log().contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        let mut started = Self::spawn(command(), module)?;
        started.wait_until_ready(interrupts)?;
        Ok(started)
    }

    fn spawn(mut command: process::Command, module: &Path) -> anyhow::Result<Self> {
        let directory = temporary_directory().context("no temporary directory")?;
        let port = free_port().context("no free TCP port on 127.0.0.1")?;
        let log = File::create(log_path(&directory)).context("no log file")?;
        let child = command
            .args(arguments(directory.path(), port, module))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("no log file")?)
            .stderr(log)
            // Ctrl-C is for us; the server ends when we end it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, directory, port })
    }

    fn wait_until_ready(&mut self, interrupts: &Interrupts) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.answers() {
            interrupts.check()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at once ({status}){}", self.last_words());
            }
            if Instant::now() > deadline {
                bail!(
                    "the server did not answer within {} s{}",
                    START_TIMEOUT.as_secs(),
                    self.last_words()
                );
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// It listens before it loads the module, and ends again where it cannot; so
    /// that it accepts is not enough.
    fn answers(&self) -> bool {
        let ping = Command::Ping.exchange();
        Target::Unix(self.socket()).connect().is_ok_and(|mut stream| ping.run(&mut stream).is_ok())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn log(&self) -> String {
        fs::read_to_string(log_path(&self.directory)).unwrap_or_default()
    }

    /// To be put behind what went wrong.
    fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        if lines.is_empty() {
            return " and printed nothing".to_owned();
        }
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        format!("; its last words:\n{}", last.join("\n"))
    }
}

impl Drop for PrivateServer {
    /// It holds nothing worth saving: it is killed, and waited for.
    fn drop(&mut self) {
        // Both fail only where it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_path(directory: &TempDir) -> PathBuf {
    directory.path().join("redis.log")
}

fn arguments(directory: &Path, port: u16, module: &Path) -> Vec<OsString> {
    let pairs: [(&str, OsString); 9] = [
        ("--port", port.to_string().into()),
        ("--bind", "127.0.0.1".into()),
        ("--unixsocket", directory.join("redis.sock").into()),
        ("--dir", directory.into()),
        ("--logfile", "".into()),
        ("--save", "".into()),
        ("--appendonly", "no".into()),
        ("--daemonize", "no".into()),
        ("--loadmodule", module.into()),
    ];
    pairs.into_iter().flat_map(|(name, value)| [name.into(), value]).collect()
}

fn temporary_directory() -> io::Result<TempDir> {
    let mut parent = env::temp_dir();
    if parent.as_os_str().len() > LONGEST_DIRECTORY {
        parent = PathBuf::from("/tmp");
    }
    tempfile::Builder::new().prefix("redis-shm-").tempdir_in(parent)
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Finds the server's program, as a shell would.
pub(crate) fn find_server(name: &Path) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = if name.components().count() > 1 {
        name.is_file().then(|| name.to_owned())
    } else {
        env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
    };
    found.with_context(|| {
        format!(
            "{} was not found; install it (Debian, Ubuntu: apt-get install redis-server; \
             Fedora: dnf install redis) or name the server with --server PATH",
            name.display()
        )
    })
}

/// Finds the module: the one named, or the one that came with this program.
pub(crate) fn find_module(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        // Redis changes its directory, so the path must be absolute.
        return fs::canonicalize(named)
            .with_context(|| format!("the module {} cannot be read", named.display()));
    }
    let program = env::current_exe().context("the path of this program is not known")?;
    // As it is built, and as it is installed.
    let places = [MODULE_FILE.into(), Path::new("../lib/redis/modules").join(MODULE_FILE)];
    let places = places.map(|place| program.with_file_name(place));
    if let Some(place) = places.iter().find(|place| place.is_file()) {
        return fs::canonicalize(place).context("the module cannot be read");
    }
    bail!(
        "{MODULE_FILE} is neither beside {} nor in ../lib/redis/modules; build it (make build) or \
         name it with --module PATH or the environment variable SHM_FIFO_MODULE",
        program.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_the_path() {
        let found = find_server(Path::new("sh")).expect("every system has sh");
        assert!(found.is_absolute());
    }

    #[test]
    fn a_missing_server_says_what_to_install() {
        for name in ["no-such-redis-server", "./no-such-redis-server"] {
            let error = find_server(Path::new(name)).expect_err("there is none").to_string();
            assert!(error.contains(name) && error.contains("apt-get install"), "{error}");
        }
    }

    #[test]
    fn a_missing_module_is_named() {
        let error = find_module(Some(Path::new("no-such.so"))).expect_err("there is none");
        assert!(format!("{error:#}").contains("no-such.so"), "{error:#}");
    }

    #[test]
    fn the_arguments_keep_nothing_on_disk() {
        let arguments = arguments(Path::new("/tmp/x"), 7000, Path::new("/m.so"));
        let text: Vec<_> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
        let text = text.join(" ");
        assert!(text.contains("--save  --appendonly no"), "{text}");
        assert!(text.ends_with("--loadmodule /m.so"), "{text}");
    }
}
