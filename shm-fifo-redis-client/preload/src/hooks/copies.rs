//! Copies that the kernel makes between descriptors: where one of them is a moved
//! connection, they are made here.
#![allow(unsafe_code)]

use super::{length, read, write};
use crate::errno::{self, Errno, untouched};
use crate::real;
use crate::report::Reason;
use crate::sys;
use crate::table::{self, Entry};
use libc::{c_int, c_short, c_uint, off_t, size_t, ssize_t};

/// As much as a pipe holds.
const AT_ONCE: usize = 64 * 1024;

/// Whether the kernel may read or write `fd` behind our back. A connection on its socket is
/// given up for that.
pub(super) fn kernel_may_copy(fd: c_int) -> bool {
    match table::entry(fd) {
        Some(Entry::Connection(connection)) => untouched(|| connection.give_up(Reason::Watched)),
        Some(Entry::Inherited) => false,
        Some(Entry::Epoll(_)) | None => true,
    }
}

macro_rules! sendfile {
    ($($name:ident)+) => {$(
        /// # Safety
        /// As `sendfile(2)`.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(
            target: c_int,
            source: c_int,
            offset: *mut off_t,
            count: size_t,
        ) -> ssize_t {
            // SAFETY: the caller's own arguments.
            unsafe {
                if kernel_may_copy(target) {
                    real::$name(target, source, offset, count)
                } else {
                    send_file(target, source, offset, count)
                }
            }
        }
    )+};
}

sendfile! { sendfile sendfile64 }

/// # Safety
/// As `sendfile(2)`.
unsafe fn send_file(target: c_int, source: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    let mut buffer = untouched(|| vec![0_u8; AT_ONCE.min(count)]);
    let mut sent: size_t = 0;
    while sent < count {
        let wanted = buffer.len().min(count - sent);
        // SAFETY: null, or the caller's own offset.
        let from = match unsafe { offset.as_ref() } {
            Some(&offset) => offset,
            // SAFETY: takes no pointer.
            None => unsafe { libc::lseek64(source, 0, libc::SEEK_CUR) },
        };
        // SAFETY: so many bytes of the buffer.
        let read = unsafe { libc::pread64(source, buffer.as_mut_ptr().cast(), wanted, from) };
        let Ok(read @ 1..) = size_t::try_from(read) else {
            return if sent > 0 { whole(sent) } else { read };
        };
        // SAFETY: so many bytes of the buffer.
        let written = unsafe { write::write(target, buffer.as_ptr().cast(), read) };
        let Ok(written) = size_t::try_from(written) else {
            return if sent > 0 { whole(sent) } else { written };
        };
        sent += written;
        let now = from + off_t::try_from(written).unwrap_or(0);
        // SAFETY: as above.
        match unsafe { offset.as_mut() } {
            Some(offset) => *offset = now,
            None => {
                // SAFETY: takes no pointer.
                unsafe { libc::lseek64(source, now, libc::SEEK_SET) };
            }
        }
        if written < read {
            break;
        }
    }
    untouched(|| drop(buffer));
    whole(sent)
}

fn whole(count: size_t) -> ssize_t {
    ssize_t::try_from(count).unwrap_or(ssize_t::MAX)
}

/// # Safety
/// As `splice(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn splice(
    source: c_int,
    source_offset: *mut off_t,
    target: c_int,
    target_offset: *mut off_t,
    size: size_t,
    flags: c_uint,
) -> ssize_t {
    let (from_kernel, to_kernel) = (kernel_may_copy(source), kernel_may_copy(target));
    if from_kernel && to_kernel {
        // SAFETY: the caller's own arguments.
        return unsafe { real::splice(source, source_offset, target, target_offset, size, flags) };
    }
    // A stream has no positions, and neither has a pipe, which the other one must be.
    if !source_offset.is_null() || !target_offset.is_null() {
        return length(Err(Errno(libc::ESPIPE)));
    }
    if !from_kernel && !to_kernel {
        return length(Err(Errno(libc::EINVAL)));
    }
    let dont_wait = flags & libc::SPLICE_F_NONBLOCK != 0;
    if to_kernel {
        // SAFETY: it reads and writes what it makes itself.
        unsafe { drain(source, target, size, dont_wait) }
    } else {
        // SAFETY: as above.
        unsafe { feed(source, target, size, dont_wait) }
    }
}

/// From a moved connection to a pipe.
unsafe fn drain(source: c_int, pipe: c_int, size: size_t, dont_wait: bool) -> ssize_t {
    let dont_wait = dont_wait || sys::is_nonblocking(pipe);
    // No more than goes into the pipe at once: what was read cannot be put back.
    let mut buffer = [0_u8; libc::PIPE_BUF];
    // A pipe that is writable has room for that much.
    if !waits_for(pipe, libc::POLLOUT, dont_wait) {
        return -1;
    }
    // TCP looks at the descriptor's own mode alone.
    let is_tcp = table::connection(source).is_some_and(|connection| connection.is_tcp());
    let flags = if dont_wait && !is_tcp { libc::MSG_DONTWAIT } else { 0 };
    let wanted = buffer.len().min(size);
    // SAFETY: so many bytes of the buffer.
    let count = unsafe { read::recv(source, buffer.as_mut_ptr().cast(), wanted, flags) };
    match size_t::try_from(count) {
        // SAFETY: so many bytes of the buffer.
        Ok(count @ 1..) => unsafe { real::write(pipe, buffer.as_ptr().cast(), count) },
        _ => count,
    }
}

/// From a pipe to a moved connection.
unsafe fn feed(pipe: c_int, target: c_int, size: size_t, dont_wait: bool) -> ssize_t {
    let mut available: c_int = 0;
    if !waits_for(pipe, libc::POLLIN, dont_wait) {
        return -1;
    }
    // SAFETY: a live int to write.
    unsafe { libc::ioctl(pipe, libc::FIONREAD, &raw mut available) };
    let mut buffer = [0_u8; libc::PIPE_BUF];
    let wanted = size.min(buffer.len()).min(usize::try_from(available).unwrap_or(0));
    // SAFETY: so many bytes of the buffer.
    let count = unsafe { real::read(pipe, buffer.as_mut_ptr().cast(), wanted) };
    let Ok(count @ 1..) = size_t::try_from(count) else { return count };
    let mut rest = &buffer[..count];
    while !rest.is_empty() {
        // SAFETY: a live slice. All of it, or it would be lost: also where a signal comes.
        let written = unsafe { write::write(target, rest.as_ptr().cast(), rest.len()) };
        match size_t::try_from(written) {
            Ok(written) => rest = &rest[written..],
            Err(_) if matches!(errno::get(), libc::EAGAIN | libc::EINTR) => {
                let mut entry = libc::pollfd { fd: target, events: libc::POLLOUT, revents: 0 };
                // SAFETY: one live entry.
                unsafe { super::poll::poll(&raw mut entry, 1, -1) };
            }
            Err(_) => return written,
        }
    }
    whole(count)
}

/// Waits for a pipe, or looks whether it is ready. Otherwise `errno` says why not.
fn waits_for(pipe: c_int, events: c_short, dont_wait: bool) -> bool {
    let mut entry = libc::pollfd { fd: pipe, events, revents: 0 };
    // SAFETY: one live entry.
    let ready = unsafe { real::poll(&raw mut entry, 1, if dont_wait { 0 } else { -1 }) };
    if ready == 0 {
        errno::set(libc::EAGAIN);
    }
    ready > 0
}
