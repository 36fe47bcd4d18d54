//! stdio: its streams read, write and close by the C library's own system calls, which are
//! not to be replaced.
#![allow(unsafe_code)]

use super::files::{self, release, returned};
use super::{read, write};
use crate::errno::untouched;
use crate::real::{self, CookieFunctions};
use crate::table;
use libc::{FILE, c_char, c_int, c_void, off64_t, size_t, ssize_t};

/// Of a moved connection a stream is made whose functions are ours. One on its socket stays
/// there: what is read and written by a stream is not seen.
///
/// # Safety
/// As `fdopen(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
    let is_moved =
        table::connection(fd).is_some_and(|connection| !untouched(|| connection.give_up()));
    // SAFETY: the caller's own arguments.
    unsafe {
        if is_moved {
            real::fopencookie(cookie_of(fd), mode, FUNCTIONS)
        } else {
            real::fdopen(fd, mode)
        }
    }
}

const FUNCTIONS: CookieFunctions = CookieFunctions {
    read: Some(read_cookie),
    write: Some(write_cookie),
    seek: Some(seek_cookie),
    close: Some(close_cookie),
};

fn cookie_of(fd: c_int) -> *mut c_void {
    std::ptr::without_provenance_mut(usize::try_from(fd).unwrap_or(usize::MAX))
}

fn fd_of(cookie: *mut c_void) -> c_int {
    c_int::try_from(cookie.addr()).unwrap_or(-1)
}

unsafe extern "C" fn read_cookie(
    cookie: *mut c_void,
    buffer: *mut c_char,
    size: size_t,
) -> ssize_t {
    // SAFETY: stdio's own buffer.
    unsafe { read::read(fd_of(cookie), buffer.cast(), size) }
}

unsafe extern "C" fn write_cookie(
    cookie: *mut c_void,
    buffer: *const c_char,
    size: size_t,
) -> ssize_t {
    // SAFETY: stdio's own buffer. It wants 0 for an error.
    unsafe { write::write(fd_of(cookie), buffer.cast(), size) }.max(0)
}

unsafe extern "C" fn seek_cookie(
    _cookie: *mut c_void,
    _offset: *mut off64_t,
    _whence: c_int,
) -> c_int {
    crate::errno::set(libc::ESPIPE);
    -1
}

unsafe extern "C" fn close_cookie(cookie: *mut c_void) -> c_int {
    // SAFETY: takes no pointer.
    unsafe { files::close(fd_of(cookie)) }
}

/// # Safety
/// A live stream, or null.
unsafe fn release_stream(stream: *mut FILE) {
    if stream.is_null() {
        return;
    }
    // SAFETY: the caller's contract.
    let fd = unsafe { libc::fileno(stream) };
    if table::is_known(fd) {
        // SAFETY: the caller's contract. What is buffered goes while the number is known.
        unsafe { libc::fflush(stream) };
        release(fd);
    }
}

/// # Safety
/// As `fclose(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn fclose(stream: *mut FILE) -> c_int {
    // SAFETY: the caller's own argument.
    unsafe {
        crate::errno::untouched_by(|| release_stream(stream));
        real::fclose(stream)
    }
}

macro_rules! reopening {
    ($($name:ident)+) => {$(
        /// # Safety
        /// As `freopen(3)`.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            path: *const c_char,
            mode: *const c_char,
            stream: *mut FILE,
        ) -> *mut FILE {
            // SAFETY: the caller's own arguments.
            unsafe {
                crate::errno::untouched_by(|| release_stream(stream));
                let opened = real::$name(path, mode, stream);
                if !opened.is_null() {
                    returned(libc::fileno(opened));
                }
                opened
            }
        }
    )+};
}

reopening! { freopen freopen64 }
