//! The handshake's conversation on the socket.

use super::refusal::MoveError;
use crate::reply::ReplyReader;
use crate::stream::{Stream, Transport};
use redis::Value;
use shm_fifo::doorbell::DOORBELL;
use shm_fifo::{Interest, fd_passing};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

/// How many bytes may arrive during the handshake. The answers have a few dozen;
/// the rest is for pushes.
const MAX_RECEIVED_BYTES: usize = 1 << 20;
/// How much of an error's text is kept.
const MAX_TEXT_CHARS: usize = 500;
/// Asks `recvmsg` not to wait.
const MSG_DONTWAIT: i32 = libc::MSG_DONTWAIT;

/// What the server answered on the socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// `+OK`.
    Ok,
    /// An error's text, or what came in its place.
    Refused(String),
    /// A doorbell: from now on everything is in the ring.
    Doorbell,
}

/// A socket on which commands are answered, with descriptors and pushes between.
#[derive(Debug)]
pub(super) struct Exchange {
    stream: Stream,
    deadline: Option<Instant>,
    /// What was received and not understood, from a value's beginning.
    inbox: Vec<u8>,
    received_bytes: usize,
    /// The descriptor that came last.
    fd: Option<OwnedFd>,
}

impl Exchange {
    pub(super) fn new(stream: Stream, deadline: Option<Instant>) -> Self {
        Self { stream, deadline, inbox: Vec::new(), received_bytes: 0, fd: None }
    }

    pub(super) fn transport(&self) -> Transport {
        self.stream.transport()
    }

    /// Sends all of `command`.
    pub(super) fn send(&mut self, mut command: &[u8]) -> Result<(), MoveError> {
        while !command.is_empty() {
            let sent = self.stream.write_until(command, self.deadline)?;
            command = &command[sent..];
        }
        Ok(())
    }

    /// The next answer. What is none (push messages, which are arrays in RESP2)
    /// is kept for the stream's reader.
    pub(super) fn answer(&mut self) -> Result<Answer, MoveError> {
        loop {
            if self.take_doorbell()? {
                return Ok(Answer::Doorbell);
            }
            let (value, raw) = self.value()?;
            match value {
                Value::Push { .. } | Value::Array(_) => self.stream.keep(raw),
                Value::Okay => return Ok(Answer::Ok),
                other => return Ok(Answer::Refused(text_of(other))),
            }
        }
    }

    /// The descriptor that came with the last answer.
    pub(super) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fd.take()
    }

    /// The stream, from which everything that was no answer can still be read.
    pub(super) fn into_stream(mut self) -> Stream {
        self.stream.keep(self.inbox);
        self.stream
    }

    /// Whether a doorbell comes next, instead of a value. No value begins so.
    fn take_doorbell(&mut self) -> Result<bool, MoveError> {
        if self.inbox.is_empty() {
            self.receive()?;
        }
        if self.inbox.first() != Some(&DOORBELL) {
            return Ok(false);
        }
        if self.inbox.iter().any(|&byte| byte != DOORBELL) {
            return Err(MoveError::Violation("other bytes behind a doorbell"));
        }
        self.inbox.clear();
        Ok(true)
    }

    /// The next value and the bytes it was made of.
    fn value(&mut self) -> Result<(Value, Vec<u8>), MoveError> {
        let mut reader = ReplyReader::default();
        let mut seen = 0;
        loop {
            let mut news = &self.inbox[seen..];
            while !news.is_empty() {
                reader.fill(|room| news.read(room))?;
            }
            seen = self.inbox.len();
            if let Some(value) = reader.next()? {
                let raw = self.inbox.drain(..reader.consumed_bytes()).collect();
                return Ok((value, raw));
            }
            self.receive()?;
        }
    }

    /// Receives at least one byte, and the descriptor that comes with it.
    fn receive(&mut self) -> Result<(), MoveError> {
        // A server that never stops sending is never waited for.
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(MoveError::TimedOut);
        }
        let mut chunk = [0; 4096];
        let (count, fd) = loop {
            match fd_passing::recv_with_fd(self.stream.as_raw_fd(), &mut chunk, MSG_DONTWAIT) {
                Ok(received) => break received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                Err(error) => return Err(error.into()),
            }
        };
        if count == 0 {
            return Err(MoveError::Ended);
        }
        self.received_bytes += count;
        if self.received_bytes > MAX_RECEIVED_BYTES {
            return Err(MoveError::Violation("more than a mebibyte in place of an answer"));
        }
        self.inbox.extend_from_slice(&chunk[..count]);
        self.fd = fd.or(self.fd.take());
        Ok(())
    }

    fn wait(&mut self) -> Result<(), MoveError> {
        // Not `Stream::wait`: bytes kept for the reader are no answer.
        crate::sys::wait(self.stream.as_raw_fd(), Interest::READABLE, self.deadline)?;
        Ok(())
    }
}

/// What the server said instead of `+OK`, bounded.
fn text_of(value: Value) -> String {
    let text = match value {
        Value::ServerError(error) => match error.details() {
            Some(details) => format!("{} {details}", error.code()),
            None => error.code().to_owned(),
        },
        other => format!("{other:?}"),
    };
    text.chars().take(MAX_TEXT_CHARS).collect()
}
