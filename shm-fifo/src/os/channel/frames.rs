//! Frames on a channel: messages that are sent and received as a whole.

use super::{Channel, own};
use crate::frame::{
    DEFAULT_MAX_FRAME_BYTES, FrameError, FrameReader, FrameWriter, LENGTH_BYTES, passes_whole,
};
use crate::{Consumer, Interest};
use std::{fmt, io};

/// A channel's place among the frames of its two streams.
pub(super) struct Frames {
    reader: FrameReader,
    writer: FrameWriter,
    /// What came of a frame that streams through the ring.
    partial: Vec<u8>,
    /// What [`Channel::for_each_frame`] shows.
    shown: Vec<u8>,
}

impl Frames {
    pub(super) const fn new() -> Self {
        Self {
            reader: FrameReader::new(DEFAULT_MAX_FRAME_BYTES),
            writer: FrameWriter::new(DEFAULT_MAX_FRAME_BYTES),
            partial: Vec::new(),
            shown: Vec::new(),
        }
    }

    /// Takes what there is of the next frame; `true` if that is now in `frame`.
    fn take(
        &mut self,
        consumer: &mut Consumer<'_>,
        frame: &mut Vec<u8>,
    ) -> Result<bool, FrameError> {
        let Some(span) = self.reader.look(consumer, usize::MAX)? else { return Ok(false) };
        let is_whole = span.from == 0 && span.is_last();
        // It grows by what has come, not by what was claimed.
        let target = if is_whole { &mut *frame } else { &mut self.partial };
        make_room(target, span.to, span.length);
        self.reader.take(consumer, span, &mut target[span.from..])?;
        if span.is_last() && !is_whole {
            std::mem::swap(frame, &mut self.partial);
            self.partial.clear();
        }
        Ok(span.is_last())
    }
}

impl fmt::Debug for Frames {
    /// Of what was received nothing but the memory that it takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("reader", &self.reader)
            .field("writer", &self.writer)
            .field("partial_bytes", &self.partial.capacity())
            .field("shown_bytes", &self.shown.capacity())
            .finish()
    }
}

/// Makes `target` as long as what has come, `bytes`, of a frame of `length`. It grows as a vector
/// does, but not beyond the frame, which is within the limit.
fn make_room(target: &mut Vec<u8>, bytes: usize, length: usize) {
    if target.capacity() < bytes {
        let capacity = target.capacity().saturating_mul(2).clamp(bytes, length);
        target.reserve_exact(capacity - target.len());
    }
    target.resize(bytes, 0);
}

/// Frames: messages with their length before them ([`frame`](crate::frame)).
///
/// Frames and plain bytes may follow one another on a channel, if both sides know where.
impl Channel {
    /// Sets the longest frame, in bytes, that is sent or received:
    /// [`DEFAULT_MAX_FRAME_BYTES`] at first. At most that much memory is taken for a frame
    /// that the peer sends, as it comes. One that has begun to come is received as it began.
    pub fn set_max_frame_bytes(&mut self, bytes: usize) {
        self.frames.reader.max_bytes = bytes;
        self.frames.writer.max_bytes = bytes;
    }

