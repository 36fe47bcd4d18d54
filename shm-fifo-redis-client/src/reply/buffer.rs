//! Bytes that were received and not yet understood.

use std::io;
use std::mem;

/// What a fresh buffer holds: few enough to stay in the nearest cache.
const INITIAL_BYTES: usize = 16 * 1024;

/// A buffer that is filled at one end and consumed at the other.
///
/// It grows only when something is longer than it and has really been received.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    /// Initialised throughout; received bytes are in `start..end`.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    /// The bytes that were received and not consumed.
    #[inline]
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Drops the first `count` unread bytes, all of them if there are fewer.
    #[inline]
    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start.saturating_add(count));
    }

    /// Lets `read` add bytes behind the unread ones and passes on what it says.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.make_room();
        let room = &mut self.bytes[self.end..];
        let length = room.len();
        let count = read(room)?.min(length);
        self.end += count;
        Ok(count)
    }

    /// At least a quarter of the buffer is free afterwards, so that moving bytes
    /// to its front costs a constant for each byte received.
    #[inline]
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() != INITIAL_BYTES {
                self.bytes = vec![0; INITIAL_BYTES];
            }
            return;
        }
        if self.bytes.len() - self.end < self.bytes.len() / 4 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= mem::take(&mut self.start);
        }
        if self.bytes.len() - self.end < self.bytes.len() / 4 {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(buffer: &mut ReadBuffer, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = buffer.fill(|room| io::Read::read(&mut bytes, room)).unwrap();
            assert_ne!(count, 0);
        }
    }

    #[test]
    fn bytes_come_out_as_they_went_in_across_moves_and_growth() {
        let mut buffer = ReadBuffer::default();
        let sent: Vec<u8> = (0..=250).cycle().take(5 * INITIAL_BYTES).collect();
        push(&mut buffer, &sent[..10_000]);
        buffer.consume(9_000);
        push(&mut buffer, &sent[10_000..]);
        assert_eq!(buffer.unread(), &sent[9_000..]);
    }

    #[test]
    fn an_emptied_buffer_gives_grown_memory_back() {
        let mut buffer = ReadBuffer::default();
        push(&mut buffer, &vec![1; 5 * INITIAL_BYTES]);
        buffer.consume(usize::MAX);
        push(&mut buffer, b"x");
        assert_eq!(buffer.bytes.len(), INITIAL_BYTES);
    }
}
