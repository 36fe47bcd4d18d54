//! Reading, in all its forms.
#![allow(unsafe_code)]

use super::files::returned;
use super::{cancel, control, length};
use crate::connection::{Connection, Manner, Served};
use crate::errno::{self, Errno, untouched};
use crate::real;
use crate::report::Reason;
use crate::spans::{MAX_SPANS, Spans, span};
use crate::table::{self, Entry};
use libc::{
    c_int, c_uint, c_void, iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, timespec,
};
use std::sync::Arc;

/// Serves a read from the connection behind `entry`; `real` is the call itself, for
/// as long as the kernel has the bytes.
fn serve(
    entry: &Entry,
    spans: Spans<'_>,
    flags: c_int,
    mut real: impl FnMut() -> ssize_t,
) -> ssize_t {
    let connection = match entry {
        Entry::Connection(connection) => connection,
        Entry::Inherited => return length(Err(Errno::PIPE)),
        Entry::Epoll(_) => return real(),
    };
    if connection.is_virtual() {
        cancel::may_end_here();
    }
    let manner = manner_of(flags);
    if connection.is_tcp() {
        if flags & libc::MSG_ERRQUEUE != 0 {
            return real();
        }
        if flags & libc::MSG_TRUNC != 0 {
            return discard(connection, spans.total_bytes(), manner, real);
        }
    }
    // None of the stream's bytes.
    if flags & libc::MSG_OOB != 0 {
        return real();
    }
    if spans.has_null() {
        return length(Err(Errno(libc::EFAULT)));
    }
    loop {
        match untouched(|| connection.read(spans, manner)) {
            Served::Done(result) => return length(result),
            Served::ByKernel if connection.enter() => {
                let count = real();
                if count < 0 && errno::get() == libc::EAGAIN {
                    connection.forget_waiting();
                }
                untouched(|| note(connection, spans, manner, count));
                return count;
            }
            // It has begun to move at this moment.
            Served::ByKernel => {}
        }
    }
}

/// The kernel read so many bytes; it may be time to move.
fn note(connection: &Arc<Connection>, spans: Spans<'_>, manner: Manner, count: ssize_t) {
    let count = usize::try_from(count).unwrap_or(0).min(spans.total_bytes());
    if count > 0 && !manner.peek {
        connection.note_received(spans, count);
    }
    connection.leave();
    if count > 0 {
        if connection.may_wait(manner) {
            connection.note_blocking_read();
        }
        connection.proceed();
    }
}

/// With `MSG_TRUNC` TCP throws bytes away: they are not seen by anybody.
fn discard(
    connection: &Arc<Connection>,
    wanted: usize,
    manner: Manner,
    mut real: impl FnMut() -> ssize_t,
) -> ssize_t {
    const MAX_BYTES: usize = 64 * 1024;
    if untouched(|| connection.give_up(Reason::NotUnderstood)) {
        return real();
    }
    let mut bytes = untouched(|| vec![0_u8; wanted.min(MAX_BYTES)]);
    let span = span(bytes.as_mut_ptr().cast(), bytes.len());
    // SAFETY: the buffer made above.
    let spans = unsafe { Spans::new(&raw const span, 1) };
    match untouched(|| connection.read(spans, manner)) {
        Served::Done(result) => length(result),
        // Back on its socket.
        Served::ByKernel => real(),
    }
}

fn manner_of(flags: c_int) -> Manner {
    Manner {
        peek: flags & libc::MSG_PEEK != 0,
        dont_wait: flags & libc::MSG_DONTWAIT != 0,
        wait_all: flags & libc::MSG_WAITALL != 0,
    }
}

/// # Safety
/// As `read(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn read(fd: c_int, buffer: *mut c_void, size: size_t) -> ssize_t {
    // SAFETY: the caller's own arguments.
    let real = || unsafe { real::read(fd, buffer, size) };
    let Some(entry) = table::entry(fd) else { return real() };
    let span = span(buffer, size);
    // SAFETY: the caller's buffer.
    serve(&entry, unsafe { Spans::new(&raw const span, 1) }, 0, real)
}

/// # Safety
/// As `read(2)`; `room` is the size of the buffer.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __read_chk(
    fd: c_int,
    buffer: *mut c_void,
    size: size_t,
    room: size_t,
) -> ssize_t {
    // SAFETY: the caller's own arguments.
    let real = || unsafe { real::__read_chk(fd, buffer, size, room) };
    // A buffer that is too small is the C library's to report.
    let Some(entry) = table::entry(fd).filter(|_| size <= room) else { return real() };
    let span = span(buffer, size);
    // SAFETY: the caller's buffer.
    serve(&entry, unsafe { Spans::new(&raw const span, 1) }, 0, real)
}

/// # Safety
/// As `readv(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn readv(fd: c_int, spans: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's own arguments.
    unsafe { read_spans(fd, spans, count, 0) }
}