    /// Sends `frame`, waiting for space as [`Write`](io::Write) does.
    ///
    /// Up to half of the ring, with the four bytes of its length, a frame is sent whole or,
    /// on an error, not at all. A longer one streams through the ring while the peer reads;
    /// an error in the middle of it ends the channel.
    ///
    /// # Errors
    /// `InvalidInput` if it is longer than the limit, with nothing sent; otherwise as
    /// [`Write`](io::Write).
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut client, mut server) = shm_fifo::Channel::pair(4096)?;
    /// client.send(b"first")?;
    /// client.send(b"")?;
    /// drop(client);
    ///
    /// let mut frame = Vec::new();
    /// assert_eq!(server.recv_into(&mut frame)?, Some(5));
    /// assert_eq!(frame, b"first");
    /// assert_eq!(server.recv_into(&mut frame)?, Some(0));
    /// assert_eq!(server.recv_into(&mut frame)?, None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let result = self.block_on(Interest::WRITABLE, |channel| channel.write_frame(frame));
        if self.frames.writer.is_inside_frame() {
            // What follows would be taken for the rest of it.
            own(&mut self.endpoint)?.peer.note_end();
            self.end();
        }
        result
    }

    /// As [`Channel::send`], without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if there is no space for all of it, with nothing sent: until there is,
    /// the channel is not [writable](Interest::WRITABLE). `InvalidInput` if it is longer than
    /// the limit, or than what is sent whole; otherwise as [`Channel::try_write`].
    pub fn try_send(&mut self, frame: &[u8]) -> io::Result<()> {
        let capacity = own(&mut self.endpoint)?.producer.capacity();
        if !passes_whole(frame.len(), capacity) {
            let error =
                FrameError::TooLong { length: frame.len(), max: capacity / 2 - LENGTH_BYTES };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        self.write_frame(frame)
    }

    /// Receives the next frame, waiting for it as [`Read`](io::Read) does, and returns its
    /// length, in bytes. `frame` is replaced; its memory is used again. `None` is the end of
    /// the stream, between two frames.
    ///
    /// After `TimedOut` or `WouldBlock` nothing is lost: what has come of the frame is kept
    /// for the next call.
    ///
    /// # Errors
    /// `InvalidData` if the frame is longer than the limit, or the peer broke the protocol
    /// otherwise; the channel has ended then. `UnexpectedEof` if the stream ended inside the
    /// frame. Otherwise as [`Read`](io::Read).
    pub fn recv_into(&mut self, frame: &mut Vec<u8>) -> io::Result<Option<usize>> {
        self.block_on(Interest::READABLE, |channel| channel.try_recv_into(frame))
    }

    /// As [`Channel::recv_into`], without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if the frame is not all there yet: until more of it is, the channel is
    /// not [readable](Interest::READABLE). Otherwise as [`Channel::recv_into`].
    pub fn try_recv_into(&mut self, frame: &mut Vec<u8>) -> io::Result<Option<usize>> {
        loop {
            let mut outcome = Ok(false);
            let read = self.try_read_by(true, |consumer, frames| {
                let before = consumer.position();
                outcome = frames.take(consumer, frame);
                match outcome {
                    Err(FrameError::Corrupt(corrupt)) => Err(corrupt),
                    _ => Ok(length_between(before, consumer.position())),
                }
            });
            let endpoint = own(&mut self.endpoint)?;
            endpoint.wanted.bytes = self.frames.reader.wanted;
            if let Err(error @ FrameError::TooLong { .. }) = outcome {
                endpoint.peer.note_breach();
                self.end();
                return Err(error.into());
            }
            if outcome == Ok(true) {
                return Ok(Some(frame.len()));
            }
            if read? == 0 {
                self.frames.reader.end(&mut endpoint.consumer)?;
                return Ok(None);
            }
        }
    }

    /// Calls `handle` with each frame that is there, without waiting, and returns how many
    /// those were: at least one, but for the end of the stream, which is 0.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; otherwise as [`Channel::try_recv_into`]. What comes
    /// behind some frames is told by the next call.
    ///
    /// # Examples
    ///
    /// ```
    /// let (mut client, mut server) = shm_fifo::Channel::pair(4096)?;
    /// client.try_send(b"a man")?;
    /// client.try_send(b"a plan")?;
    /// let mut bytes = 0;
    /// assert_eq!(server.for_each_frame(|frame| bytes += frame.len())?, 2);
    /// assert_eq!(bytes, 11);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn for_each_frame(&mut self, mut handle: impl FnMut(&[u8])) -> io::Result<usize> {
        let consumer = &mut own(&mut self.endpoint)?.consumer;
        // Not what comes meanwhile: a peer that sends and sends does not keep us here.
        let available = consumer.available_bytes().unwrap_or(0) as u64;
        let first = consumer.position();
        let mut shown = std::mem::take(&mut self.frames.shown);
        let mut count = 0;
        let result = loop {
            match self.try_recv_into(&mut shown) {
                Ok(Some(_)) => handle(&shown),
                Err(error) if count == 0 => break Err(error),
                Ok(None) | Err(_) => break Ok(count),
            }
            count += 1;
            if self.stats().bytes_received.wrapping_sub(first) >= available {
                break Ok(count);
            }
        };
        self.frames.shown = shown;
        result
    }

    /// Writes what there is space for of `frame`; `WouldBlock` if that is not all.
    fn write_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        loop {
            let mut outcome = Ok(false);
            let written = self.try_write_by(true, |producer, frames| {
                let before = producer.position();
                outcome = frames.writer.write(producer, frame);
                match outcome {
                    Err(FrameError::Corrupt(corrupt)) => Err(corrupt),
                    _ => Ok(length_between(before, producer.position())),
                }
            });
            if let Err(error @ FrameError::TooLong { .. }) = outcome {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
            }
            let is_whole = outcome == Ok(true);
            if let Some(endpoint) = self.endpoint.get_mut() {
                let whole_bytes = passes_whole(frame.len(), endpoint.producer.capacity())
                    .then_some(LENGTH_BYTES + frame.len());
                endpoint.wanted.space_bytes = whole_bytes.filter(|_| !is_whole);
            }
            written?;
            if is_whole {
                return Ok(());
            }
        }
    }
}

/// Bytes between two positions, one of which was reached from the other.
pub(super) fn length_between(before: u64, after: u64) -> usize {
    usize::try_from(after.wrapping_sub(before)).unwrap_or(usize::MAX)
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        let kind = match error {
            FrameError::Cut => io::ErrorKind::UnexpectedEof,
            FrameError::TooLong { .. } | FrameError::Corrupt(_) => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
