//! What the server calls in place of the C library's functions.
//!
//! Each is total: it never panics, sets `errno` as the call it stands for does,
//! and leaves it alone on success. A file descriptor that was never moved costs a
//! table look-up of one or two loads; then the C library is called as before. No
//! hook calls the module API.
//!
//! The server's signal handlers call them too: they open, write and close the log, in the
//! middle of anything that the interrupted thread does in this module. So for a file
//! descriptor that has not moved no hook waits for a lock or allocates.
#![allow(unsafe_code)]

use super::got::Hook;
use libc::{c_int, epoll_event, iovec, size_t, ssize_t};
use shm_fifo::vfd::{self, Errno};
use std::ffi::c_void;
use std::io::IoSlice;
use std::slice;

/// All hooks. `writev` is missing in Redis 6.2.
pub(super) static HOOKS: [Hook; 6] = [
    Hook { name: c"read", replacement: read as *const c_void, optional: false },
    Hook { name: c"write", replacement: write as *const c_void, optional: false },
    Hook { name: c"writev", replacement: writev as *const c_void, optional: true },
    Hook { name: c"close", replacement: close as *const c_void, optional: false },
    Hook { name: c"epoll_ctl", replacement: epoll_ctl as *const c_void, optional: false },
    Hook { name: c"epoll_wait", replacement: epoll_wait as *const c_void, optional: false },
];

unsafe extern "C" fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t {
    if vfd::is_virtual(fd) {
        // SAFETY: read(2)'s contract: `length` writable bytes. They may be
        // uninitialised, but are only written; a Rust slice of them never leaves here.
        let target = unsafe { slice_from_raw_mut(buffer.cast(), length) };
        if let Some(result) = vfd::read(fd, target) {
            return count_or_minus_one(result);
        }
    }
    // SAFETY: the caller's own arguments.
    unsafe { libc::read(fd, buffer, length) }
}

pub(super) unsafe extern "C" fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    if vfd::is_virtual(fd) {
        // SAFETY: write(2)'s contract: `length` readable bytes.
        let source = unsafe { slice_from_raw(buffer.cast(), length) };
        if let Some(result) = vfd::write(fd, &[IoSlice::new(source)]) {
            return count_or_minus_one(result);
        }
    }
    // SAFETY: the caller's own arguments.
    unsafe { libc::write(fd, buffer, length) }
}

unsafe extern "C" fn writev(fd: c_int, spans: *const iovec, count: c_int) -> ssize_t {
    if vfd::is_virtual(fd) {
        let length = usize::try_from(count).unwrap_or(0);
        // SAFETY: writev(2)'s contract: `count` spans of readable bytes. `IoSlice` has
        // the layout of `iovec` (its documentation says so).
        let sources = unsafe { slice_from_raw(spans.cast::<IoSlice<'_>>(), length) };
        if let Some(result) = vfd::write(fd, sources) {
            return count_or_minus_one(result);
        }
    }
    // SAFETY: the caller's own arguments.
    unsafe { libc::writev(fd, spans, count) }
}

pub(super) unsafe extern "C" fn close(fd: c_int) -> c_int {
    vfd::before_close(fd);
    // SAFETY: the caller's own argument.
    unsafe { libc::close(fd) }
}

pub(super) unsafe extern "C" fn epoll_ctl(
    epfd: c_int,
    operation: c_int,
    fd: c_int,
    event: *mut epoll_event,
) -> c_int {
    // SAFETY: null, or an event to read, by epoll_ctl(2)'s contract.
    let event = unsafe { event.as_ref() }.copied();
    match vfd::epoll_ctl(epfd, operation, fd, event) {
        Ok(()) => 0,
        Err(Errno(_)) => -1,
    }
}

unsafe extern "C" fn epoll_wait(
    epfd: c_int,
    events: *mut epoll_event,
    capacity: c_int,
    timeout_ms: c_int,
) -> c_int {
    let length = usize::try_from(capacity).unwrap_or(0);
    // SAFETY: epoll_wait(2)'s contract: room for `capacity` events, only written.
    let target = unsafe { slice_from_raw_mut(events, length) };
    if let Some(result) = vfd::epoll_wait(epfd, target, timeout_ms) {
        return result.map_or(-1, |count| c_int::try_from(count).unwrap_or(c_int::MAX));
    }
    // SAFETY: the caller's own arguments.
    let count = unsafe { libc::epoll_wait(epfd, events, capacity, timeout_ms) };
    match usize::try_from(count) {
        Ok(found @ 1..) => {
            let kept = vfd::filter_events(epfd, target, found);
            c_int::try_from(kept).unwrap_or(c_int::MAX)
        }
        _ => count,
    }
}

/// A C function's result; `errno` is set already. (Where there is none the connection went
/// back to its socket, or was closed by another thread, since it was looked up.)
fn count_or_minus_one(result: Result<usize, Errno>) -> ssize_t {
    match result {
        Ok(count) => ssize_t::try_from(count).unwrap_or(ssize_t::MAX),
        Err(Errno(_)) => -1,
    }
}

/// # Safety
/// As for [`slice::from_raw_parts`], but that `length` may be 0 with any pointer.
unsafe fn slice_from_raw<'a, T>(first: *const T, length: usize) -> &'a [T] {
    if length == 0 || first.is_null() {
        return &[];
    }
    // SAFETY: the caller's contract.
    unsafe { slice::from_raw_parts(first, length) }
}

/// # Safety
/// As for [`slice::from_raw_parts_mut`], but that `length` may be 0 with any pointer.
unsafe fn slice_from_raw_mut<'a, T>(first: *mut T, length: usize) -> &'a mut [T] {
    if length == 0 || first.is_null() {
        return &mut [];
    }
    // SAFETY: the caller's contract.
    unsafe { slice::from_raw_parts_mut(first, length) }
}
