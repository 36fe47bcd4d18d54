//! The writing of frames.

use super::{FrameError, LENGTH_BYTES, passes_whole};
use crate::{Producer, watch::SpaceWatch};

/// Writes frames to a [`Producer`], without waiting.
///
/// # Examples
///
/// ```
/// use shm_fifo::frame::{FrameReader, FrameWriter};
/// use shm_fifo::{Fifo, fifo::FifoHeader};
///
/// let header = FifoHeader::new();
/// let mut ring = [0_u8; 64];
/// let ring = ring.as_mut_ptr();
/// // SAFETY: both ends use the ring's 64 bytes through FIFOs only, while they live.
/// let mut producer = unsafe { Fifo::from_raw_parts(&header, ring, 64) }?.into_producer(0);
/// // SAFETY: as above.
/// let mut consumer = unsafe { Fifo::from_raw_parts(&header, ring, 64) }?.into_consumer(0);
///
/// let (mut writer, mut reader) = (FrameWriter::new(100), FrameReader::new(100));
/// assert!(writer.write(&mut producer, b"one")?);
/// assert!(writer.write(&mut producer, b"two")?);
/// assert!(!writer.write(&mut producer, &[3; 90])?, "a part of it");
///
/// let mut frame = [0; 100];
/// assert_eq!(reader.read(&mut consumer, &mut frame)?, Some(3));
/// assert_eq!(&frame[..3], b"one");
/// assert_eq!(reader.read(&mut consumer, &mut frame)?, Some(3));
/// assert_eq!(reader.read(&mut consumer, &mut frame)?, None, "a part of it");
/// assert!(writer.write(&mut producer, &[3; 90])?, "the rest");
/// assert_eq!(reader.read(&mut consumer, &mut frame)?, Some(90));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct FrameWriter {
    pub(crate) max_bytes: usize,
    /// Bytes written of the frame that is under way, its length's among them.
    written: usize,
}

impl FrameWriter {
    /// A writer of frames of at most `max_bytes` bytes, at the beginning of one.
    #[must_use]
    pub const fn new(max_bytes: usize) -> Self {
        Self { max_bytes, written: 0 }
    }

    /// Writes `frame`, or as much of it as there is space for if it is longer than what
    /// passes the ring whole. Returns whether all of it is written.
    ///
    /// If not, wait by [`FrameWriter::watch`] and call it again, with the same frame.
    /// Afterwards [`Producer::needs_notify`] says in either case whether the consumer sleeps.
    ///
    /// # Errors
    /// [`FrameError::TooLong`], with nothing written, or [`FrameError::Corrupt`].
    pub fn write(&mut self, producer: &mut Producer<'_>, frame: &[u8]) -> Result<bool, FrameError> {
        let length = self.encode(frame)?;
        if passes_whole(frame.len(), producer.capacity()) {
            return Ok(producer.write_vectored_whole(&[&length[..], frame])?);
        }
        self.written += match self.written.checked_sub(LENGTH_BYTES) {
            None => producer.write_vectored(&[&length[self.written..], frame])?,
            Some(written) => producer.write(frame.get(written..).unwrap_or_default())?,
        };
        let is_whole = self.written >= LENGTH_BYTES + frame.len();
        if is_whole {
            self.written = 0;
        }
        Ok(is_whole)
    }

    /// What to wait by for the space that `frame`, which was not written whole, needs.
    #[must_use]
    pub fn watch<'m>(&self, producer: &Producer<'m>, frame: &[u8]) -> SpaceWatch<'m> {
        if passes_whole(frame.len(), producer.capacity()) {
            producer.watch_for(LENGTH_BYTES + frame.len())
        } else {
            producer.watch()
        }
    }

    /// Whether a frame is under way: a part of it is written.
    #[must_use]
    pub const fn is_inside_frame(&self) -> bool {
        self.written > 0
    }

    fn encode(&self, frame: &[u8]) -> Result<[u8; LENGTH_BYTES], FrameError> {
        match u32::try_from(frame.len()) {
            Ok(length) if frame.len() <= self.max_bytes => Ok(length.to_le_bytes()),
            _ => Err(FrameError::TooLong { length: frame.len(), max: self.max_bytes }),
        }
    }
}
