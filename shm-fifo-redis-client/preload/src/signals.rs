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
    static THREAD: Thread = const { Thread::new() };
}

#[derive(Debug)]
struct Thread {
    /// Whether it may be in the middle of something.
    is_busy: Cell<bool>,
    late: Cell<[RawFd; MAX_LATE]>,
    late_count: Cell<usize>,
}

/// Runs `work`, which takes locks. What a signal handler closes meanwhile is closed
/// afterwards.
#[inline]
pub(crate) fn put_off<T>(work: impl FnOnce() -> T) -> T {
    THREAD.with(|thread| {
        let was_busy = thread.is_busy.replace(true);
        let result = work();
        thread.is_busy.set(was_busy);
        if !was_busy && thread.late_count.get() > 0 {
            thread.close_late();
        }
        result
    })
}

/// Runs `sleep`, within `put_off`, while no lock is held: a signal handler may close what
/// it likes.
pub(crate) fn let_in<T>(sleep: impl FnOnce() -> T) -> T {
    THREAD.with(|thread| {
        let was_busy = thread.is_busy.replace(false);
        if thread.late_count.get() > 0 {
            thread.close_late();
        }
        let result = sleep();
        thread.is_busy.set(was_busy);
        result
    })
}

/// Puts off closing `fd`, if this thread is in the middle of something.
pub(crate) fn is_put_off(fd: RawFd) -> bool {
    THREAD.with(|thread| thread.puts_off(fd))
}

impl Thread {
    const fn new() -> Self {
        Self {
            is_busy: Cell::new(false),
            late: Cell::new([-1; MAX_LATE]),
            late_count: Cell::new(0),
        }
    }

    fn puts_off(&self, fd: RawFd) -> bool {
        let count = self.late_count.get();
        if !self.is_busy.get() || count == MAX_LATE {
            return false;
        }
        let mut late = self.late.get();
        late[count] = fd;
        self.late.set(late);
        self.late_count.set(count + 1);
        true
    }

    #[cold]
    fn close_late(&self) {
        // It is not busy: from here on a signal handler closes by itself.
        for &fd in &self.late.get()[..self.late_count.replace(0)] {
            // SAFETY: the program's own call, some moments later. It is ours that is called.
            unsafe { libc::close(fd) };
        }
    }
}
