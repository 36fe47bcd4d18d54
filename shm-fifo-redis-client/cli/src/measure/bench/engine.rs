//! The loop that drives connections: batches of commands out, their replies in.
//!
//! One thread, any number of connections, the same loop for every transport:
//! connection after connection is served, its batch read to the end and the next
//! one sent. A reply that is not there yet is waited for: by one blocking `recv`
//! on a socket, in shared memory as the waiting policy says. That costs a socket
//! two system calls a batch and no `epoll_wait` beside them.

use super::script::Script;
use crate::connect::REPLY_TIMEOUT;
use crate::interrupt::Interrupts;
use crate::statistics::Series;
use anyhow::{Context, bail};
use shm_fifo_redis_client::{Interest, Stream, Transport};
use std::io;
use std::time::{Duration, Instant};

/// As much is read at once, if it is there.
const READ_BYTES: usize = 64 << 10;
/// Batches between two looks at the time limit and for Ctrl-C.
const BATCHES_PER_LOOK: u64 = 64;

/// How much to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    /// Batches on each connection.
    pub(crate) batches: u64,
    /// Commands in a batch: the pipeline's depth.
    pub(crate) depth: usize,
    /// It ends before the batches are done, once this time is over.
    pub(crate) at_most: Duration,
}

impl Amount {
    /// Enough batches for `requests` over `connections`.
    pub(crate) fn of_requests(requests: u64, connections: usize, depth: usize) -> Self {
        let per_turn = (connections.max(1) * depth.max(1)) as u64;
        Self { batches: requests.div_ceil(per_turn).max(1), depth, at_most: Duration::MAX }
    }
}

/// What a run took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) commands: u64,
    pub(crate) elapsed: Duration,
}

/// Some connections and who drives them.
#[derive(Debug)]
pub(crate) struct Engine {
    connections: Vec<Connection>,
    buffer: Box<[u8]>,
    interrupts: Interrupts,
}

