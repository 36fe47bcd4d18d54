//! Writing, in all its forms.
#![allow(unsafe_code)]

use super::{cancel, control, length, number};
use crate::c_library::length_in_message;
use crate::connection::Served;
use crate::errno::{Errno, untouched};
use crate::report::Reason;
use crate::spans::{MAX_SPANS, Spans, span};
use crate::table::{self, Entry};
use crate::{habits, real, sys};
use libc::{c_int, c_uint, c_void, iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t};

/// Serves a write to the connection behind `entry`; `real` is the call itself, for
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
    if spans.has_null() {
        return length(Err(Errno(libc::EFAULT)));
    }
    let dont_wait = flags & libc::MSG_DONTWAIT != 0;
    loop {
        match untouched(|| connection.write(spans, dont_wait)) {
            Served::Done(result) => {
                if result == Err(Errno::PIPE) && flags & libc::MSG_NOSIGNAL == 0 {
                    sys::raise_sigpipe();
                }
                return length(result);
            }
            Served::ByKernel if connection.enter_to_send() => {
                if connection.is_being_asked() {
                    untouched(|| connection.wait_until_asked());
                }
                let count = real();
                untouched(|| {
                    connection.note_sent(spans, usize::try_from(count).unwrap_or(0));
                    connection.leave();
                });
                return count;
            }
            // It has begun to move at this moment.
            Served::ByKernel => {}
        }
    }
}

/// # Safety
/// As `write(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn write(fd: c_int, buffer: *const c_void, size: size_t) -> ssize_t {
    // SAFETY: the caller's own arguments.
    let real = || unsafe { real::write(fd, buffer, size) };
    let Some(entry) = table::entry(fd) else { return real() };
    let span = span(buffer, size);
    // SAFETY: the caller's buffer.
    serve(&entry, unsafe { Spans::new(&raw const span, 1) }, 0, real)
}

/// # Safety
/// As `writev(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn writev(fd: c_int, spans: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's own arguments.
    unsafe { write_spans(fd, spans, count, 0) }
}

/// # Safety
/// As `writev(2)`.
pub(super) unsafe fn write_spans(
    fd: c_int,
    spans: *const iovec,
    count: c_int,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's own arguments.
    let real = || unsafe { real::writev(fd, spans, count) };
    // Too many spans, or too few, are the kernel's to refuse.
    let allowed = usize::try_from(count).ok().filter(|&count| count <= MAX_SPANS);
    let (Some(entry), Some(count)) = (table::entry(fd), allowed) else { return real() };
    // SAFETY: the caller's buffers.
    let spans = unsafe { Spans::new(spans, count) };
    serve(&entry, spans, flags, real)
}

/// # Safety
/// As `send(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn send(
    fd: c_int,
    buffer: *const c_void,
    size: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's own arguments.
    let real = || unsafe { real::send(fd, buffer, size, flags) };
    let Some(entry) = table::entry(fd) else { return real() };
    let span = span(buffer, size);
    // SAFETY: the caller's buffer.
    serve(&entry, unsafe { Spans::new(&raw const span, 1) }, flags, real)
}

/// # Safety
/// As `sendto(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sendto(
    fd: c_int,
    buffer: *const c_void,
    size: size_t,
    flags: c_int,
    address: *const sockaddr,
    address_length: socklen_t,
) -> ssize_t {
    // SAFETY: the caller's own arguments.
    let real = || unsafe { real::sendto(fd, buffer, size, flags, address, address_length) };
    let Some(entry) = table::entry(fd) else { return real() };
    let span = span(buffer, size);
    // SAFETY: the caller's buffer.
    serve(&entry, unsafe { Spans::new(&raw const span, 1) }, flags, real)
}

/// Whether the message passes a connection on to another process that cannot be brought back
/// to its socket: nobody but this process can use it. Others stay there, shared from now on;
/// and so do all that may be passed on later.
///
/// # Safety
/// Null, or a message to send.
unsafe fn passes_moved(message: *const msghdr) -> bool {
    // SAFETY: the caller's contract.
    let Some(known) = (unsafe { message.as_ref() }) else { return false };
    if known.msg_control.is_null() || length_in_message(known.msg_controllen) == 0 {
        return false;
    }
    let stays = |fd| {
        let connection = table::connection(fd);
        connection.is_none_or(|known| {
            untouched(|| {
                habits::note(Reason::SharedWithChild);
                // Of one that has ended the end is all that another process can have, once
                // what came before that was read here.
                known.come_back(Reason::SharedWithChild)
                    || known.has_ended() && known.available_bytes() == Some(0)
            })
        })
    };
    // SAFETY: the caller's contract.
    let passed = unsafe { control::descriptors(message) };
    passed.filter(|&fd| !stays(fd)).count() > 0
}

/// # Safety
/// As `sendmsg(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sendmsg(
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's message.
    if unsafe { passes_moved(message) } {
        return length(Err(Errno(libc::EINVAL)));
    }
    // SAFETY: the caller's own arguments.
    let real = || unsafe { real::sendmsg(fd, message, flags) };
    let Some(entry) = table::entry(fd) else { return real() };
    // SAFETY: the caller's message.
    serve(&entry, unsafe { Spans::of_message(message) }, flags, real)
}

/// # Safety
/// As `sendmmsg(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sendmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> c_int {
    if messages.is_null() {
        // SAFETY: the caller's own arguments.
        return unsafe { real::sendmmsg(fd, messages, count, flags) };
    }
    for index in 0..count {
        // SAFETY: one of the caller's messages.
        if unsafe { passes_moved(&raw const (*messages.add(index as usize)).msg_hdr) } {
            return number(Err(Errno(libc::EINVAL)));
        }
    }
    if table::entry(fd).is_none() {
        // SAFETY: the caller's own arguments.
        return unsafe { real::sendmmsg(fd, messages, count, flags) };
    }
    for index in 0..count {
        // SAFETY: one of the caller's messages.
        let message = unsafe { &mut *messages.add(index as usize) };
        // SAFETY: the caller's message.
        let sent = unsafe { sendmsg(fd, &raw const message.msg_hdr, flags) };
        let Ok(length) = c_uint::try_from(sent) else {
            return if index == 0 { -1 } else { whole_number(index) };
        };
        message.msg_len = length;
        // SAFETY: the caller's message.
        let all_bytes = unsafe { Spans::of_message(&raw const message.msg_hdr) }.total_bytes();
        // Its rest comes before what is in the next one.
        if (length as usize) < all_bytes {
            return whole_number(index + 1);
        }
    }
    whole_number(count)
}

fn whole_number(count: c_uint) -> c_int {
    c_int::try_from(count).unwrap_or(c_int::MAX)
}
