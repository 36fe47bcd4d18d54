//! Where a context of hiredis or libvalkey has what is needed of it here.
//!
//! The layouts differ from version to version. The headers for the two libraries, which
//! the program's own compiler reads, say where in a context everything is.
//!
//! Invariant: the pointers are those of a live context, for as long as it has our
//! functions; they are used within its own calls only, and so by one thread at a time.
#![allow(unsafe_code)]

use crate::connection::SHM_FIFO_REDIS_FOREVER;
use crate::text;
use libc::{c_char, c_int, c_void, timeval};
use rustix::net::sockopt::{Timeout, socket_timeout};
use shm_fifo_redis_client::MoveError;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Where a context of hiredis or libvalkey has what the library needs of it. For
/// `shm_fifo_hiredis.h` and `shm_fifo_libvalkey.h`, which fill it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct shm_fifo_redis_parts {
    /// Its `funcs`.
    pub funcs: *mut *const c_void,
    /// Its `privctx`.
    pub privctx: *mut *mut c_void,
    /// Its `fd`.
    pub fd: *const c_int,
    /// Its `err`.
    pub err: *mut c_int,
    /// Its `errstr`.
    pub errstr: *mut c_char,
    /// How long that is.
    pub errstr_bytes: usize,
    /// Its `obuf`.
    pub obuf: *const *mut c_char,
    /// Its `command_timeout`.
    pub command_timeout: *const *mut timeval,
    /// Its `reader`.
    pub reader: *mut c_void,
    /// `redisReaderFeed`.
    pub reader_feed: Option<unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> c_int>,
    /// `REDIS_ERR_IO`.
    pub err_io: c_int,
    /// `REDIS_ERR_EOF`.
    pub err_eof: c_int,
    /// Whether `redisSetTimeout` tells the socket only, as in hiredis 1.0.
    pub timeout_is_on_socket: c_int,
    /// Whether its calls wait.
    pub is_blocking: c_int,
    /// Whether its functions are ours.
    pub is_ours: c_int,
    /// Whether its functions are those that a new context has.
    pub is_usual: c_int,
    /// Whether replies or messages are to come, or are here and not taken.
    pub is_busy: c_int,
}

/// The same of an asynchronous context.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct shm_fifo_redis_events {
    /// Its own `async_read`.
    pub async_read: Option<unsafe extern "C" fn(*mut c_void)>,
    /// `redisBufferWrite`.
    pub buffer_write: Option<unsafe extern "C" fn(*mut c_void, *mut c_int) -> c_int>,
    /// Its `ev.data`.
    pub data: *const *mut c_void,
    /// Its `ev.addWrite`.
    pub add_write: *const Option<unsafe extern "C" fn(*mut c_void)>,
    /// Its `ev.delWrite`.
    pub del_write: *const Option<unsafe extern "C" fn(*mut c_void)>,
}

impl shm_fifo_redis_parts {
    pub(super) fn funcs(&self) -> *const c_void {
        // SAFETY: the module's invariant.
        unsafe { *self.funcs }
    }

    pub(super) fn fd(&self) -> c_int {
        // SAFETY: the module's invariant.
        unsafe { *self.fd }
    }

    /// Whether something else, TLS, carries the connection.
    pub(super) fn is_carried(&self) -> bool {
        // SAFETY: the module's invariant.
        unsafe { !(*self.privctx).is_null() }
    }

    /// Gives the context these functions, and what they work on.
    pub(super) fn install(&self, funcs: *const c_void, privctx: *mut c_void) {
        // SAFETY: the module's invariant.
        unsafe {
            *self.funcs = funcs;
            *self.privctx = privctx;
        }
    }

    pub(super) fn fail(&self, error: c_int, text: &str) {
        // SAFETY: the module's invariant.
        unsafe {
            *self.err = error;
            text::write(text, self.errstr, self.errstr_bytes);
        }
    }

    /// Fails because the connection was lost while it moved.
    pub(super) fn fail_to_move(&self, error: &MoveError) {
        let is_end = matches!(error, MoveError::Ended);
        self.fail(if is_end { self.err_eof } else { self.err_io }, &error.to_string());
    }

    /// Fails with the words that the library has for a socket's error.
    pub(super) fn fail_by(&self, errno: c_int) {
        // SAFETY: the module's invariant; it ends what it writes with a zero.
        unsafe {
            *self.err = self.err_io;
            libc::strerror_r(errno, self.errstr, self.errstr_bytes);
        }
    }

    /// Gives the context's reader bytes that were read in its place.
    pub(super) fn feed(&self, bytes: &[u8]) {
        let Some(feed) = self.reader_feed.filter(|_| !bytes.is_empty()) else { return };
        // SAFETY: the context's own reader, and a live slice.
        if unsafe { feed(self.reader, bytes.as_ptr().cast(), bytes.len()) } != 0 {
            self.fail(self.err_io, "the reader of the context takes no more bytes");
        }
    }

    /// The commands that wait to be written.
    pub(super) fn output(&self) -> &[u8] {
        // SAFETY: the module's invariant; an sds string is as long as it says.
        unsafe {
            let obuf = *self.obuf;
            std::slice::from_raw_parts(obuf.cast::<u8>(), sds_length(obuf))
        }
    }

    /// How long a blocking call may wait, in microseconds, as the context says.
    pub(super) fn timeout_us(&self) -> i64 {
        let timeout = match self.timeout_is_on_socket {
            0 => self.command_timeout(),
            _ => self.socket_timeout(),
        };
        let known = timeout.filter(|timeout| !timeout.is_zero());
        known.map_or(SHM_FIFO_REDIS_FOREVER, |timeout| {
            i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX)
        })
    }

    fn command_timeout(&self) -> Option<Duration> {
        // SAFETY: the module's invariant.
        let timeout = unsafe { (*self.command_timeout).as_ref() }?;
        let seconds = Duration::from_secs(u64::try_from(timeout.tv_sec).ok()?);
        Some(seconds + Duration::from_micros(u64::try_from(timeout.tv_usec).ok()?))
    }

    /// That for sending: the one for receiving is changed by a channel that sleeps.
    fn socket_timeout(&self) -> Option<Duration> {
        // SAFETY: the context's own socket, which is open until the context is freed.
        let socket = unsafe { BorrowedFd::borrow_raw(self.fd()) };
        socket_timeout(socket, Timeout::Send).ok()?
    }
}

impl shm_fifo_redis_events {
    /// Wants the event loop to come back at once: a socket can always be written.
    pub(super) fn come_back(&self, wanted: bool) {
        let hook = if wanted { self.add_write } else { self.del_write };
        // SAFETY: the module's invariant; the hook is the event loop's, for this context.
        unsafe {
            if let Some(hook) = *hook {
                hook(*self.data);
            }
        }
    }
}

/// The length of an sds string, which it has in front of it. The libraries do not install
/// their own header for that.
///
/// # Safety
/// `string` is one.
unsafe fn sds_length(string: *const c_char) -> usize {
    let string = string.cast::<u8>();
    // SAFETY: what kind it is lies in front of the text, and its length before that.
    unsafe {
        let flags = *string.sub(1);
        match flags & 7 {
            0 => usize::from(flags >> 3),
            1 => usize::from(*string.sub(3)),
            2 => usize::from(string.sub(5).cast::<u16>().read_unaligned()),
            3 => string.sub(9).cast::<u32>().read_unaligned() as usize,
            _ => usize::try_from(string.sub(17).cast::<u64>().read_unaligned()).unwrap_or(0),
        }
    }
}
