//! stdio: its streams read, write and close by the C library's own system calls, which are
//! not to be replaced.
#![allow(unsafe_code)]

use super::files::{self, release, returned};
use super::{read, write};
use crate::connection::lock;
use crate::errno::{self, untouched};
use crate::real::{self, CookieFunctions};
use crate::report::Reason;
use crate::table;
use libc::{FILE, c_char, c_int, c_void, off64_t, size_t, ssize_t};
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI32, AtomicUsize};

/// Of a moved connection a stream is made whose functions are ours. One on its socket stays
/// there: what is read and written by a stream is not seen.
///
/// # Safety
/// As `fdopen(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
    let is_moved = table::connection(fd)
        .is_some_and(|connection| !untouched(|| connection.give_up(Reason::NotUnderstood)));
    if !is_moved {
        // SAFETY: the caller's own arguments.
        return unsafe { real::fdopen(fd, mode) };
    }
    let cell = untouched(|| Box::into_raw(Box::new(AtomicI32::new(fd))));
    // SAFETY: the caller's mode; the functions below know the cookie.
    let stream = unsafe { real::fopencookie(cell.cast(), mode, FUNCTIONS) };
    untouched(|| match stream.is_null() {
        // SAFETY: made above, and nobody else has it.
        true => drop(unsafe { Box::from_raw(cell) }),
        false => {
            lock(&STREAMS).push(Stream { file: stream.addr(), cell: cell.addr() });
            STREAM_COUNT.fetch_add(1, Relaxed);
        }
    });
    stream
}

/// A stream whose functions are ours, and the place of its descriptor.
struct Stream {
    file: usize,
    cell: usize,
}

static STREAMS: Mutex<Vec<Stream>> = Mutex::new(Vec::new());
/// How many those are: where there are none, nobody takes the lock. A forked child could wait for
/// it for ever, if another thread of its parent had it.
static STREAM_COUNT: AtomicUsize = AtomicUsize::new(0);

/// The place of the descriptor of a stream whose functions are ours.
fn cell_of(stream: *mut FILE) -> Option<&'static AtomicI32> {
    // ORDERING, Relaxed: who has a stream was given it by who counted it.
    if STREAM_COUNT.load(Relaxed) == 0 {
        return None;
    }
    untouched(|| {
        let streams = lock(&STREAMS);
        let known = streams.iter().find(|known| known.file == stream.addr())?;
        let cell = std::ptr::with_exposed_provenance::<AtomicI32>(known.cell);
        // SAFETY: it is there until the stream, which the caller has, is closed.
        unsafe { cell.as_ref() }
    })
}

const FUNCTIONS: CookieFunctions = CookieFunctions {
    read: Some(read_cookie),
    write: Some(write_cookie),
    seek: Some(seek_cookie),
    close: Some(close_cookie),
};

fn fd_of(cookie: *mut c_void) -> c_int {
    // SAFETY: the place that `fdopen` made.
    unsafe { &*cookie.cast::<AtomicI32>() }.load(Relaxed)
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

/// A connection has no positions; the file that `freopen` put in its place has.
unsafe extern "C" fn seek_cookie(
    cookie: *mut c_void,
    offset: *mut off64_t,
    whence: c_int,
) -> c_int {
    // SAFETY: stdio's own offset.
    match unsafe { libc::lseek64(fd_of(cookie), *offset, whence) } {
        ..0 => -1,
        place => {
            // SAFETY: as above.
            unsafe { *offset = place };
            0
        }
    }
}

unsafe extern "C" fn close_cookie(cookie: *mut c_void) -> c_int {
    let fd = fd_of(cookie);
    untouched(|| {
        lock(&STREAMS).retain(|known| known.cell != cookie.addr());
        STREAM_COUNT.fetch_sub(1, Relaxed);
        // SAFETY: `fdopen` made it, and the stream is being closed.
        drop(unsafe { Box::from_raw(cookie.cast::<AtomicI32>()) });
    });
    // SAFETY: takes no pointer.
    unsafe { files::close(fd) }
}

macro_rules! numbers {
    ($($name:ident)+) => {$(
        /// # Safety
        /// As `fileno(3)`.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(stream: *mut FILE) -> c_int {
            match cell_of(stream) {
                Some(cell) => cell.load(Relaxed),
                // SAFETY: the caller's own argument.
                None => unsafe { real::$name(stream) },
            }
        }
    )+};
}

numbers! { fileno fileno_unlocked }

/// # Safety
/// A live stream, or null.
unsafe fn release_stream(stream: *mut FILE) {
    if stream.is_null() {
        return;
    }
    // SAFETY: the caller's contract.
    let fd = unsafe { real::fileno(stream) };
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
        errno::untouched_by(|| release_stream(stream));
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
            if let Some(cell) = cell_of(stream) {
                // SAFETY: the caller's own arguments.
                return unsafe { reopen(cell, path, mode, stream) };
            }
            // SAFETY: the caller's own arguments.
            unsafe {
                errno::untouched_by(|| release_stream(stream));
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

/// The stream goes on, with its functions, on a file in place of the connection.
///
/// # Safety
/// As `freopen(3)`.
unsafe fn reopen(
    cell: &AtomicI32,
    path: *const c_char,
    mode: *const c_char,
    stream: *mut FILE,
) -> *mut FILE {
    // SAFETY: the caller's own arguments.
    unsafe {
        libc::fflush(stream);
        let opened = if path.is_null() { std::ptr::null_mut() } else { real::fopen(path, mode) };
        files::close(cell.load(Relaxed));
        if opened.is_null() {
            cell.store(-1, Relaxed);
            return std::ptr::null_mut();
        }
        cell.store(files::dup(real::fileno(opened)), Relaxed);
        real::fclose(opened);
        libc::clearerr(stream);
    }
    stream
}
