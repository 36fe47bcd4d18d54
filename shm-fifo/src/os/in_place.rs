//! Granted bytes and file descriptors: the kernel copies between the two, and nobody else.
//!
//! The descriptors are the caller's, so the calls are the C library's, which an interposer may
//! stand behind; those of this crate's own are made directly (`sys.rs`).
#![allow(unsafe_code)]

use super::channel::time_left;
use crate::fifo::{ReadGrant, WriteGrant};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Instant;

impl ReadGrant<'_, '_> {
    /// Writes these of the granted bytes to `target`, as `writev(2)` does, and returns how many
    /// that were. They are still to be [consumed](ReadGrant::consume).
    ///
    /// The kernel takes them from where they lie: no copy of this process's own is made. What a
    /// peer changes meanwhile is written as it was or as it is.
    ///
    /// # Errors
    /// What `writev(2)` says: `Interrupted`, `WouldBlock` of a descriptor in non-blocking mode,
    /// `BrokenPipe` (with a SIGPIPE, which Rust's programs ignore).
    ///
    /// # Panics
    /// If there are fewer bytes in the grant.
    ///
    /// # Examples
    ///
    /// ```
    /// use shm_fifo::Channel;
    /// # use std::io::Read;
    ///
    /// # let (mut here, mut there) = Channel::pair(4096)?;
    /// # let (mut reader, pipe) = std::io::pipe()?;
    /// here.try_write(b"4: body")?;
    /// let written = there.read_in_place(3, |grant| {
    ///     let written = grant.write_to(3..grant.length(), &pipe)?;
    ///     grant.consume(3 + written);
    ///     std::io::Result::Ok(written)
    /// })?;
    /// assert_eq!(written.transpose()?, Some(4));
    /// # let mut body = [0; 4];
    /// # reader.read_exact(&mut body)?;
    /// # assert_eq!(&body, b"body");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_to(&self, range: Range<usize>, target: impl AsFd) -> io::Result<usize> {
        let spans = self.parts(range).map(|part| span(part.cast_mut()));
        let target = target.as_fd().as_raw_fd();
        // SAFETY:
        // * two spans, live until the call returns;
        // * they lie in the ring, which is readable for longer than the grant lives. The kernel
        //   only reads them, and no reference to them exists.
        counted(unsafe { libc::writev(target, spans.as_ptr(), 2) })
    }
}

impl WriteGrant<'_, '_> {
    /// Reads from `source` into these of the granted bytes, as `readv(2)` does, and returns how
    /// many that were: none at its end. They are still to be [committed](WriteGrant::commit).
    ///
    /// The kernel puts them where they belong: no copy of this process's own is made.
    ///
    /// # Errors
    /// What `readv(2)` says: `Interrupted`, `WouldBlock` of a descriptor in non-blocking mode.
    ///
    /// # Panics
    /// If there are fewer bytes in the grant.
    pub fn read_from(&mut self, range: Range<usize>, source: impl AsFd) -> io::Result<usize> {
        let spans = self.parts(range).map(span);
        let source = source.as_fd().as_raw_fd();
        // SAFETY:
        // * two spans, live until the call returns;
        // * they lie in the ring, which is writable for longer than the grant lives. Nobody else
        //   of this process writes there, and no reference to them exists.
        counted(unsafe { libc::readv(source, spans.as_ptr(), 2) })
    }
}

fn span(part: *mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: part.cast(), iov_len: part.len() }
}

/// What a descriptor is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ready {
    ToRead,
    ToWrite,
}

/// Waits until `fd` is ready or has ended, at most until `deadline`.
pub(super) fn wait_for(
    fd: BorrowedFd<'_>,
    ready: Ready,
    deadline: Option<Instant>,
) -> io::Result<()> {
    let events = match ready {
        Ready::ToRead => libc::POLLIN,
        Ready::ToWrite => libc::POLLOUT,
    };
    let mut polled = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    loop {
        // Rounded up: less than a millisecond is not no time.
        let timeout_ms = time_left(deadline)?.map_or(-1, |left| {
            libc::c_int::try_from(left.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: one live pollfd.
        match counted(unsafe { libc::poll(&raw mut polled, 1, timeout_ms) } as isize) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(1..) => return Ok(()),
            _ => {}
        }
    }
}

/// The result of a call that returns a count or -1 with `errno`.
fn counted(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
