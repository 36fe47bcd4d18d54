//! Moving a connected socket to shared memory, and the bytes on it:
//! `include/shm_fifo_redis.h` is made of this file.
//!
//! Invariants: a pointer to a [`shm_fifo_redis`] is NULL or comes from
//! [`shm_fifo_redis_move`], is used by one thread at a time, and by nobody after
//! [`shm_fifo_redis_free`].
#![allow(unsafe_code)]

use crate::text;
use libc::{c_char, c_int, c_void, ssize_t};
use rustix::net::{AddressFamily, sockopt::socket_domain};
use shm_fifo_redis_client::{
    Attempt, Interest, MoveError, Refusal, SpinPolicy, Stream, WaitMode, move_to_shared_memory,
};
use std::io;
use std::net::TcpStream;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Room enough for any reason, its final zero included.
pub const SHM_FIFO_REDIS_REASON_BYTES: usize = 512;
/// For timeouts: as long as it takes.
pub const SHM_FIFO_REDIS_FOREVER: i64 = -1;
/// For timeouts: not at all.
pub const SHM_FIFO_REDIS_NOW: i64 = 0;
/// Interest in something to read.
pub const SHM_FIFO_REDIS_READABLE: c_int = 1;
/// Interest in space to write.
pub const SHM_FIFO_REDIS_WRITABLE: c_int = 2;

/// A connection in shared memory. To be used by one thread at a time. NULL is none: to
/// read from it or write to it is `-EINVAL`, and nothing else happens.
#[derive(Debug)]
pub struct shm_fifo_redis {
    pub(crate) stream: Stream,
}

impl shm_fifo_redis {
    pub(crate) fn read(&mut self, target: &mut [u8], timeout_us: i64) -> io::Result<usize> {
        match timeout_us {
            SHM_FIFO_REDIS_NOW => self.stream.try_read(target),
            _ => self.stream.read_until(target, deadline(timeout_us)),
        }
    }

    pub(crate) fn write(&mut self, source: &[u8], timeout_us: i64) -> io::Result<usize> {
        match timeout_us {
            SHM_FIFO_REDIS_NOW => self.stream.try_write(source),
            _ => self.stream.write_until(source, deadline(timeout_us)),
        }
    }

    pub(crate) fn listen(&mut self) {
        self.stream.unpark(Interest::BOTH);
        while self.stream.listen() {}
    }

    pub(crate) fn park(&mut self, interest: Interest) -> bool {
        self.stream.park(interest)
    }
}

/// How an attempt to move a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum shm_fifo_redis_outcome {
    /// It is in shared memory.
    SHM_FIFO_REDIS_MOVED = 0,
    /// It stays on its socket, which works as before; the reason says why.
    SHM_FIFO_REDIS_STAYED = 1,
    /// It was lost; the reason says how. The socket is to be closed.
    SHM_FIFO_REDIS_LOST = 2,
}
use shm_fifo_redis_outcome::{SHM_FIFO_REDIS_LOST, SHM_FIFO_REDIS_MOVED, SHM_FIFO_REDIS_STAYED};

/// How a connection waits for replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum shm_fifo_redis_wait_mode {
    /// Spins while that pays, then sleeps: the default.
    SHM_FIFO_REDIS_ADAPTIVE = 0,
    /// Always sleeps.
    SHM_FIFO_REDIS_PARK = 1,
    /// Always spins first.
    SHM_FIFO_REDIS_SPIN = 2,
}

/// Takes bytes that arrived while the connection moved and belong to its reader.
pub type shm_fifo_redis_keep =
    Option<unsafe extern "C" fn(context: *mut c_void, bytes: *const c_char, count: usize)>;

