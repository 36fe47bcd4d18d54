//! One connection whose requests are cut anywhere, and whose bytes are kept as they come.

use crate::support::{PATIENCE, Random, TestServer, Wire, bulk, request};
use shm_fifo_redis_client::Interest;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Instant;

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Socket,
    SharedMemory,
}

impl Way {
    pub(crate) const BOTH: [Self; 2] = [Self::Socket, Self::SharedMemory];

    pub(crate) fn connect(self, server: &TestServer) -> Wire {
        match self {
            Self::Socket => server.plain(),
            Self::SharedMemory => server.shm(),
        }
    }
}

/// A connection for one stream of commands.
#[derive(Debug)]
pub(crate) struct Line {
    wire: Wire,
    /// How the server knows it.
    pub(crate) id: u64,
    cuts: Random,
    unsent: VecDeque<u8>,
    received: Vec<u8>,
    end_mark: Vec<u8>,
    ended: bool,
}

impl Line {
    /// `cuts` says where requests are cut.
    pub(crate) fn connect(server: &TestServer, way: Way, cuts: Random) -> Self {
        let mut wire = way.connect(server);
        let id = wire.id();
        let (unsent, received) = (VecDeque::new(), Vec::new());
        Self { wire, id, cuts, unsent, received, end_mark: Vec::new(), ended: false }
    }

    /// Whether the server has ended it.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Begins to send `requests` and what makes the last reply known, whatever state
    /// they have brought the connection into.
    pub(crate) fn begin(&mut self, requests: &[u8], number: usize) {
        let mark = format!("the end of step {number}");
        self.unsent = [
            requests,
            &request(&[b"DISCARD"]),
            &request(&[b"CLIENT", b"REPLY", b"ON"]),
            &request(&[b"PING", mark.as_bytes()]),
        ]
        .concat()
        .into();
        self.end_mark = bulk(mark.as_bytes());
    }

    /// Whether everything that was begun is answered, or the connection has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.ended || (self.unsent.is_empty() && self.received.ends_with(&self.end_mark))
    }

    /// Sends and receives until all is done. Returns what came since the last time; an
    /// error is that nothing more came within [`PATIENCE`].
    pub(crate) fn finish(&mut self) -> Result<Vec<u8>, String> {
        let deadline = Some(Instant::now() + PATIENCE);
        // Pieces of this many bytes at most; not too small, or it takes long.
        let most = [7, 200, 5000, usize::MAX][self.cuts.below(4)].max(self.unsent.len() / 1000);
        while !self.is_done() {
            if self.exchange(most) {
                continue;
            }
            let writable = !self.unsent.is_empty();
            let interest = Interest { readable: true, writable };
            self.wire.stream().wait(interest, deadline).map_err(|error| {
                let last = &self.received[self.received.len().saturating_sub(1000)..];
                format!(
                    "{error} with {} bytes unsent; last came {}",
                    self.unsent.len(),
                    last.escape_ascii()
                )
            })?;
        }
        Ok(std::mem::take(&mut self.received))
    }

    /// Sends a piece of at most `most` bytes and takes what has come. Returns whether
    /// there was any progress.
    pub(crate) fn exchange(&mut self, most: usize) -> bool {
        let mut progress = false;
        if !self.unsent.is_empty() {
            let piece = self.unsent.make_contiguous();
            let length = piece.len().min(1 + self.cuts.below(most));
            match self.wire.stream().try_write(&piece[..length]) {
                Ok(sent) => {
                    self.unsent.drain(..sent);
                    progress = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The server has ended the connection: only its last words are left.
                Err(error) if is_end(error.kind()) => self.unsent.clear(),
                Err(error) => panic!("{error}"),
            }
        }
        let mut chunk = [0; 16 * 1024];
        let length = 1 + self.cuts.below(chunk.len());
        match self.wire.stream().try_read(&mut chunk[..length]) {
            Ok(0) => self.ended = true,
            Ok(count) => self.received.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return progress,
            Err(error) if is_end(error.kind()) => self.ended = true,
            Err(error) => panic!("{error}"),
        }
        true
    }
}

/// Whether an error is how the end of a connection shows: that depends on what the server
/// had not read yet.
pub(crate) fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}
