//! Moving a connection from its socket to shared memory: `docs/protocol.md`.
//!
//! Until the server has answered `SHM.START` with a doorbell, everything can
//! still be refused, and then the connection goes on over its socket as if
//! nothing had been asked. Bytes that belong to the reader are kept in order.
//!
//! What the bytes mean, a [`Handshake`] knows, which owns no connection. [`Moving`]
//! is that and a stream, for whoever waits in whatever way.

mod command;
mod fd_socket;
mod machine;
mod moving;
mod refusal;
pub mod words;

use crate::stream::Stream;
use crate::sys;
use std::os::fd::AsRawFd;
use std::time::Instant;

pub use command::{Command, PROTOCOL_VERSION, open_command};
pub use fd_socket::FdSocket;
pub use machine::{Event, Handshake, RingAnswer, Violation};
pub use moving::{Moving, Progress};
pub use refusal::{MoveError, Refusal};

/// How an attempt to move a connection ended. Either way it can be used.
#[derive(Debug)]
#[must_use = "the connection is in there"]
pub enum Attempt {
    /// The connection goes on in shared memory.
    Moved(Stream),
    /// The connection goes on over its socket, for this reason.
    Stayed(Stream, Refusal),
}

/// Asks the server to go on with this connection in shared memory.
///
/// No reply may be outstanding; push messages may come at any time. A stream
/// that is in shared memory already is returned as it is. Waits for the server's
/// two answers until `deadline`.
///
/// # Errors
/// If the connection was lost meanwhile: the server ended it, broke the
/// protocol, or did not answer in time. A refusal is no error.
pub fn move_to_shared_memory(
    stream: Stream,
    deadline: Option<Instant>,
) -> Result<Attempt, MoveError> {
    let mut moving = Moving::begin(stream)?;
    while let Progress::Waiting(interest) = moving.advance()? {
        // A server that never stops sending is never waited for.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(MoveError::TimedOut);
        }
        sys::wait(moving.as_raw_fd(), interest, deadline)?;
    }
    moving.into_attempt()
}