/// Asks the server behind `socket` to go on with this connection in shared memory.
///
/// The socket is a connected unix or TCP socket, authenticated where that is
/// needed, with no reply outstanding. It stays the caller's: it is to be closed by
/// the caller, after `shm_fifo_redis_free`, and must not be read, written or closed
/// before. Waits at most `timeout_us` microseconds.
///
/// `keep`, which may be NULL, is called with bytes that came meanwhile and belong to
/// the reader (RESP3 pushes), whatever the outcome, before this function returns.
/// `reason`, which may be NULL, has room for `reason_bytes` bytes and gets a text
/// that ends with a zero, empty if the connection moved.
///
/// `*connection` is set only if it moved; then it must be freed.
///
/// # Safety
/// `socket` is open; `connection` can be written; `reason` has that much room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_move(
    socket: c_int,
    timeout_us: i64,
    keep: shm_fifo_redis_keep,
    keep_context: *mut c_void,
    connection: *mut *mut shm_fifo_redis,
    reason: *mut c_char,
    reason_bytes: usize,
) -> shm_fifo_redis_outcome {
    let keep = |bytes: &[u8]| {
        if let Some(keep) = keep {
            // SAFETY: the caller's own function, with the context it is meant for
            // and the bytes of a live slice.
            unsafe { keep(keep_context, bytes.as_ptr().cast(), bytes.len()) };
        }
    };
    // Before the server is asked: what has moved cannot go back.
    let moved = match connection.is_null() {
        true => Err(Failure::NoSocket(io::Error::from_raw_os_error(libc::EFAULT))),
        // SAFETY: the caller says that the socket is open.
        false => unsafe { move_socket(socket, deadline(timeout_us), keep) },
    };
    // SAFETY: the caller says how much room there is.
    unsafe { text::write_reason(moved.as_ref().err(), reason, reason_bytes) };
    match moved {
        Ok(stream) => {
            let moved = Box::new(shm_fifo_redis { stream });
            // SAFETY: the caller says that it can be written.
            unsafe { connection.write(Box::into_raw(moved)) };
            SHM_FIFO_REDIS_MOVED
        }
        Err(Failure::Lost(_)) => SHM_FIFO_REDIS_LOST,
        Err(_) => SHM_FIFO_REDIS_STAYED,
    }
}

/// Reads at most `room` bytes, waiting for the first at most `timeout_us`
/// microseconds (`SHM_FIFO_REDIS_FOREVER`, `SHM_FIFO_REDIS_NOW`).
///
/// Returns how many; 0 at the end of the connection; `-EAGAIN` if nothing came in
/// time; another `-errno` if the connection failed.
///
/// # Safety
/// `connection` is a live one; `target` has that much room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_read(
    connection: *mut shm_fifo_redis,
    target: *mut c_char,
    room: usize,
    timeout_us: i64,
) -> ssize_t {
    // SAFETY: the caller's contract.
    let Some(connection) = (unsafe { connection.as_mut() }) else { return -EINVAL };
    if target.is_null() || room == 0 {
        return -EINVAL;
    }
    // SAFETY: the caller says that there is room. Nothing reads what is in it.
    let target = unsafe { std::slice::from_raw_parts_mut(target.cast::<u8>(), room) };
    count_or_errno(connection.read(target, timeout_us))
}

/// Writes at most `count` bytes, waiting for space at most `timeout_us`
/// microseconds.
///
/// Returns how many; `-EAGAIN` if there was no space in time; another `-errno` if
/// the connection has ended or failed.
///
/// # Safety
/// `connection` is a live one; `source` has that many bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_write(
    connection: *mut shm_fifo_redis,
    source: *const c_char,
    count: usize,
    timeout_us: i64,
) -> ssize_t {
    // SAFETY: the caller's contract.
    let Some(connection) = (unsafe { connection.as_mut() }) else { return -EINVAL };
    if source.is_null() || count == 0 {
        return -EINVAL;
    }
    // SAFETY: the caller says that the bytes are there.
    let source = unsafe { std::slice::from_raw_parts(source.cast::<u8>(), count) };
    count_or_errno(connection.write(source, timeout_us))
}

/// For event loops that watch the socket for reading: takes pending doorbells off
/// it, and announces to the server that nobody sleeps. To be called first when the
/// socket is readable; then read or write until `-EAGAIN`, then
/// `shm_fifo_redis_park`.
///
/// # Safety
/// `connection` is a live one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_listen(connection: *mut shm_fifo_redis) {
    // SAFETY: the caller's contract.
    if let Some(connection) = unsafe { connection.as_mut() } {
        connection.listen();
    }
}

/// For event loops: announces to the server that this side sleeps until what
/// `interest` names (`SHM_FIFO_REDIS_READABLE`, `SHM_FIFO_REDIS_WRITABLE`, or both)
/// is there; then the socket becomes readable.
///
/// Returns 1 if it may sleep, 0 if it is there already and nothing was announced.
///
/// # Safety
/// `connection` is a live one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_park(
    connection: *mut shm_fifo_redis,
    interest: c_int,
) -> c_int {
    // SAFETY: the caller's contract.
    let Some(connection) = (unsafe { connection.as_mut() }) else { return 1 };
    let interest = Interest {
        readable: interest & SHM_FIFO_REDIS_READABLE != 0,
        writable: interest & SHM_FIFO_REDIS_WRITABLE != 0,
    };
    c_int::from(connection.park(interest))
}

