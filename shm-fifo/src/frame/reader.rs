//! The reading of frames.

use super::{FrameError, LENGTH_BYTES, passes_whole};
use crate::error::Corrupt;
use crate::layout::INLINE_BYTES;
use crate::{Consumer, watch::DataWatch};
use core::fmt;

/// Reads frames from a [`Consumer`], without waiting. [`FrameWriter`](super::FrameWriter)
/// has an example.
#[derive(Clone)]
pub struct FrameReader {
    pub(crate) max_bytes: usize,
    /// A frame that streams through the ring, whose length was read.
    begun: Option<Begun>,
    /// The first bytes of what is unread, as they were looked at last.
    start: [u8; INLINE_BYTES],
    start_bytes: usize,
    /// So many bytes have to be there for anything to happen.
    pub(crate) wanted: usize,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    length: usize,
    received: usize,
}

/// What there is of a frame: its bytes from one place to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Of the whole frame.
    pub(crate) length: usize,
}

impl Span {
    pub(crate) const fn is_last(&self) -> bool {
        self.to == self.length
    }
}

impl FrameReader {
    /// A reader of frames of at most `max_bytes` bytes, at the beginning of one.
    #[must_use]
    pub const fn new(max_bytes: usize) -> Self {
        Self { max_bytes, begun: None, start: [0; INLINE_BYTES], start_bytes: 0, wanted: 1 }
    }

    /// Reads the next frame into the first bytes of `target` and returns its length. `None`
    /// if not all of it is there: wait by [`FrameReader::watch`] and call it again, with the
    /// same target, which may have a part of it.
    ///
    /// Afterwards [`Consumer::needs_notify`] says in either case whether the producer sleeps.
    /// At the producer's end, [`FrameReader::end`] says whether it came in time.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if the frame is longer than `target` or than this reader's
    /// limit: nothing of it is read, and a longer target can have it. Or
    /// [`FrameError::Corrupt`].
    pub fn read(
        &mut self,
        consumer: &mut Consumer<'_>,
        target: &mut [u8],
    ) -> Result<Option<usize>, FrameError> {
        let Some(span) = self.look(consumer, target.len())? else { return Ok(None) };
        self.take(consumer, span, &mut target[span.from..span.to])?;
        Ok(span.is_last().then_some(span.length))
    }

    /// What to wait by for more of the next frame.
    #[must_use]
    pub fn watch<'m>(&self, consumer: &Consumer<'m>) -> DataWatch<'m> {
        consumer.watch_for(self.wanted)
    }

    /// After the end of the stream: whether that lies between two frames.
    ///
    /// # Errors
    /// [`FrameError::Cut`] if it lies inside one; [`FrameError::Corrupt`].
    pub fn end(&self, consumer: &mut Consumer<'_>) -> Result<(), FrameError> {
        let is_cut = self.begun.is_some() || consumer.has(1)?;
        if is_cut { Err(FrameError::Cut) } else { Ok(()) }
    }

    /// What there is of the next frame, for which there is `room` in bytes; to be taken by
    /// `take`. `None` if there is nothing, or too little of it.
    pub(crate) fn look(
        &mut self,
        consumer: &mut Consumer<'_>,
        room: usize,
    ) -> Result<Option<Span>, FrameError> {
        self.wanted = 1;
        if self.begun.is_some() {
            return self.look_on(consumer, room);
        }
        self.start_bytes = consumer.peek(&mut self.start)?;
        let Some((length, _)) = self.start[..self.start_bytes].split_first_chunk() else {
            self.wanted = LENGTH_BYTES;
            return Ok(None);
        };
        // Checked in this copy: the peer may change the ring at any time.
        let length = u32::from_le_bytes(*length) as usize;
        check_length(length, self.max_bytes.min(room))?;
        if !passes_whole(length, consumer.capacity()) {
            consumer.release(LENGTH_BYTES);
            self.begun = Some(Begun { length, received: 0 });
            return self.look_on(consumer, room);
        }
        let whole = LENGTH_BYTES + length;
        if self.start_bytes < whole && !consumer.has(whole)? {
            self.wanted = whole;
            return Ok(None);
        }
        Ok(Some(Span { from: 0, to: length, length }))
    }

    /// As [`FrameReader::look`], of a frame that streams through the ring. It was within the limit
    /// when it began.
    fn look_on(
        &self,
        consumer: &mut Consumer<'_>,
        room: usize,
    ) -> Result<Option<Span>, FrameError> {
        let Some(Begun { length, received: from }) = self.begun else { return Ok(None) };
        check_length(length, room)?;
        let available = consumer.available_bytes()?.min(length - from);
        Ok((available > 0).then_some(Span { from, to: from + available, length }))
    }

    /// Takes what was looked at last. `target` is as long as that.
    pub(crate) fn take(
        &mut self,
        consumer: &mut Consumer<'_>,
        span: Span,
        target: &mut [u8],
    ) -> Result<(), Corrupt> {
        let whole = LENGTH_BYTES + span.length;
        if self.begun.is_some() {
            consumer.read(target)?;
            self.begun =
                (!span.is_last()).then_some(Begun { length: span.length, received: span.to });
        } else if whole <= self.start_bytes {
            target.copy_from_slice(&self.start[LENGTH_BYTES..whole]);
            consumer.release(whole);
        } else {
            consumer.read_behind(LENGTH_BYTES, target);
        }
        Ok(())
    }
}

impl fmt::Debug for FrameReader {
    /// Nothing of what was received, which is nobody else's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_bytes, begun, wanted, start: _, start_bytes: _ } = self;
        f.debug_struct("FrameReader")
            .field("max_bytes", max_bytes)
            .field("begun", begun)
            .field("wanted", wanted)
            .finish_non_exhaustive()
    }
}

/// Refuses a `length` of more than `max`.
fn check_length(length: usize, max: usize) -> Result<(), FrameError> {
    if length <= max { Ok(()) } else { Err(FrameError::TooLong { length, max }) }
}