/// # Safety
/// As `readv(2)`.
pub(super) unsafe fn read_spans(
    fd: c_int,
    spans: *const iovec,
    count: c_int,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's own arguments.
    let real = || unsafe { real::readv(fd, spans, count) };
    // Too many spans, or too few, are the kernel's to refuse.
    let allowed = usize::try_from(count).ok().filter(|&count| count <= MAX_SPANS);
    let (Some(entry), Some(count)) = (table::entry(fd), allowed) else { return real() };
    // SAFETY: the caller's buffers.
    let spans = unsafe { Spans::new(spans, count) };
    serve(&entry, spans, flags, real)
}

/// # Safety
/// As `recv(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn recv(
    fd: c_int,
    buffer: *mut c_void,
    size: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's own arguments.
    let real = || unsafe { real::recv(fd, buffer, size, flags) };
    let Some(entry) = table::entry(fd) else { return real() };
    let span = span(buffer, size);
    // SAFETY: the caller's buffer.
    serve(&entry, unsafe { Spans::new(&raw const span, 1) }, flags, real)
}

/// # Safety
/// As `recv(2)`; `room` is the size of the buffer.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __recv_chk(
    fd: c_int,
    buffer: *mut c_void,
    size: size_t,
    room: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's own arguments.
    let real = || unsafe { real::__recv_chk(fd, buffer, size, room, flags) };
    let Some(entry) = table::entry(fd).filter(|_| size <= room) else { return real() };
    let span = span(buffer, size);
    // SAFETY: the caller's buffer.
    serve(&entry, unsafe { Spans::new(&raw const span, 1) }, flags, real)
}

/// # Safety
/// As `recvfrom(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    size: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_length: *mut socklen_t,
) -> ssize_t {
    // SAFETY: the caller's own arguments.
    let real = || unsafe { real::recvfrom(fd, buffer, size, flags, address, address_length) };
    let Some(entry) = table::entry(fd) else { return real() };
    let span = span(buffer, size);
    // SAFETY: the caller's buffer.
    let spans = unsafe { Spans::new(&raw const span, 1) };
    // SAFETY: null, or the caller's own.
    unsafe { without_address(&entry, address_length, || serve(&entry, spans, flags, real)) }
}

/// # Safety
/// As `recvfrom(2)`; `room` is the size of the buffer.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __recvfrom_chk(
    fd: c_int,
    buffer: *mut c_void,
    size: size_t,
    room: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_length: *mut socklen_t,
) -> ssize_t {
    if size > room {
        // SAFETY: the caller's own arguments.
        return unsafe {
            real::__recvfrom_chk(fd, buffer, size, room, flags, address, address_length)
        };
    }
    // SAFETY: the caller's own arguments.
    unsafe { recvfrom(fd, buffer, size, flags, address, address_length) }
}

/// A connected stream tells no sender's address: its length is 0.
///
/// # Safety
/// `address_length` is null or can be written.
unsafe fn without_address(
    entry: &Entry,
    address_length: *mut socklen_t,
    read: impl FnOnce() -> ssize_t,
) -> ssize_t {
    let moved = matches!(entry, Entry::Connection(connection) if connection.is_virtual());
    let count = read();
    // SAFETY: the caller's contract.
    if let Some(length) = unsafe { address_length.as_mut() }.filter(|_| moved && count >= 0) {
        *length = 0;
    }
    count
}

/// # Safety
/// As `recvmsg(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    let real = || {
        // SAFETY: the caller's own arguments.
        let count = unsafe { real::recvmsg(fd, message, flags) };
        if count >= 0 {
            // SAFETY: the caller's message, which the kernel has filled in.
            unsafe { passed(message) };
        }
        count
    };
    let Some(entry) = table::entry(fd) else { return real() };
    // SAFETY: the caller's message.
    let spans = unsafe { Spans::of_message(message) };
    let moved = matches!(&entry, Entry::Connection(connection) if connection.is_virtual());
    let count = serve(&entry, spans, flags, real);
    // SAFETY: the caller's message.
    if let Some(message) = unsafe { message.as_mut() }.filter(|_| moved && count >= 0) {
        message.msg_namelen = 0;
        message.msg_controllen = 0;
        message.msg_flags = 0;
    }
    count
}

/// The descriptors that came with a message are new.
///
/// # Safety
/// A message that the kernel has filled in.
unsafe fn passed(message: *const msghdr) {
    // SAFETY: the caller's contract.
    unsafe { control::descriptors(message) }.for_each(returned);
}

/// One message at a time is what a stream has.
///
/// # Safety
/// As `recvmmsg(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn recvmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    if table::entry(fd).is_none() || count == 0 || messages.is_null() {
        // SAFETY: the caller's own arguments.
        let received = unsafe { real::recvmmsg(fd, messages, count, flags, timeout) };
        for index in 0..usize::try_from(received).unwrap_or(0) {
            // SAFETY: one of the caller's messages, which the kernel has filled in.
            unsafe { passed(&raw mut (*messages.add(index)).msg_hdr) };
        }
        return received;
    }
    // SAFETY: the first of the caller's messages.
    let first = unsafe { &mut *messages };
    // SAFETY: the caller's message.
    let received = unsafe { recvmsg(fd, &raw mut first.msg_hdr, flags) };
    match c_uint::try_from(received) {
        Ok(length) => {
            first.msg_len = length;
            1
        }
        Err(_) => -1,
    }
}
