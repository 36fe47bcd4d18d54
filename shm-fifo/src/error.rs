//! Errors of the core: small, exact, without allocation.

use core::error::Error;
use core::fmt;

/// A position in shared memory that only the peer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SharedWord {
    /// The producer's position, read by the consumer.
    Tail,
    /// The consumer's position, read by the producer.
    Head,
}

impl fmt::Display for SharedWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tail => "tail",
            Self::Head => "head",
        })
    }
}

/// The peer wrote a position that no correct peer can write.
///
/// Nothing was read or written because of it. The FIFO stays in this state:
/// whoever owns it ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt {
    /// Which of the peer's words is wrong.
    pub word: SharedWord,
    /// What the peer wrote there.
    pub value: u64,
    /// This side's own position at that moment.
    pub own: u64,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the peer's {} position {} is impossible beside this side's position {}",
            self.word, self.value, self.own
        )
    }
}

impl Error for Corrupt {}

/// A capacity that no FIFO can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapacityError {
    /// The capacity asked for, in bytes.
    pub capacity: usize,
}

impl fmt::Display for CapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a FIFO's capacity is a power of two of at least 64 bytes, not {}", self.capacity)
    }
}

impl Error for CapacityError {}
