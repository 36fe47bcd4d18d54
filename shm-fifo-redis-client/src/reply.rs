//! Reading replies: RESP2 and RESP3, from bytes that come in any portions.
//!
//! Each byte is looked at once: what is understood of an unfinished reply is
//! kept as values, not parsed again. A peer may send anything; it is answered
//! with a value or a [`ReplyError`]. Memory grows with the bytes really
//! received, never with a length that is merely claimed.

mod buffer;
mod head;
mod push;
mod scanner;
#[cfg(test)]
mod tests;

use buffer::ReadBuffer;
use head::{AggregateKind, BulkKind, Head, max_line_bytes};
use redis::Value;
use std::io;

pub use scanner::{ReplyScanner, Scanned};

/// Aggregates inside each other; redis-rs' own limit.
const MAX_DEPTH: usize = 100;
/// What is set aside for values that are claimed to follow.
const MAX_RESERVED_VALUES: usize = 256;
/// What is set aside for a bulk before its bytes have come.
const MAX_RESERVED_BYTES: usize = 64 * 1024;

/// The server sent something that is no reply. What follows it has no meaning:
/// the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// A value begins with this byte.
    #[error("no reply begins with the byte {0:#04x}; is this a Redis server?")]
    UnknownType(u8),
    /// This was expected and something else came.
    #[error("the server sent something else where {0} was expected; is this a Redis server?")]
    Malformed(&'static str),
    /// A line does not end.
    #[error("the server sent a line of more than {0} bytes; is this a Redis server?")]
    LineTooLong(usize),
    /// Too many aggregates inside each other.
    #[error("the server sent values nested more deeply than any reply is")]
    TooDeep,
}

/// Turns received bytes into values.
#[derive(Debug, Default)]
pub(crate) struct ReplyReader {
    buffer: ReadBuffer,
    /// Unread bytes known not to end the line they begin.
    scanned: usize,
    /// The bulk whose bytes are on their way.
    bulk: Option<Bulk>,
    /// The aggregates that are not complete, outermost first.
    open: Vec<Aggregate>,
}

#[derive(Debug)]
struct Bulk {
    kind: BulkKind,
    bytes: Vec<u8>,
    missing: usize,
}

#[derive(Debug)]
struct Aggregate {
    kind: AggregateKind,
    values: Vec<Value>,
    missing: usize,
}

impl ReplyReader {
    /// Lets `read` receive more bytes and passes on what it says.
    pub(crate) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.buffer.fill(read)
    }

    /// The next value, if all of it has been received.
    ///
    /// # Errors
    /// If what was received is no value; nothing can be read after that.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Value>, ReplyError> {
        while let Some(value) = self.next_whole()? {
            if let Some(value) = self.put(value)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Whether no received byte waits to be part of a value.
    pub(crate) fn is_between_values(&self) -> bool {
        self.open.is_empty() && self.bulk.is_none() && self.buffer.unread().is_empty()
    }

    /// What was received behind the last value, and not looked at.
    #[cfg(feature = "tokio")]
    pub(crate) fn unread(&self) -> &[u8] {
        self.buffer.unread()
    }

    /// The next value that is no aggregate with something in it.
    fn next_whole(&mut self) -> Result<Option<Value>, ReplyError> {
        loop {
            if self.bulk.is_some() {
                return self.continue_bulk();
            }
            match self.next_head()? {
                None => return Ok(None),
                Some(Head::Whole(value)) => return Ok(Some(value)),
                Some(Head::Bulk(kind, length)) => self.begin_bulk(kind, length),
                Some(Head::Aggregate(kind, values)) => self.begin_aggregate(kind, values)?,
            }
        }
    }

    fn next_head(&mut self) -> Result<Option<Head>, ReplyError> {
        let unread = self.buffer.unread();
        let Some(&kind) = unread.first() else { return Ok(None) };
        let max_bytes = max_line_bytes(kind)?;
        let Some(length) = line_length(unread, self.scanned) else {
            // The last byte may be the first half of the line's end.
            self.scanned = unread.len() - 1;
            let too_long = self.scanned > max_bytes;
            return if too_long { Err(ReplyError::LineTooLong(max_bytes)) } else { Ok(None) };
        };
        if length > max_bytes {
            return Err(ReplyError::LineTooLong(max_bytes));
        }
        let head = Head::parse(kind, &unread[1..length])?;
        self.scanned = 0;
        self.buffer.consume(length + 2);
        Ok(Some(head))
    }

    fn begin_bulk(&mut self, kind: BulkKind, missing: usize) {
        let bytes = Vec::with_capacity(missing.min(MAX_RESERVED_BYTES));
        self.bulk = Some(Bulk { kind, bytes, missing });
    }

    fn begin_aggregate(&mut self, kind: AggregateKind, missing: usize) -> Result<(), ReplyError> {
        // Its values are one deeper than itself.
        if self.open.len() + 1 >= MAX_DEPTH {
            return Err(ReplyError::TooDeep);
        }
        let values = Vec::with_capacity(missing.min(MAX_RESERVED_VALUES));
        self.open.push(Aggregate { kind, values, missing });
        Ok(())
    }

    /// Takes the bulk's bytes that have come; its value if these are all.
    fn continue_bulk(&mut self) -> Result<Option<Value>, ReplyError> {
        let Some(bulk) = &mut self.bulk else { return Ok(None) };
        let taken = bulk.append(self.buffer.unread());
        let complete = bulk.missing == 0;
        self.buffer.consume(taken);
        if !complete || !self.take_line_end()? {
            return Ok(None);
        }
        self.bulk.take().map(|bulk| bulk.kind.build(bulk.bytes)).transpose()
    }

    /// Whether the line end that must come next was there.
    fn take_line_end(&mut self) -> Result<bool, ReplyError> {
        match self.buffer.unread() {
            [] | [b'\r'] => Ok(false),
            [b'\r', b'\n', ..] => {
                self.buffer.consume(2);
                Ok(true)
            }
            _ => Err(ReplyError::Malformed("the end of a bulk")),
        }
    }

    /// Puts a value where it belongs; the outermost value if that is complete.
    #[inline]
    fn put(&mut self, mut value: Value) -> Result<Option<Value>, ReplyError> {
        while let Some(aggregate) = self.open.last_mut() {
            aggregate.values.push(value);
            aggregate.missing -= 1;
            if aggregate.missing > 0 {
                return Ok(None);
            }
            let values = std::mem::take(&mut aggregate.values);
            value = aggregate.kind.build(values)?;
            self.open.pop();
        }
        Ok(Some(value))
    }
}

impl Bulk {
    /// Appends what belongs to it of `received`; how many bytes that were.
    fn append(&mut self, received: &[u8]) -> usize {
        let part = &received[..received.len().min(self.missing)];
        if self.bytes.capacity() - self.bytes.len() < part.len() {
            // Double it, but never beyond what is claimed.
            let wanted = self.bytes.len().max(part.len()).min(self.missing);
            self.bytes.reserve_exact(wanted);
        }
        self.bytes.extend_from_slice(part);
        self.missing -= part.len();
        part.len()
    }
}

/// The length of the line at the beginning of `bytes`, without its end, if that
/// end is there. The first `scanned` bytes are known not to begin it.
#[inline]
fn line_length(bytes: &[u8], scanned: usize) -> Option<usize> {
    let mut from = scanned;
    while let Some(at) = bytes[from..].iter().position(|&byte| byte == b'\n') {
        let newline = from + at;
        if newline > 0 && bytes[newline - 1] == b'\r' {
            return Some(newline - 1);
        }
        from = newline + 1;
    }
    None
}
