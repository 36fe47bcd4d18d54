//! Functions that glibc has not always had, and that are nothing but a system call.
#![allow(unsafe_code)]

use crate::errno::{self, Errno};
use crate::sys::call;
use libc::{c_char, c_int, c_long, c_uint, pid_t, stat, statx};

fn plain(result: Result<c_long, Errno>) -> c_int {
    match result {
        Ok(value) => c_int::try_from(value).unwrap_or(c_int::MAX),
        Err(Errno(code)) => {
            errno::set(code);
            -1
        }
    }
}

/// # Safety
/// As `stat(2)`.
pub(super) unsafe extern "C" fn stat_of_path(path: *const c_char, status: *mut stat) -> c_int {
    // SAFETY: the caller's own arguments; on 64-bit machines the struct is the kernel's.
    plain(unsafe { call!(libc::SYS_newfstatat, libc::AT_FDCWD, path, status, 0) })
}

/// # Safety
/// As `fstat(2)`.
pub(super) unsafe extern "C" fn stat_of_fd(fd: c_int, status: *mut stat) -> c_int {
    // SAFETY: as above.
    plain(unsafe { call!(libc::SYS_fstat, fd, status) })
}

/// # Safety
/// As `statx(2)`.
pub(super) unsafe extern "C" fn extended_stat(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    status: *mut statx,
) -> c_int {
    let mask = c_long::from(mask);
    // SAFETY: the caller's own arguments.
    plain(unsafe { call!(libc::SYS_statx, directory, path, flags, mask, status) })
}

/// As `gettid(2)`.
pub(super) extern "C" fn thread_id() -> pid_t {
    // SAFETY: takes no pointer.
    plain(unsafe { call!(libc::SYS_gettid) })
}
