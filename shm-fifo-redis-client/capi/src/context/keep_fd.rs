//! What somebody gets who frees a moved context and keeps its descriptor
//! (`redisFreeKeepFd`).
//!
//! A connection cannot go back to its socket, but whoever keeps the descriptor takes it
//! for a connection to Redis. So it becomes one on which a server says what is the matter
//! and hangs up: one error, whatever is sent, and nothing more.
#![allow(unsafe_code)]

use crate::connection::borrowed;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::{DupFlags, FdFlags, dup3, fcntl_getfd};
use rustix::net::{Shutdown, shutdown};
use shm_fifo::fd_passing::send_with_fd;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

const ANSWER: &[u8] = b"-ERR this connection was in shared memory and ended with its context; \
                        only one that is on its socket can be kept\r\n";

/// If descriptor `number` still is the socket of which `socket` is a copy, makes it one
/// that answers.
pub(super) fn answer_at(number: RawFd, socket: RawFd) {
    // SAFETY: only looked at; the kernel says it if they are closed.
    let looked_at = unsafe { (borrowed(number), borrowed(socket)) };
    let (Ok(kept), Ok(socket)) = looked_at else { return };
    if is_same(kept, socket).unwrap_or(false) && replace(kept).is_err() {
        // Where there is no descriptor for the answer, only the end.
        let _: rustix::io::Result<()> = shutdown(kept, Shutdown::Both);
    }
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

fn replace(kept: BorrowedFd<'_>) -> io::Result<()> {
    let (answered, answering) = UnixStream::pair()?;
    // The answering end lives in the message, as long as nobody has read that: until then
    // commands can be sent, afterwards both directions have ended.
    send_with_fd(&answering, ANSWER, answering.as_fd())?;
    fcntl_setfl(&answered, fcntl_getfl(kept)? & OFlags::NONBLOCK)?;
    let inherited = !fcntl_getfd(kept)?.contains(FdFlags::CLOEXEC);
    let flags = if inherited { DupFlags::empty() } else { DupFlags::CLOEXEC };
    // SAFETY: open, as was just seen; not closed here, but in the hands of who keeps it.
    let mut kept = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(kept.as_raw_fd()) });
    Ok(dup3(&answered, &mut kept, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// A connection, a copy of it as contexts have one, and its other end.
    fn connection() -> (UnixStream, OwnedFd, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        let copy = here.as_fd().try_clone_to_owned().unwrap();
        (here, copy, there)
    }

    #[test]
    fn what_is_kept_answers_with_an_error_and_ends() {
        let (mut kept, copy, mut server) = connection();
        answer_at(kept.as_raw_fd(), copy.as_raw_fd());
        kept.write_all(b"PING\r\n").unwrap();
        let mut answer = [0; ANSWER.len()];
        kept.read_exact(&mut answer).unwrap();
        assert_eq!(answer, ANSWER);
        // What was sent is unread: a reset, and not only an end.
        assert_eq!(kept.read(&mut answer).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        drop(copy);
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0, "the server sees the end");
    }

    #[test]
    fn it_waits_or_does_not_and_is_inherited_or_not_as_before() {
        let (kept, copy, _server) = connection();
        kept.set_nonblocking(true).unwrap();
        rustix::io::fcntl_setfd(&kept, FdFlags::empty()).unwrap();
        answer_at(kept.as_raw_fd(), copy.as_raw_fd());
        assert!(fcntl_getfl(&kept).unwrap().contains(OFlags::NONBLOCK));
        assert_eq!(fcntl_getfd(&kept).unwrap(), FdFlags::empty());
    }

    #[test]
    fn a_number_that_is_something_else_now_is_left_alone() {
        let (kept, copy, _server) = connection();
        let (mut here, mut there) = UnixStream::pair().unwrap();
        answer_at(here.as_raw_fd(), copy.as_raw_fd());
        here.write_all(b"mine").unwrap();
        there.read_exact(&mut [0; 4]).unwrap();
        drop(kept);
        answer_at(-1, copy.as_raw_fd());
    }
}
