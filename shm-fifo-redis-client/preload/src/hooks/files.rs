//! File descriptors: how they come, multiply and go.
#![allow(unsafe_code)]

use crate::connection::Connection;
use crate::epoll::Epoll;
use crate::errno::{self, untouched};
use crate::report::Reason;
use crate::settings::{Server, Settings};
use crate::table::{self, Entry, Watch};
use crate::{habits, real, report, settings, sys, thread, trial};
use libc::{c_int, c_uint, c_ulong, c_void, sockaddr, socklen_t};
use std::os::fd::RawFd;
use std::sync::Arc;

/// # Safety
/// As `connect(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn connect(
    fd: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> c_int {
    // SAFETY: the caller's own arguments.
    let result = unsafe { real::connect(fd, address, length) };
    let Some(settings) = settings::get() else { return result };
    let begun = result == 0 || errno::get() == libc::EINPROGRESS;
    untouched(|| {
        // SAFETY: the caller's own address.
        if begun && let Some(server) = unsafe { settings.server(address, length) } {
            track(fd, server, settings);
        }
    });
    result
}

/// Follows the connection behind `fd` from now on.
fn track(fd: RawFd, server: Server, settings: &Settings) {
    if trial::has_filter() || !table::is_own_process() {
        return;
    }
    if let Some(Entry::Connection(known)) = table::entry(fd) {
        // Asked a second time whether it is connected.
        if known.is_open_file(sys::identity(fd)) && !known.is_virtual() {
            return;
        }
        // Closed behind our back, or connected anew.
        replaced(fd);
    }
    // stdio reads and writes those by itself; children inherit them.
    if fd <= libc::STDERR_FILENO || !sys::is_stream_socket(fd) {
        return;
    }
    if let Some(reason) = habits::known() {
        return report::stayed(reason);
    }
    if !trial::is_passed() {
        return report::stayed(Reason::NotAttached);
    }
    let watch = table::watch(fd);
    let connection = Arc::new(Connection::new(fd, server, settings));
    let is_served = match watch {
        Watch::Nobody => true,
        Watch::Unclear => false,
        // Told of it before it was connected.
        Watch::Once(epoll, event) => {
            epoll.upgrade().is_none_or(|epoll| epoll.enlist_late(fd, event, &connection))
        }
    };
    if is_served {
        table::change_watch(fd, |watch| *watch = Watch::Nobody);
        table::fill(fd, Entry::Connection(connection));
    }
}

/// `fd` is about to be closed.
pub(super) fn release(fd: RawFd) {
    forget(fd, true);
}

/// `fd` is new: whatever was behind it has been closed, by whomever.
#[inline]
pub(super) fn returned(fd: RawFd) {
    if fd >= 0 && table::is_known(fd) {
        replaced(fd);
    }
}

#[cold]
fn replaced(fd: RawFd) {
    forget(fd, false);
}

fn forget(fd: RawFd, is_open: bool) {
    untouched(|| {
        // A child by vfork closes its own file descriptors, in our memory.
        if !table::is_own_process() {
            return;
        }
        match table::clear(fd) {
            Some(Entry::Connection(connection)) => connection.lose_fd(fd, is_open),
            Some(Entry::Epoll(epoll)) => epoll.lose_fd(fd),
            Some(Entry::Inherited) | None => {}
        }
    });
}

/// `copy` is a new name of what is behind `original`.
pub(super) fn duplicated(original: RawFd, copy: RawFd) {
    if copy < 0 || original == copy {
        return;
    }
    returned(copy);
    if !table::is_known(original) {
        return;
    }
    untouched(|| {
        if !table::is_own_process() {
            return;
        }
        // What was registered by the one stays registered when that is closed.
        if !matches!(table::watch(original), Watch::Nobody) {
            table::change_watch(original, |watch| *watch = Watch::Unclear);
            table::change_watch(copy, |watch| *watch = Watch::Unclear);
        }
        let Some(entry) = table::entry(original) else { return };
        match &entry {
            Entry::Connection(connection)
                if copy <= libc::STDERR_FILENO && connection.come_back(Reason::SharedWithChild) =>
            {
                return;
            }
            Entry::Connection(connection) => connection.add_fd(copy),
            Entry::Epoll(epoll) => epoll.add_fd(copy),
            Entry::Inherited => {
                sys::close_on_exec(copy);
            }
        }
        table::fill(copy, entry);
    });
}

/// An epoll instance is told of something.
pub(super) fn watches_something() {
    thread::own().made_epoll.set(false);
}

/// Whether this is libuv, about to make the io_uring by which it changes the epoll instance
/// that it has just made: out of our sight, so that nothing of it could move. It does
/// without, where there is none. Every other io_uring is let be.
pub(super) fn is_ring_of_event_loop(entries: c_uint) -> bool {
    const LIBUV_ENTRIES: c_uint = 256;
    entries == LIBUV_ENTRIES && thread::own().made_epoll.get() && settings::get().is_some()
}

