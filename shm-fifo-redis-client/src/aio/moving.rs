//! Moving a stream to shared memory, woken by the runtime.
#![allow(unsafe_code)]

use crate::handshake::{Attempt, MoveError, Moving, Progress};
use std::io;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// As [`crate::move_to_shared_memory`]. The runtime's timer is the only deadline.
///
/// # Panics
/// Outside a runtime, or in one without IO.
pub(super) async fn move_to_shared_memory(stream: crate::Stream) -> Result<Attempt, MoveError> {
    let moving = Moving::begin(stream)?;
    let both = Interest::READABLE | Interest::WRITABLE;
    // SAFETY: it owns its socket, which is open until it is dropped or gives the attempt
    // away, both after the runtime has let go of it; the channel that it makes of the
    // socket has the same file descriptor.
    let moving = unsafe { AsyncFd::register_with_interest(moving, both) };
    let mut moving = moving.map_err(io::Error::from)?;
    let mut progress = moving.get_mut().advance()?;
    while let Progress::Waiting(interest) = progress {
        let waiting = moving.async_io_mut(of_runtime(interest), |moving| match moving.advance() {
            // It is not ready any more.
            Ok(progress) if progress == Progress::Waiting(interest) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            done => Ok(done),
        });
        progress = waiting.await??;
    }
    moving.into_inner().into_attempt()
}

fn of_runtime(interest: shm_fifo::Interest) -> Interest {
    if interest.writable { Interest::WRITABLE } else { Interest::READABLE }
}
