//! Commands out and values in, over one stream, without deadlock.
//!
//! It does not know which value answers which command.

use crate::deadline::Deadline;
use crate::handshake::{Attempt, MoveError, Refusal, move_to_shared_memory};
use crate::reply::{ReplyError, ReplyReader};
use crate::stream::Stream;
use redis::{ErrorKind, RedisError, RedisResult, Value};
use shm_fifo::Interest;
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// A stream and what was received on it.
pub(crate) struct Messages {
    stream: Stream,
    reader: ReplyReader,
    /// Values that came while commands were still being sent.
    ready: VecDeque<Value>,
}

impl Messages {
    pub(crate) fn over(stream: Stream) -> Self {
        Self { stream, reader: ReplyReader::default(), ready: VecDeque::new() }
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(crate) fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Sends all of `commands`.
    ///
    /// While there is no space, replies are received: a server that cannot get
    /// rid of them reads no commands. `timeout` limits how long nothing is sent.
    ///
    /// # Errors
    /// The error, and whether some bytes were sent: then the stream is in the
    /// middle of a command.
    pub(crate) fn send(
        &mut self,
        commands: &[u8],
        timeout: Option<Duration>,
    ) -> Result<(), (RedisError, bool)> {
        let mut rest = commands;
        let mut deadline = Deadline::after(timeout);
        while !rest.is_empty() {
            let result = match self.stream.try_write(rest) {
                Ok(sent) => {
                    rest = &rest[sent..];
                    deadline = Deadline::after(timeout);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.make_way(&mut deadline)
                }
                Err(error) => Err(error.into()),
            };
            result.map_err(|error| (error, rest.len() < commands.len()))?;
        }
        Ok(())
    }

    /// The next value.
    ///
    /// # Errors
    /// If it did not come by the deadline, the stream ended or failed, or sent
    /// something that is no value.
    #[inline]
    pub(crate) fn receive(&mut self, deadline: &mut Deadline) -> RedisResult<Value> {
        if let Some(value) = self.ready.pop_front() {
            return Ok(value);
        }
        loop {
            if let Some(value) = self.reader.next().map_err(not_understood)? {
                return Ok(value);
            }
            self.fill(deadline)?;
        }
    }

    /// The same messages, their stream moved to shared memory if that is possible.
    pub(crate) fn into_shared_memory(
        mut self,
        mut deadline: Deadline,
    ) -> RedisResult<Result<(Self, Option<Refusal>), MoveError>> {
        self.settle(&mut deadline)?;
        let Self { stream, reader, ready } = self;
        let (stream, refusal) = match move_to_shared_memory(stream, deadline.at()) {
            Ok(Attempt::Moved(stream)) => (stream, None),
            Ok(Attempt::Stayed(stream, refusal)) => (stream, Some(refusal)),
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok((Self { stream, reader, ready }, refusal)))
    }

    /// Receives until no value is half received.
    fn settle(&mut self, deadline: &mut Deadline) -> RedisResult<()> {
        self.take_ready()?;
        while !self.reader.is_between_values() {
            self.fill(deadline)?;
            self.take_ready()?;
        }
        Ok(())
    }

    /// Receives at least one byte.
    #[inline]
    fn fill(&mut self, deadline: &mut Deadline) -> RedisResult<()> {
        refuse_after(deadline)?;
        let Self { stream, reader, .. } = self;
        match reader.fill(|room| stream.read_until(room, deadline.at()))? {
            0 => Err(ended()),
            _ => Ok(()),
        }
    }

    /// Receives what there is, or waits until there is something or space.
    fn make_way(&mut self, deadline: &mut Deadline) -> RedisResult<()> {
        refuse_after(deadline)?;
        // From the first time there is no space, the clock runs.
        let _: Option<Instant> = deadline.at();
        let Self { stream, reader, .. } = self;
        match reader.fill(|room| stream.try_read(room)) {
            Ok(0) => Err(ended()),
            Ok(_) => self.take_ready(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(self.stream.wait(Interest::BOTH, deadline.at())?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes values of the bytes that were received.
    fn take_ready(&mut self) -> RedisResult<()> {
        while let Some(value) = self.reader.next().map_err(not_understood)? {
            self.ready.push_back(value);
        }
        Ok(())
    }
}

/// A server that never stops sending does not make anybody wait; it would
/// outlast any deadline that only waiting looks at.
fn refuse_after(deadline: &Deadline) -> RedisResult<()> {
    if deadline.has_passed() {
        return Err(io::Error::from(io::ErrorKind::TimedOut).into());
    }
    Ok(())
}

pub(crate) fn ended() -> RedisError {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection").into()
}

pub(crate) fn not_understood(error: ReplyError) -> RedisError {
    (ErrorKind::Parse, "the server's reply is not RESP", error.to_string()).into()
}