/// An epoll instance was made: what it watches, and who waits in it, is known from now on.
fn created(epfd: RawFd) -> c_int {
    returned(epfd);
    thread::own().made_epoll.set(epfd >= 0);
    if epfd >= 0 && settings::get().is_some() {
        untouched(|| {
            if table::is_own_process() {
                table::fill(epfd, Entry::Epoll(Arc::new(Epoll::new(epfd))));
            }
        });
    }
    epfd
}

/// # Safety
/// As `epoll_create(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn epoll_create(size: c_int) -> c_int {
    // SAFETY: the caller's own argument.
    created(unsafe { real::epoll_create(size) })
}

/// # Safety
/// As `epoll_create1(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn epoll_create1(flags: c_int) -> c_int {
    // SAFETY: the caller's own argument.
    created(unsafe { real::epoll_create1(flags) })
}

/// The program cannot mean this number, which is one of ours.
fn refuse_private() -> c_int {
    errno::set(libc::EBADF);
    -1
}

/// # Safety
/// As `close(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn close(fd: c_int) -> c_int {
    if table::is_known(fd) {
        if table::is_private(fd) {
            return refuse_private();
        }
        release(fd);
    }
    // SAFETY: the caller's own argument.
    unsafe { real::close(fd) }
}

/// # Safety
/// As `close_range(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if flags & !CLOSE_RANGE_UNSHARE != 0 || first > last {
        // SAFETY: the caller's own arguments.
        return unsafe { real::close_range(first, last, flags) };
    }
    let number = |fd: c_uint| RawFd::try_from(fd).unwrap_or(RawFd::MAX);
    let known = untouched(|| table::known_between(number(first), number(last)));
    let mut from = first;
    for &fd in &known {
        if !table::is_private(fd) {
            release(fd);
            continue;
        }
        let ours = fd.cast_unsigned();
        // SAFETY: a part of the caller's own range.
        if from < ours && unsafe { real::close_range(from, ours - 1, flags) } != 0 {
            return -1;
        }
        from = ours + 1;
    }
    untouched(|| drop(known));
    if from > last {
        return 0;
    }
    // SAFETY: the rest of the caller's own range.
    unsafe { real::close_range(from, last, flags) }
}

/// With any other flag it closes nothing.
const CLOSE_RANGE_UNSHARE: c_int = 1 << 1;

/// # Safety
/// As `closefrom(3)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn closefrom(first: c_int) {
    let first = first.max(0);
    // SAFETY: takes no pointer; older kernels do not have it.
    if unsafe { close_range(first.cast_unsigned(), c_uint::MAX, 0) } == 0 {
        return;
    }
    // SAFETY: takes no pointer.
    let limit = unsafe { libc::getdtablesize() };
    for fd in first..limit {
        // SAFETY: the caller wants it closed.
        unsafe { close(fd) };
    }
}

/// # Safety
/// As `shutdown(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn shutdown(fd: c_int, how: c_int) -> c_int {
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
pub(super) unsafe extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: the caller's own argument.
    let copy = unsafe { real::dup(fd) };
    duplicated(fd, copy);
    copy
}

/// # Safety
/// As `dup2(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn dup2(old: c_int, new: c_int) -> c_int {
    if table::is_private(new) {
        return refuse_private();
    }
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
pub(super) unsafe extern "C" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    if table::is_private(new) {
        return refuse_private();
    }
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
pub(super) unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
    // SAFETY: the caller's own arguments.
    let result = unsafe { real::fcntl(fd, command, argument) };
    after_fcntl(fd, command, argument, result);
    result
}

/// # Safety
/// As `fcntl(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
    // SAFETY: the caller's own arguments.
    let result = unsafe { real::fcntl64(fd, command, argument) };
    after_fcntl(fd, command, argument, result);
    result
}

fn after_fcntl(fd: c_int, command: c_int, argument: c_ulong, result: c_int) {
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => duplicated(fd, result),
        libc::F_SETFL => changed_mode(fd, argument),
        _ => {}
    }
}

fn changed_mode(fd: c_int, flags: c_ulong) {
    if let Some(connection) = table::connection(fd) {
        connection.forget_mode();
        let is_async = flags & c_ulong::from(libc::O_ASYNC.cast_unsigned()) != 0;
        untouched(|| connection.set_async(is_async));
    }
}

/// # Safety
/// As `ioctl(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
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
    if let (libc::FIONBIO, Some(connection)) = (request, table::connection(fd)) {
        connection.forget_mode();
    }
    if let (libc::FIOASYNC, Some(connection)) = (request, table::connection(fd)) {
        // SAFETY: by ioctl_tty(2) an int to read, which the kernel has read.
        let is_async = result == 0 && unsafe { argument.cast::<c_int>().read() } != 0;
        untouched(|| connection.set_async(is_async));
    }
    result
}