impl Engine {
    pub(crate) fn new(streams: Vec<Stream>, interrupts: Interrupts) -> Self {
        Self {
            connections: streams.into_iter().map(Connection::new).collect(),
            buffer: vec![0; READ_BYTES].into(),
            interrupts,
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Runs `amount` of `script` on the first connection alone.
    pub(crate) fn run_on_first(&mut self, script: &Script, amount: Amount) -> anyhow::Result<()> {
        let first = &mut self.connections[0];
        first.next_command = 0;
        for _ in 0..amount.batches {
            first.send_batch(script, amount.depth, Instant::now())?;
            first.receive_batch(script, &mut self.buffer)?;
        }
        Ok(())
    }

    /// Lets the connections begin at different places of the script.
    pub(crate) fn spread_over(&mut self, script: &Script, depth: usize) {
        let count = self.connections.len();
        for (index, connection) in self.connections.iter_mut().enumerate() {
            let batch = index * (script.commands() / depth.max(1)) / count;
            connection.next_command = batch * depth % script.commands();
        }
    }

    /// Runs `amount` of `script`. `series` gets the time of each batch, from its
    /// first byte out to its last byte in.
    pub(crate) fn run(
        &mut self,
        script: &Script,
        amount: Amount,
        series: &mut Series,
    ) -> anyhow::Result<Done> {
        let started = Instant::now();
        let mut batches = 0;
        for connection in &mut self.connections {
            connection.send_batch(script, amount.depth, Instant::now())?;
        }
        let mut last_turn = amount.batches == 1;
        let mut now = started;
        for turn in 1.. {
            for connection in &mut self.connections {
                connection.receive_batch(script, &mut self.buffer)?;
                now = Instant::now();
                series.record(&[ns(now - connection.sent_at)]);
                if !last_turn {
                    connection.send_batch(script, amount.depth, now)?;
                }
                batches += 1;
                if batches % BATCHES_PER_LOOK == 0 {
                    self.interrupts.check()?;
                }
            }
            if last_turn {
                break;
            }
            last_turn = turn + 1 >= amount.batches || now - started >= amount.at_most;
        }
        let commands = batches * amount.depth as u64;
        Ok(Done { commands, elapsed: now - started })
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One connection and how far its batch is.
#[derive(Debug)]
struct Connection {
    stream: Stream,
    is_shared: bool,
    next_command: usize,
    sent_at: Instant,
    unsent: Rest,
    unread: Rest,
}

/// What is left of a batch: where in the script, and how much.
#[derive(Debug, Clone, Copy, Default)]
struct Rest {
    at: usize,
    bytes: u64,
}

impl Connection {
    fn new(stream: Stream) -> Self {
        let is_shared = stream.transport() == Transport::SharedMemory;
        let (unsent, unread) = Default::default();
        Self { stream, is_shared, next_command: 0, sent_at: Instant::now(), unsent, unread }
    }

    fn send_batch(&mut self, script: &Script, depth: usize, now: Instant) -> anyhow::Result<()> {
        let first = self.next_command;
        let Script { requests, replies, .. } = script;
        self.unsent = Rest { at: requests.start(first), bytes: requests.length(first, depth) };
        self.unread = Rest { at: replies.start(first), bytes: replies.length(first, depth) };
        self.next_command = (first + depth) % script.commands();
        self.sent_at = now;
        self.send(script)?;
        Ok(())
    }

    /// Sends what there is space for. Returns whether any was.
    fn send(&mut self, script: &Script) -> anyhow::Result<bool> {
        let mut sent_any = false;
        while self.unsent.bytes > 0 {
            let piece = script.requests.from(self.unsent.at, self.unsent.bytes);
            match self.stream.try_write(piece) {
                Ok(sent) => {
                    self.unsent.at = script.requests.advance(self.unsent.at, sent);
                    self.unsent.bytes -= sent as u64;
                    sent_any = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("sending failed"),
            }
        }
        Ok(sent_any)
    }

    /// Reads until all replies of the batch are there, sending on meanwhile.
    fn receive_batch(&mut self, script: &Script, buffer: &mut [u8]) -> anyhow::Result<()> {
        while self.unread.bytes > 0 {
            if self.unsent.bytes == 0 {
                let read = self.read_waiting(buffer)?;
                self.check(script, &buffer[..read])?;
                continue;
            }
            // Neither side may wait for the other to read.
            let sent_any = self.send(script)?;
            let read = self.try_read(buffer)?;
            self.check(script, &buffer[..read])?;
            if !sent_any && read == 0 {
                self.stream.wait(Interest::BOTH, Some(Instant::now() + REPLY_TIMEOUT))?;
            }
        }
        Ok(())
    }

    /// One system call on a socket; its own timeout ends it.
    fn read_waiting(&mut self, buffer: &mut [u8]) -> anyhow::Result<usize> {
        if self.is_shared {
            loop {
                let read = self.try_read(buffer)?;
                if read > 0 {
                    return Ok(read);
                }
                self.stream.wait(Interest::READABLE, Some(Instant::now() + REPLY_TIMEOUT))?;
            }
        }
        match self.stream.read_until(buffer, None) {
            Ok(0) => bail!("the server ended the connection"),
            Ok(read) => Ok(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                bail!("the server did not answer in time")
            }
            Err(error) => Err(error).context("receiving failed"),
        }
    }

    fn try_read(&mut self, buffer: &mut [u8]) -> anyhow::Result<usize> {
        match self.stream.try_read(buffer) {
            Ok(0) => bail!("the server ended the connection"),
            Ok(read) => Ok(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error).context("receiving failed"),
        }
    }

    /// Compares what came with what had to come, byte by byte.
    fn check(&mut self, script: &Script, mut received: &[u8]) -> anyhow::Result<()> {
        while !received.is_empty() {
            let expected = script.replies.from(self.unread.at, self.unread.bytes);
            if expected.is_empty() {
                bail!("the server answered more than was asked: {}", excerpt(received));
            }
            let (now, later) = received.split_at(received.len().min(expected.len()));
            if now != &expected[..now.len()] {
                bail!("the server answered {}", excerpt(now));
            }
            self.unread.at = script.replies.advance(self.unread.at, now.len());
            self.unread.bytes -= now.len() as u64;
            received = later;
        }
        Ok(())
    }
}

/// The beginning of a reply, to be shown.
fn excerpt(reply: &[u8]) -> String {
    let start = &reply[..reply.len().min(200)];
    format!("{:?}", String::from_utf8_lossy(start).trim_end())
}
