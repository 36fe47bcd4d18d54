//! A server that speaks enough RESP for the drivers, and moves connections to shared memory
//! in every way that a server may, and in some that it must not. One thread, one driver.

mod connection;
mod control;
mod offer;
mod outbox;
mod request;
mod script;
mod transport;

use crate::journal::Journal;
use connection::Connection;
pub(crate) use connection::Counts;
use control::Control;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long it looks after the driver's end for what is to come yet.
const AFTERLIFE: Duration = Duration::from_secs(20);
/// How often it looks whether the driver has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A process that is being made has copies of all descriptors for a moment: who ends a connection
/// meanwhile has not ended it yet.
pub(crate) static NO_COPIES: RwLock<()> = RwLock::new(());

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    thread: JoinHandle<Outcome>,
    is_over: Arc<AtomicBool>,
    pub(crate) directory: PathBuf,
    pub(crate) port: u16,
}

/// What became of the driver's connections.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// By their numbers.
    pub(crate) connections: BTreeMap<u64, Counts>,
    /// The same, in words.
    pub(crate) descriptions: Vec<String>,
    /// What nobody should have done.
    pub(crate) faults: Vec<String>,
}

impl Server {
    /// Listens in `directory`, and on a port. What the driver waits for comes to nothing
    /// after `patience`.
    pub(crate) fn start(
        directory: &Path,
        seed: u64,
        journal: Arc<Journal>,
        patience: Duration,
    ) -> io::Result<Self> {
        let unix = UnixListener::bind(directory.join("redis.sock"))?;
        let control = UnixListener::bind(directory.join("control.sock"))?;
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let port = tcp.local_addr()?.port();
        unix.set_nonblocking(true)?;
        control.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let mut engine = Engine {
            unix,
            tcp,
            control: Control::new(control, patience),
            connections: Vec::new(),
            seed,
            journal,
            outcome: Outcome::default(),
        };
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            engine.run(&over);
            engine.outcome
        });
        Ok(Self { thread, is_over, directory: directory.to_owned(), port })
    }

    /// The driver has ended: what has it come to?
    pub(crate) fn end(self) -> Outcome {
        self.is_over.store(true, Relaxed);
        self.thread.join().expect("the server does not panic")
    }
}

struct Engine {
    unix: UnixListener,
    tcp: TcpListener,
    control: Control,
    connections: Vec<Connection>,
    seed: u64,
    journal: Arc<Journal>,
    outcome: Outcome,
}

impl Engine {
    fn run(&mut self, is_over: &AtomicBool) {
        let mut end = None;
        loop {
            let mut is_busy = self.accept();
            for connection in &mut self.connections {
                match connection.turn(&self.journal) {
                    Ok(busy) => is_busy |= busy,
                    Err(fault) => {
                        self.outcome.faults.push(fault);
                        connection.close();
                    }
                }
            }
            is_busy |= self.control.turn(&mut self.connections, &mut self.outcome.faults);
            self.connections.retain(|connection| connection.is_open() || connection.id.is_some());
            if is_over.load(Relaxed) {
                let end = *end.get_or_insert_with(|| Instant::now() + AFTERLIFE);
                self.connections.iter_mut().for_each(|connection| connection.is_held = false);
                let is_done = !self.connections.iter().any(Connection::is_open);
                if is_done && !is_busy || Instant::now() > end {
                    break;
                }
            }
            if !is_busy {
                self.sleep();
            }
        }
        for connection in &self.connections {
            if connection.is_open() {
                self.outcome.faults.push(format!("{connection} has no end"));
            }
            if let Some(id) = connection.id {
                self.outcome.connections.insert(id, connection.counts);
                self.outcome.descriptions.push(connection.to_string());
            }
        }
    }

    fn accept(&mut self) -> bool {
        let before = self.connections.len();
        while let Ok((stream, _)) = self.unix.accept() {
            self.connections.push(Connection::new(stream.into(), false, self.seed));
        }
        while let Ok((stream, _)) = self.tcp.accept() {
            // As Redis does.
            drop(stream.set_nodelay(true));
            self.connections.push(Connection::new(OwnedFd::from(stream), true, self.seed));
        }
        self.connections.len() > before
    }

    /// Sleeps until something comes.
    fn sleep(&self) {
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.unix.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.tcp.as_fd(), PollFlags::IN),
        ];
        fds.extend(self.control.fds());
        let mut may_sleep = true;
        let mut timeout = LOOK;
        for connection in &self.connections {
            match connection.park() {
                None => may_sleep = false,
                Some(watched) => {
                    fds.extend(watched.map(|(fd, events)| PollFd::from_borrowed_fd(fd, events)))
                }
            }
            if let Some(time) =
                connection.deadline().into_iter().chain(self.control.deadline()).min()
            {
                timeout = timeout.min(time.saturating_duration_since(Instant::now()));
            }
        }
        if may_sleep {
            let timeout = Timespec::try_from(timeout).unwrap_or_default();
            // A signal is a reason to look as well.
            let _: Result<usize, rustix::io::Errno> = poll(&mut fds, Some(&timeout));
        }
        self.connections.iter().for_each(Connection::unpark);
    }
}