/// Chooses how blocking calls wait: `mode`, a `shm_fifo_redis_wait_mode`, and for how
/// many microseconds one wait spins at most.
///
/// Returns 0, or `-EINVAL` if there is no such mode and nothing has changed.
///
/// # Safety
/// `connection` is a live one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_set_wait(
    connection: *mut shm_fifo_redis,
    mode: c_int,
    spin_us: u32,
) -> c_int {
    // A number: in C an enum may have any value, in Rust that is undefined.
    let known = [
        (shm_fifo_redis_wait_mode::SHM_FIFO_REDIS_ADAPTIVE, WaitMode::Adaptive),
        (shm_fifo_redis_wait_mode::SHM_FIFO_REDIS_PARK, WaitMode::Park),
        (shm_fifo_redis_wait_mode::SHM_FIFO_REDIS_SPIN, WaitMode::Spin),
    ];
    let mode = known.into_iter().find(|&(named, _)| named as c_int == mode);
    // SAFETY: the caller's contract.
    let (Some((_, mode)), Some(connection)) = (mode, unsafe { connection.as_mut() }) else {
        return -libc::EINVAL;
    };
    connection.stream.set_policy(SpinPolicy::new(mode, u64::from(spin_us) * 1000));
    0
}

/// Ends a connection and frees it. NULL is none. The socket is not closed, but of
/// no use any more.
///
/// # Safety
/// `connection` is NULL or a live one, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_free(connection: *mut shm_fifo_redis) {
    if !connection.is_null() {
        // SAFETY: made by `Box::into_raw`, and freed once as the caller says.
        drop(unsafe { Box::from_raw(connection) });
    }
}

const EINVAL: ssize_t = libc::EINVAL as ssize_t;

/// A count as C gets it, or the negative `errno` that means the same.
fn count_or_errno(result: io::Result<usize>) -> ssize_t {
    match result {
        Ok(count) => ssize_t::try_from(count).unwrap_or(ssize_t::MAX),
        Err(error) => -ssize_t::try_from(errno_of(&error)).unwrap_or(EINVAL),
    }
}

pub(crate) fn errno_of(error: &io::Error) -> c_int {
    match (error.kind(), error.raw_os_error()) {
        // A socket says one, a deadline the other.
        (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, _) => libc::EAGAIN,
        (_, Some(errno)) => errno,
        (io::ErrorKind::BrokenPipe, _) => libc::EPIPE,
        (io::ErrorKind::InvalidData, _) => libc::EPROTO,
        _ => libc::EIO,
    }
}

/// `None` is never.
pub(crate) fn deadline(timeout_us: i64) -> Option<Instant> {
    let timeout = Duration::from_micros(u64::try_from(timeout_us).ok()?);
    Instant::now().checked_add(timeout)
}

/// Why a connection did not move.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It is certain without asking.
    #[error("{0}")]
    Obstacle(&'static str),
    #[error(transparent)]
    NoSocket(#[from] io::Error),
    #[error(transparent)]
    Stayed(#[from] Refusal),
    #[error(transparent)]
    Lost(#[from] MoveError),
}

/// # Safety
/// `socket` is open.
pub(crate) unsafe fn move_socket(
    socket: c_int,
    deadline: Option<Instant>,
    keep: impl FnOnce(&[u8]),
) -> Result<Stream, Failure> {
    // SAFETY: the caller says that it is open.
    let stream = stream_over(unsafe { borrowed(socket) }?)?;
    let mut attempt = move_to_shared_memory(stream, deadline)?;
    let (Attempt::Moved(stream) | Attempt::Stayed(stream, _)) = &mut attempt;
    keep(&stream.take_kept());
    match attempt {
        Attempt::Moved(stream) => Ok(stream),
        Attempt::Stayed(_, refusal) => Err(refusal.into()),
    }
}

/// # Safety
/// `socket` is open, if it is a descriptor at all, and stays so.
pub(crate) unsafe fn borrowed<'s>(socket: c_int) -> io::Result<BorrowedFd<'s>> {
    if socket < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the caller says that it is open.
    Ok(unsafe { BorrowedFd::borrow_raw(socket) })
}

/// A stream over a copy of the socket's descriptor.
pub(crate) fn stream_over(socket: BorrowedFd<'_>) -> io::Result<Stream> {
    let copy: OwnedFd = socket.try_clone_to_owned()?;
    match socket_domain(&copy)? {
        AddressFamily::UNIX => Ok(UnixStream::from(copy).into()),
        AddressFamily::INET | AddressFamily::INET6 => Ok(TcpStream::from(copy).into()),
        _ => Err(io::Error::other("the connection is neither a unix nor a TCP socket")),
    }
}
