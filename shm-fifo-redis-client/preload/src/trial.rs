//! Whether the system calls that a moved connection needs are allowed in this process. A
//! filter (seccomp) may forbid some that the program does without, and in the middle of a move
//! it is too late to find out.
#![allow(unsafe_code)]

use crate::errno::Errno;
use crate::sys;
use libc::c_long;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// The program has set up a filter of its own, which may even end it for a call.
static HAS_FILTER: AtomicBool = AtomicBool::new(false);

/// Each with arguments that are refused if the call itself is not.
const CALLS: [sys::Call; 20] = {
    const NOT_OPEN: c_long = -1;
    const NONSENSE: c_long = -1;
    const NO_BYTES: c_long = 0;
    [
        [libc::SYS_socket, NONSENSE, 0, 0, 0, 0, 0],
        [libc::SYS_bind, NOT_OPEN, 0, 0, 0, 0, 0],
        [libc::SYS_getsockname, NOT_OPEN, 0, 0, 0, 0, 0],
        [libc::SYS_setsockopt, NOT_OPEN, 0, 0, 0, 0, 0],
        [libc::SYS_getsockopt, NOT_OPEN, 0, 0, 0, 0, 0],
        [libc::SYS_sendto, NOT_OPEN, 0, 0, 0, 0, 0],
        [libc::SYS_recvfrom, NOT_OPEN, 0, 0, 0, 0, 0],
        [libc::SYS_recvmsg, NOT_OPEN, 0, 0, 0, 0, 0],
        [libc::SYS_shutdown, NOT_OPEN, 0, 0, 0, 0, 0],
        [libc::SYS_fcntl, NOT_OPEN, libc::F_GETFL as c_long, 0, 0, 0, 0],
        [libc::SYS_fstat, NOT_OPEN, 0, 0, 0, 0, 0],
        [libc::SYS_write, NOT_OPEN, 0, 0, 0, 0, 0],
        [libc::SYS_close, NOT_OPEN, 0, 0, 0, 0, 0],
        [libc::SYS_mmap, 0, NO_BYTES, 0, 0, NOT_OPEN, 0],
        [libc::SYS_munmap, 0, NO_BYTES, 0, 0, 0, 0],
        [libc::SYS_eventfd2, 0, NONSENSE, 0, 0, 0, 0],
        [libc::SYS_epoll_create1, NONSENSE, 0, 0, 0, 0, 0],
        [libc::SYS_epoll_ctl, NOT_OPEN, libc::EPOLL_CTL_DEL as c_long, NOT_OPEN, 0, 0, 0],
        [libc::SYS_epoll_pwait, NOT_OPEN, 0, 1, 0, 0, 0],
        // More entries than there can be descriptors.
        [libc::SYS_ppoll, 0, c_long::MAX, 0, 0, 0, 0],
    ]
};

/// Tries them, the first time.
pub(crate) fn is_passed() -> bool {
    static IS_PASSED: OnceLock<bool> = OnceLock::new();
    *IS_PASSED.get_or_init(|| CALLS.into_iter().all(is_allowed))
}

/// From now on nothing may be tried.
pub(crate) fn filter_begins() {
    HAS_FILTER.store(true, Relaxed);
}

/// Whether this process is to make no calls but the program's.
pub(crate) fn has_filter() -> bool {
    HAS_FILTER.load(Relaxed)
}

fn is_allowed(call: sys::Call) -> bool {
    // SAFETY: none of these gets as far as to use memory or a descriptor.
    let result = sys::outcome(unsafe { sys::raw(call) });
    !matches!(result, Err(Errno(libc::EPERM | libc::EACCES | libc::ENOSYS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_forbidden_all_are_allowed_and_refused() {
        for call in CALLS {
            assert!(is_allowed(call), "{call:?}");
            // SAFETY: as above.
            assert!(sys::outcome(unsafe { sys::raw(call) }).is_err(), "{call:?}");
        }
        assert!(is_passed());
    }

    #[test]
    fn a_call_that_does_not_exist_is_not_allowed() {
        assert!(!is_allowed([c_long::MAX, 0, 0, 0, 0, 0, 0]));
    }
}
