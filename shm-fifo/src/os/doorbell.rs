//! Doorbells by socket: single zero bytes on one that both ends have.
//!
//! A doorbell is a hint. One too many costs one look at an empty ring; the socket
//! holds any number of them as one readiness. The end of the socket is the end of
//! the peer.

pub use super::notifier::EventDoorbells;

use super::sys;
use std::io;
use std::os::fd::RawFd;

/// The byte that wakes.
pub const DOORBELL: u8 = 0;

/// The byte behind which the socket carries the stream itself again, in the direction in
/// which it was sent: the last one that is not part of that.
pub const LEAVE: u8 = 1;

/// How many doorbells one look takes at most.
pub(crate) const LOOK_BYTES: usize = 256;

/// What a look at the doorbell socket found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing.
    Nothing,
    /// The doorbell rang; how many bytes that were.
    Rung(usize),
    /// The peer has ended, or its socket was lost.
    End,
    /// The peer has left the rings, and waits for this side to do so.
    Leave,
    /// The peer sent this byte, which is no doorbell.
    Violation(u8),
}

/// Rings the peer behind `socket`. Never waits.
///
/// Returns whether the byte went. A full socket means that doorbells are pending
/// already; a dead one is noticed by whoever listens. So there is nothing to do
/// about one that did not.
pub(crate) fn ring(socket: RawFd) -> bool {
    sys::send(socket, &[DOORBELL], libc::MSG_DONTWAIT).is_ok()
}

/// Takes pending doorbells off `socket`, without waiting.
#[must_use]
pub(crate) fn listen(socket: RawFd) -> Heard {
    // Bounded: a peer that floods gets one look per turn like everybody.
    hear(socket, libc::MSG_DONTWAIT)
}

/// Waits for a doorbell as long as the socket's own mode and timeout say, and
/// takes the pending ones. `Nothing` is a timeout or a signal.
#[must_use]
pub(crate) fn wait(socket: RawFd) -> Heard {
    hear(socket, 0)
}

/// How many bytes wait on `socket` to be heard, as far as one look takes them; its end
/// is one, where nothing comes before it.
#[cfg(feature = "virtual-fd")]
pub(crate) fn pending(socket: RawFd) -> usize {
    let peeked = sys::recv(socket, &mut [0; LOOK_BYTES], libc::MSG_DONTWAIT | libc::MSG_PEEK);
    peeked.map_or(0, |count| count.max(1))
}

fn hear(socket: RawFd, flags: libc::c_int) -> Heard {
    let mut bytes = [0_u8; LOOK_BYTES];
    match sys::recv(socket, &mut bytes, flags) {
        Ok(0) => Heard::End,
        Ok(count) => match bytes[..count].iter().position(|&byte| byte != DOORBELL) {
            None => Heard::Rung(count),
            Some(last) if bytes[last] == LEAVE && last + 1 == count => Heard::Leave,
            Some(stranger) => Heard::Violation(bytes[stranger]),
        },
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Heard::Nothing,
            _ => Heard::End,
        },
    }
}
