//! Whether the system calls that a moved connection needs are allowed in this process. A
//! filter (seccomp) may forbid some that the program does without, and in the middle of a move
//! it is too late to find out.
#![allow(unsafe_code)]

use crate::epoll::FIRST_NUMBER;
use crate::errno::Errno;
use crate::sys::{self, call};
use libc::{epoll_event, pollfd};
use std::os::fd::RawFd;
use std::ptr::null;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// The program has set up a filter of its own, which may even end it for a call.
static HAS_FILTER: AtomicBool = AtomicBool::new(false);

/// Tries them, the first time.
pub(crate) fn is_passed() -> bool {
    static IS_PASSED: OnceLock<bool> = OnceLock::new();
    IS_PASSED.get().copied().unwrap_or_else(|| match try_all() {
        Ok(()) => *IS_PASSED.get_or_init(|| true),
        Err(errno) if is_forbidden(errno) => *IS_PASSED.get_or_init(|| false),
        // No descriptor is left, say, which may be otherwise the next time.
        Err(_) => false,
    })
}

/// From now on nothing may be tried.
pub(crate) fn filter_begins() {
    HAS_FILTER.store(true, Relaxed);
}

/// Whether this process is to make no calls but the program's.
pub(crate) fn has_filter() -> bool {
    HAS_FILTER.load(Relaxed)
}

fn try_all() -> Result<(), Errno> {
    let bell = Own(sys::eventfd(FIRST_NUMBER)?);
    let epoll = Own(sys::epoll_create(FIRST_NUMBER)?);
    let event = epoll_event { events: 0, u64: 0 };
    sys::epoll_ctl(epoll.0, libc::EPOLL_CTL_ADD, bell.0, Some(event))?;
    sys::epoll_wait(epoll.0, &mut [event], Some(0), null())?;
    let mut entry = [pollfd { fd: bell.0, events: 0, revents: 0 }];
    sys::ppoll(&mut entry, Some(sys::NO_TIME), null())?;
    // SAFETY: takes no pointer.
    unsafe { call!(libc::SYS_fcntl, bell.0, libc::F_GETFL) }?;
    // A bell is no socket, as these say where they are allowed.
    refused(sys::send(bell.0, &[]))?;
    refused(sys::receive_all(bell.0, &mut [0], true))?;
    // SAFETY: takes no pointer.
    refused(unsafe { call!(libc::SYS_shutdown, bell.0, libc::SHUT_WR) })?;
    let message = sys::receive_with_fd(bell.0, &mut [0]);
    refused(message.map_err(Errno::from))
}

fn refused<T>(result: Result<T, Errno>) -> Result<(), Errno> {
    match result {
        Err(errno) if is_forbidden(errno) => Err(errno),
        _ => Ok(()),
    }
}

/// What a filter says.
fn is_forbidden(errno: Errno) -> bool {
    matches!(errno, Errno(libc::EPERM | libc::EACCES | libc::ENOSYS))
}

/// A descriptor of this library's own, closed at the end.
struct Own(RawFd);

impl Drop for Own {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_forbidden_all_are_allowed() {
        assert_eq!(try_all(), Ok(()));
        assert!(is_passed());
    }

    #[test]
    fn a_call_that_is_refused_is_allowed_unless_a_filter_refuses_it() {
        assert_eq!(refused(Err::<(), _>(Errno(libc::ENOTSOCK))), Ok(()));
        for code in [libc::EPERM, libc::EACCES, libc::ENOSYS] {
            assert_eq!(refused(Err::<(), _>(Errno(code))), Err(Errno(code)));
        }
    }
}
