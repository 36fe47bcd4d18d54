//! What the program calls in place of the C library's functions.
//!
//! Each is total: it never panics, sets `errno` as the call it stands for does, and
//! leaves it alone on success. A file descriptor that is not tracked costs a look of
//! one or two loads; then the next library is called. `epoll_wait` also counts who waits.

mod aliases;
mod cancel;
mod control;
mod copies;
mod creators;
mod epoll;
mod files;
mod filters;
mod libraries;
mod options;
mod poll;
mod read;
mod signals;
mod streams;
mod system_call;
mod write;

use crate::errno::{self, Errno};
use libc::{c_int, ssize_t};

/// A C function's result, `errno` set.
fn length(result: Result<usize, Errno>) -> ssize_t {
    match result {
        Ok(count) => ssize_t::try_from(count).unwrap_or(ssize_t::MAX),
        Err(Errno(code)) => {
            errno::set(code);
            -1
        }
    }
}

/// As [`length`], of functions that return an `int`.
fn number(result: Result<usize, Errno>) -> c_int {
    c_int::try_from(length(result)).unwrap_or(c_int::MAX)
}
