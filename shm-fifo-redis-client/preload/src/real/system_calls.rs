//! Functions that are nothing but a system call, for a C library that does not have them: the
//! kernel has, and `syscall(2)` asks for what they do.
#![allow(unsafe_code)]

use crate::errno::{self, Errno};
use crate::sys::call;
use libc::{c_int, c_long, c_uint, c_void, epoll_event, iovec, off_t, sigset_t, ssize_t, timespec};
use std::ffi::CStr;

/// The one of this name.
pub(super) fn by_name(name: &CStr) -> Option<*mut c_void> {
    let place = match name.to_bytes() {
        b"close_range" => close_range as *const (),
        b"epoll_pwait2" => epoll_pwait2 as *const (),
        b"preadv2" => preadv2 as *const (),
        b"pwritev2" => pwritev2 as *const (),
        _ => return None,
    };
    Some(place.cast_mut().cast())
}

fn result(outcome: Result<c_long, Errno>) -> c_long {
    outcome.unwrap_or_else(|Errno(code)| {
        errno::set(code);
        -1
    })
}

#[allow(clippy::cast_possible_truncation, reason = "what the kernel answers is an int")]
fn plain(outcome: Result<c_long, Errno>) -> c_int {
    result(outcome) as c_int
}

unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    let (first, last) = (c_long::from(first), c_long::from(last));
    // SAFETY: the caller's own arguments.
    plain(unsafe { call!(libc::SYS_close_range, first, last, flags) })
}

unsafe extern "C" fn epoll_pwait2(
    epfd: c_int,
    events: *mut epoll_event,
    capacity: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's own arguments.
    plain(unsafe {
        call!(
            libc::SYS_epoll_pwait2,
            epfd,
            events,
            capacity,
            timeout,
            mask,
            crate::sys::KERNEL_SIGSET_BYTES
        )
    })
}

macro_rules! at_positions {
    ($($name:ident = $number:ident;)+) => {$(
        unsafe extern "C" fn $name(
            fd: c_int,
            spans: *const iovec,
            count: c_int,
            position: off_t,
            flags: c_int,
        ) -> ssize_t {
            // On 64-bit machines the first word holds all of the position.
            const HIGH: c_int = 0;
            // SAFETY: the caller's own arguments.
            let outcome = unsafe { call!(libc::$number, fd, spans, count, position, HIGH, flags) };
            ssize_t::try_from(result(outcome)).unwrap_or(ssize_t::MAX)
        }
    )+};
}

at_positions! {
    preadv2 = SYS_preadv2;
    pwritev2 = SYS_pwritev2;
}
