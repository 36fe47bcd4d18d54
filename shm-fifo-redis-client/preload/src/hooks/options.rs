//! Options of sockets that would keep doorbells from waking.
#![allow(unsafe_code)]

use crate::connection::Connection;
use crate::errno::untouched;
use crate::{real, table};
use libc::{c_int, c_void, socklen_t};
use std::sync::Arc;

/// The connection, if this is the option `SO_RCVLOWAT` of one.
fn with_least_bytes(fd: c_int, level: c_int, name: c_int) -> Option<Arc<Connection>> {
    let is_it = level == libc::SOL_SOCKET && name == libc::SO_RCVLOWAT;
    if is_it { table::connection(fd) } else { None }
}

/// # Safety
/// As `setsockopt(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    let is_whole = length as usize >= size_of::<c_int>() && !value.is_null();
    if let Some(connection) = with_least_bytes(fd, level, name).filter(|_| is_whole) {
        // SAFETY: as many bytes as an int has, by the caller's length.
        let bytes = unsafe { value.cast::<c_int>().read_unaligned() };
        let bytes = if bytes < 0 { usize::MAX } else { bytes.unsigned_abs() as usize };
        if !untouched(|| connection.set_least_bytes(bytes)) {
            return 0;
        }
    }
    // SAFETY: the caller's own arguments.
    unsafe { real::setsockopt(fd, level, name, value, length) }
}

/// # Safety
/// As `getsockopt(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    // SAFETY: the caller's own arguments.
    let result = unsafe { real::getsockopt(fd, level, name, value, length) };
    let known = with_least_bytes(fd, level, name).and_then(|connection| connection.least_bytes());
    let Some(bytes) = known.filter(|_| result == 0) else { return result };
    // SAFETY: the caller's length, which the kernel has written.
    if unsafe { *length } as usize >= size_of::<c_int>() {
        let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
        // SAFETY: as many bytes as an int has, which the kernel has written.
        unsafe { value.cast::<c_int>().write_unaligned(bytes) };
    }
    result
}
