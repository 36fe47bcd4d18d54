//! `errno`, as the calls that we stand for leave it.
#![allow(unsafe_code)]

use crate::signals;
use libc::c_int;
use std::io;

/// The error of a call that stands for a C library's: its `errno`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) c_int);

impl Errno {
    pub(crate) const AGAIN: Self = Self(libc::EAGAIN);
    pub(crate) const PIPE: Self = Self(libc::EPIPE);
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::WouldBlock => libc::EAGAIN,
            io::ErrorKind::BrokenPipe => libc::EPIPE,
            io::ErrorKind::NotConnected => libc::ENOTCONN,
            _ => error.raw_os_error().unwrap_or(libc::EIO),
        };
        Self(code)
    }
}

/// Runs `work`, which is none of the program's business, leaving `errno` alone.
pub(crate) fn untouched<T>(work: impl FnOnce() -> T) -> T {
    untouched_by(|| signals::put_off(work))
}

/// The same for `work` that is the program's business, but not what this call is about.
pub(crate) fn untouched_by<T>(work: impl FnOnce() -> T) -> T {
    let before = get();
    let result = work();
    set(before);
    result
}

pub(crate) fn get() -> c_int {
    // SAFETY: the location is this thread's own and always valid.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set(code: c_int) {
    // SAFETY: the location is this thread's own and always valid.
    unsafe { *libc::__errno_location() = code };
}
