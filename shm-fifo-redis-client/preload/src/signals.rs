//! Signal handlers, which may close a file descriptor at any moment.
//!
//! `close` takes locks, and the handler may have interrupted the very thread that holds
//! them: redis-cli closes its connection so, at Ctrl-C. Then the file descriptor is closed
//! as soon as that thread has let go of them.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::os::fd::RawFd;

/// How many closes can be put off; nobody has seen more than one.
const MAX_LATE: usize = 8;

thread_local! {
    /// Whether this thread may be in the middle of something.
    static BUSY: Cell<bool> = const { Cell::new(false) };
    static LATE: Cell<[RawFd; MAX_LATE]> = const { Cell::new([-1; MAX_LATE]) };
    static LATE_COUNT: Cell<usize> = const { Cell::new(0) };
}

/// Runs `work`, which takes locks. What a signal handler closes meanwhile is closed
/// afterwards.
#[inline]
pub(crate) fn put_off<T>(work: impl FnOnce() -> T) -> T {
    let outer = BUSY.replace(true);
    let result = work();
    BUSY.set(outer);
    if !outer && LATE_COUNT.get() > 0 {
        close_late();
    }
    result
}

/// Runs `sleep`, within `put_off`, while no lock is held: a signal handler may close what
/// it likes.
pub(crate) fn let_in<T>(sleep: impl FnOnce() -> T) -> T {
    let outer = BUSY.replace(false);
    if LATE_COUNT.get() > 0 {
        close_late();
    }
    let result = sleep();
    BUSY.set(outer);
    result
}

/// Puts off closing `fd`, if this thread is in the middle of something.
pub(crate) fn is_put_off(fd: RawFd) -> bool {
    let count = LATE_COUNT.get();
    if !BUSY.get() || count == MAX_LATE {
        return false;
    }
    let mut late = LATE.get();
    late[count] = fd;
    LATE.set(late);
    LATE_COUNT.set(count + 1);
    true
}

#[cold]
fn close_late() {
    // From here on a signal handler closes by itself.
    for &fd in &LATE.get()[..LATE_COUNT.replace(0)] {
        // SAFETY: the program's own call, some moments later. It is ours that is called.
        unsafe { libc::close(fd) };
    }
}
