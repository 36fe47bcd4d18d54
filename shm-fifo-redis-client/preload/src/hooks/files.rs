//! File descriptors: how they come, multiply and go.
#![allow(unsafe_code)]

use crate::connection::Connection;
use crate::errno::{self, untouched};
use crate::settings::{Endpoint, Settings};
use crate::table::{self, Entry};
use crate::{real, settings, signals, sys};
use libc::{c_int, c_uint, c_ulong, c_void, sockaddr, socklen_t};
use std::os::fd::RawFd;
use std::sync::Arc;

/// # Safety
/// As `connect(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the caller's own arguments.
    let result = unsafe { real::connect(fd, address, length) };
    let Some(settings) = settings::get() else { return result };
    let begun = result == 0 || errno::get() == libc::EINPROGRESS;
    untouched(|| {
        // SAFETY: the caller's own address.
        if begun && let Some(endpoint) = unsafe { settings.endpoint(address, length) } {
            track(fd, endpoint, settings);
        }
    });
    result
}

/// Follows the connection behind `fd` from now on.
fn track(fd: RawFd, endpoint: Endpoint, settings: &Settings) {
    if !table::is_own_process() {
        return;
    }
    match table::entry(fd) {
        // Asked a second time whether it is connected.
        Some(Entry::Connection(known)) if known.is_open_file(sys::identity(fd)) => return,
        // Closed behind our back.
        Some(_) => drop(table::clear(fd)),
        None => {}
    }
    if table::was_watched(fd) || !sys::is_stream_socket(fd) {
        return;
    }
    let connection = Connection::new(fd, endpoint, settings);
    table::fill(fd, Entry::Connection(Arc::new(connection)));
}

/// `fd` is about to be closed.
fn release(fd: RawFd) {
    untouched(|| {
        // A child by vfork closes its own file descriptors, in our memory.
        if !table::is_own_process() {
            return;
        }
        match table::clear(fd) {
            Some(Entry::Connection(connection)) => connection.lose_fd(fd),
            Some(Entry::Epoll(epoll)) => epoll.lose_fd(fd),
            Some(Entry::Inherited) | None => {}
        }
    });
}

/// `copy` is a new name of what is behind `original`.
fn duplicated(original: RawFd, copy: RawFd) {
    if copy < 0 || original == copy {
        return;
    }
    untouched(|| {
        let Some(entry) = table::entry(original) else { return };
        if !table::is_own_process() {
            return;
        }
        match &entry {
            Entry::Connection(connection) => connection.add_fd(copy),
            Entry::Epoll(epoll) => epoll.add_fd(copy),
            Entry::Inherited => sys::close_on_exec(copy),
        }
        table::fill(copy, entry);
    });
}

/// # Safety
/// As `close(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn close(fd: c_int) -> c_int {
    if table::is_known(fd) {
        if signals::is_put_off(fd) {
            return 0;
        }
        release(fd);
    }
    // SAFETY: the caller's own argument.
    unsafe { real::close(fd) }
}

/// # Safety
/// As `close_range(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if flags & !CLOSE_RANGE_UNSHARE == 0 {
        let first = RawFd::try_from(first).unwrap_or(RawFd::MAX);
        let last = RawFd::try_from(last).unwrap_or(RawFd::MAX);
        table::known_between(first, last).into_iter().for_each(release);
    }
    // SAFETY: the caller's own arguments.
    unsafe { real::close_range(first, last, flags) }
}

/// With any other flag it closes nothing.
const CLOSE_RANGE_UNSHARE: c_int = 1 << 1;

/// # Safety
/// As `closefrom(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn closefrom(first: c_int) {
    let first = first.max(0);
    table::known_between(first, RawFd::MAX).into_iter().for_each(release);
    // SAFETY: takes no pointer; older kernels do not have it.
    if unsafe { real::close_range(first.cast_unsigned(), c_uint::MAX, 0) } == 0 {
        return;
    }
    // SAFETY: takes no pointer.
    let limit = unsafe { libc::getdtablesize() };
    for fd in first..limit {
        // SAFETY: the caller wants it closed.
        unsafe { real::close(fd) };
    }
}

/// # Safety
/// As `shutdown(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn shutdown(fd: c_int, how: c_int) -> c_int {
    let to_kernel = match table::entry(fd) {
        Some(Entry::Connection(connection)) => untouched(|| connection.shut_down(how)),
        // The socket is the parent's.
        Some(Entry::Inherited) => false,
        Some(Entry::Epoll(_)) | None => true,
    };
    if !to_kernel {
        return 0;
    }
    // SAFETY: the caller's own arguments.
    unsafe { real::shutdown(fd, how) }
}

/// # Safety
/// As `dup(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: the caller's own argument.
    let copy = unsafe { real::dup(fd) };
    duplicated(fd, copy);
    copy
}

/// # Safety
/// As `dup2(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn dup2(old: c_int, new: c_int) -> c_int {
    if old != new && table::is_known(new) && sys::is_open(old) {
        release(new);
    }
    // SAFETY: the caller's own arguments.
    let copy = unsafe { real::dup2(old, new) };
    duplicated(old, copy);
    copy
}

/// # Safety
/// As `dup3(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    let allowed = flags & !libc::O_CLOEXEC == 0;
    if allowed && old != new && table::is_known(new) && sys::is_open(old) {
        release(new);
    }
    // SAFETY: the caller's own arguments.
    let copy = unsafe { real::dup3(old, new, flags) };
    duplicated(old, copy);
    copy
}

/// Its third argument is variable; on every architecture of Linux it comes where a
/// fixed one would.
///
/// # Safety
/// As `fcntl(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
    // SAFETY: the caller's own arguments.
    let result = unsafe { real::fcntl(fd, command, argument) };
    after_fcntl(fd, command, result);
    result
}

/// # Safety
/// As `fcntl(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
    // SAFETY: the caller's own arguments.
    let result = unsafe { real::fcntl64(fd, command, argument) };
    after_fcntl(fd, command, result);
    result
}

fn after_fcntl(fd: c_int, command: c_int, result: c_int) {
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => duplicated(fd, result),
        libc::F_SETFL => forget_mode(fd),
        _ => {}
    }
}

fn forget_mode(fd: c_int) {
    if let Some(connection) = table::connection(fd) {
        connection.forget_mode();
    }
}

/// # Safety
/// As `ioctl(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    if request == libc::FIONREAD {
        let available =
            table::connection(fd).and_then(|connection| untouched(|| connection.available_bytes()));
        if let Some(bytes) = available {
            // SAFETY: by ioctl_tty(2) an int to write.
            unsafe { argument.cast::<c_int>().write(c_int::try_from(bytes).unwrap_or(c_int::MAX)) };
            return 0;
        }
    }
    // SAFETY: the caller's own arguments.
    let result = unsafe { real::ioctl(fd, request, argument) };
    if request == libc::FIONBIO {
        forget_mode(fd);
    }
    result
}
