//! The functions that ours stand before: the next ones in the order of libraries,
//! which are the C library's unless something else is preloaded too.
#![allow(unsafe_code)]

use crate::errno;
use libc::{
    c_int, c_uint, c_ulong, c_void, epoll_event, fd_set, iovec, mmsghdr, msghdr, nfds_t, off_t,
    pollfd, sigset_t, size_t, sockaddr, socklen_t, ssize_t, timespec, timeval,
};
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};

macro_rules! next_functions {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)+) => {$(
        /// # Safety
        /// As the C library's function of this name.
        #[inline]
        pub(crate) unsafe fn $name($($argument: $type),*) -> $result {
            static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
            const NAME: &CStr = match CStr::from_bytes_with_nul(
                concat!(stringify!($name), "\0").as_bytes()
            ) {
                Ok(name) => name,
                Err(_) => panic!("a name has no zero byte"),
            };
            let next = resolved(&NEXT, NAME);
            if next.is_null() {
                // Older C libraries do not have all of them.
                errno::set(libc::ENOSYS);
                return -1;
            }
            type Next = unsafe extern "C" fn($($type),*) -> $result;
            // SAFETY: the C library's function of this name has this type.
            let next: Next = unsafe { std::mem::transmute(next) };
            // SAFETY: the caller's own arguments.
            unsafe { next($($argument),*) }
        }
    )+};
}

next_functions! {
    fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int;
    fn shutdown(fd: c_int, how: c_int) -> c_int;
    fn dup(fd: c_int) -> c_int;
    fn dup2(old: c_int, new: c_int) -> c_int;
    fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int;
    fn fcntl64(fd: c_int, command: c_int, argument: c_ulong) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int;
    fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t;
    fn __read_chk(fd: c_int, buffer: *mut c_void, length: size_t, room: size_t) -> ssize_t;
    fn readv(fd: c_int, spans: *const iovec, count: c_int) -> ssize_t;
    fn recv(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t;
    fn __recv_chk(fd: c_int, buffer: *mut c_void, length: size_t, room: size_t, flags: c_int) -> ssize_t;
    fn recvfrom(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int, address: *mut sockaddr, address_length: *mut socklen_t) -> ssize_t;
    fn __recvfrom_chk(fd: c_int, buffer: *mut c_void, length: size_t, room: size_t, flags: c_int, address: *mut sockaddr, address_length: *mut socklen_t) -> ssize_t;
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t;
    fn recvmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec) -> c_int;
    fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t;
    fn writev(fd: c_int, spans: *const iovec, count: c_int) -> ssize_t;
    fn send(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int) -> ssize_t;
    fn sendto(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int, address: *const sockaddr, address_length: socklen_t) -> ssize_t;
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t;
    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int;
    fn sendfile(target: c_int, source: c_int, offset: *mut off_t, count: size_t) -> ssize_t;
    fn sendfile64(target: c_int, source: c_int, offset: *mut off_t, count: size_t) -> ssize_t;
    fn splice(source: c_int, source_offset: *mut off_t, target: c_int, target_offset: *mut off_t, length: size_t, flags: c_uint) -> ssize_t;
    fn poll(entries: *mut pollfd, count: nfds_t, timeout_ms: c_int) -> c_int;
    fn __poll_chk(entries: *mut pollfd, count: nfds_t, timeout_ms: c_int, room: size_t) -> c_int;
    fn ppoll(entries: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int;
    fn __ppoll_chk(entries: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t, room: size_t) -> c_int;
    fn select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int;
    fn pselect(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *const timespec, mask: *const sigset_t) -> c_int;
    fn epoll_ctl(epfd: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int;
    fn epoll_wait(epfd: c_int, events: *mut epoll_event, capacity: c_int, timeout_ms: c_int) -> c_int;
    fn epoll_pwait(epfd: c_int, events: *mut epoll_event, capacity: c_int, timeout_ms: c_int, mask: *const sigset_t) -> c_int;
    fn epoll_pwait2(epfd: c_int, events: *mut epoll_event, capacity: c_int, timeout: *const timespec, mask: *const sigset_t) -> c_int;
}

#[inline]
fn resolved(cell: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    // ORDERING, Acquire: pairs with the Release below; it is code that is reached.
    let next = cell.load(Acquire);
    if next.is_null() { resolve(cell, name) } else { next }
}

#[cold]
fn resolve(cell: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    // SAFETY: a C string.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    // ORDERING, Release: pairs with the Acquire above.
    cell.store(next, Release);
    next
}
