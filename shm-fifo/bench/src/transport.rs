//! What is measured: two ends that send each other messages of `N` bytes.

use anyhow::Result;

/// A message. Its first eight bytes are its number.
pub type Message<const N: usize> = [u8; N];

/// Messages that are ready at the same time, together, unless one alone is longer.
pub const BURST_BYTES: usize = 4096;

/// One end of a connection.
pub trait End<const N: usize> {
    /// Sends all messages of `burst`, waiting for space where there is none.
    fn send(&mut self, burst: &[Message<N>]) -> Result<()>;

    /// Gives `take` the messages that have arrived, perhaps none.
    fn receive(&mut self, take: impl FnMut(&Message<N>)) -> Result<()>;
}

/// Where the two ends of a transport live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Processes,
    Threads,
}

/// Makes an end where it is to be used: in its own process, on its own CPU.
pub type Opening<E> = Box<dyn FnOnce() -> Result<E> + Send>;

/// Two ends of a connection, to be made.
pub type Pair<E> = (Opening<E>, Opening<E>);

/// A way to carry messages of `N` bytes.
pub trait Transport<const N: usize> {
    type End: End<N>;
    const PLACE: Place;

    /// Two connected ends with room for `capacity` messages in each direction.
    fn connect(capacity: usize) -> Result<Pair<Self::End>>;
}

/// Repeats `attempt` until it succeeds. No `pause` in between: without it every
/// transport's round trip was as short or shorter.
#[inline]
pub fn spin_until(mut attempt: impl FnMut() -> Result<bool>) -> Result<()> {
    while !attempt()? {}
    Ok(())
}
