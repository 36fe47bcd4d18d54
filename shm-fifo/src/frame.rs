//! Frames: messages of known length over the byte stream.
//!
//! A frame is its length, four bytes, little-endian, and as many bytes. It is what
//! tokio-util's `LengthDelimitedCodec::builder().little_endian()` reads and writes.
//!
//! A frame that takes at most half of the ring, with its length, passes it whole: a writer
//! waits until there is space for all of it, and a reader until all of it is there. Half is
//! what either may always wait for, because the other never sleeps with less in the ring.
//! A longer frame streams through, in pieces as they fit.
//!
//! The peer is not believed: a length is checked against the reader's own limit before
//! anything is allocated or waited for.
#![cfg_attr(
    feature = "std",
    doc = "\n[`Channel`](crate::Channel) sends and receives frames by \
           [`send`](crate::Channel::send) and [`recv_into`](crate::Channel::recv_into). \
           [`FrameWriter`] and [`FrameReader`] are for those who have a FIFO alone."
)]

mod reader;
mod writer;

pub use reader::FrameReader;
pub use writer::FrameWriter;

use crate::error::Corrupt;
use core::error::Error;
use core::fmt;

/// Bytes of a frame's length, which comes before it.
pub const LENGTH_BYTES: usize = 4;

/// The longest frame, in bytes, that is sent and received unless another limit is set: as in
/// tokio-util's codec, 8 MiB.
pub const DEFAULT_MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;

/// Why a frame was not written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// It is longer than permitted.
    TooLong {
        /// Its length, in bytes.
        length: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The stream has ended inside a frame.
    Cut,
    /// The peer's position is impossible.
    Corrupt(Corrupt),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length, max } => {
                write!(f, "a frame of {length} bytes is longer than the limit of {max}")
            }
            Self::Cut => f.write_str("the stream ended inside a frame"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl Error for FrameError {}

impl From<Corrupt> for FrameError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// Whether a frame of `length` bytes passes a ring of `capacity` whole.
pub(crate) const fn passes_whole(length: usize, capacity: usize) -> bool {
    length.saturating_add(LENGTH_BYTES) <= capacity / 2
}
