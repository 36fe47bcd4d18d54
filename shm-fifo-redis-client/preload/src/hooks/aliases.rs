//! Other names of functions that are served, and forms of them that come to the same.
#![allow(unsafe_code)]

use super::{aliases, creators, files, poll, read, write};
use crate::errno::{self, untouched};
use crate::report::Reason;
use crate::table::{self, Entry};
use crate::{habits, real};
use libc::{
    c_int, c_ulong, c_void, fd_set, iovec, mmsghdr, nfds_t, off_t, pollfd, size_t, sockaddr,
    socklen_t, ssize_t, timeval,
};

macro_rules! aliases {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty = $module:ident::$served:ident;)+) => {$(
        /// # Safety
        /// As the function that it is another name of.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            // SAFETY: the caller's own arguments.
            unsafe { $module::$served($($argument),*) }
        }
    )+};
}

aliases! {
    fn __read(fd: c_int, buffer: *mut c_void, size: size_t) -> ssize_t = read::read;
    fn __recv(fd: c_int, buffer: *mut c_void, size: size_t, flags: c_int) -> ssize_t = read::recv;
    fn __write(fd: c_int, buffer: *const c_void, size: size_t) -> ssize_t = write::write;
    fn __send(fd: c_int, buffer: *const c_void, size: size_t, flags: c_int) -> ssize_t = write::send;
    fn __sendmmsg(fd: c_int, messages: *mut mmsghdr, count: libc::c_uint, flags: c_int) -> c_int = write::sendmmsg;
    fn __close(fd: c_int) -> c_int = files::close;
    fn __connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int = files::connect;
    fn __dup2(old: c_int, new: c_int) -> c_int = files::dup2;
    fn __fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int = files::fcntl;
    fn __poll(entries: *mut pollfd, count: nfds_t, timeout_ms: c_int) -> c_int = poll::poll;
    fn __select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int = poll::select;
    fn __socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int = creators::socket;
    fn preadv64v2(fd: c_int, spans: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t = aliases::preadv2;
    fn pwritev64v2(fd: c_int, spans: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t = aliases::pwritev2;
}

/// A stream has no positions: the one that means "where it is" is the only one allowed.
fn is_stream(fd: c_int, offset: off_t) -> bool {
    const HERE: off_t = -1;
    offset == HERE && matches!(table::entry(fd), Some(Entry::Connection(_) | Entry::Inherited))
}

/// Flags that ask not to wait come to `MSG_DONTWAIT`; the others are about files.
fn message_flags(flags: c_int) -> c_int {
    if flags & libc::RWF_NOWAIT != 0 { libc::MSG_DONTWAIT } else { 0 }
}

/// # Safety
/// As `preadv2(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn preadv2(
    fd: c_int,
    spans: *const iovec,
    count: c_int,
    offset: off_t,
    flags: c_int,
) -> ssize_t {
    if !is_stream(fd, offset) {
        // SAFETY: the caller's own arguments.
        return unsafe { real::preadv2(fd, spans, count, offset, flags) };
    }
    // SAFETY: the caller's own arguments.
    unsafe { read::read_spans(fd, spans, count, message_flags(flags)) }
}

/// # Safety
/// As `pwritev2(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pwritev2(
    fd: c_int,
    spans: *const iovec,
    count: c_int,
    offset: off_t,
    flags: c_int,
) -> ssize_t {
    if !is_stream(fd, offset) {
        // SAFETY: the caller's own arguments.
        return unsafe { real::pwritev2(fd, spans, count, offset, flags) };
    }
    // SAFETY: the caller's own arguments.
    unsafe { write::write_spans(fd, spans, count, message_flags(flags)) }
}

/// The C library reads and writes for these by itself, in threads of its own: a connection
/// on its socket stays there, as all do from then on; a moved one comes back.
fn is_for_aio(fd: c_int) -> bool {
    match table::entry(fd) {
        Some(Entry::Connection(connection)) => untouched(|| {
            habits::note(Reason::Watched);
            connection.come_back(Reason::Watched)
        }),
        Some(Entry::Inherited) => false,
        Some(Entry::Epoll(_)) | None => true,
    }
}

macro_rules! asynchronous {
    ($(fn $name:ident();)+) => {$(
        /// # Safety
        /// As the C library's function of this name.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(block: *mut libc::aiocb) -> c_int {
            // SAFETY: null, or the caller's live block.
            let fd = unsafe { block.as_ref() }.map_or(-1, |block| block.aio_fildes);
            if !is_for_aio(fd) {
                errno::set(libc::EINVAL);
                return -1;
            }
            // SAFETY: the caller's own argument.
            unsafe { real::$name(block) }
        }
    )+};
}

asynchronous! {
    fn aio_read();
    fn aio_read64();
    fn aio_write();
    fn aio_write64();
}

macro_rules! lists {
    ($($name:ident)+) => {$(
        /// # Safety
        /// As `lio_listio(3)`.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            mode: c_int,
            blocks: *const *mut libc::aiocb,
            count: c_int,
            event: *mut libc::sigevent,
        ) -> c_int {
            for index in 0..usize::try_from(count).unwrap_or(0) {
                // SAFETY: the caller's own array, whose entries are null or live blocks.
                let block = unsafe { (*blocks.add(index)).as_ref() };
                if block.is_some_and(|block| !is_for_aio(block.aio_fildes)) {
                    errno::set(libc::EINVAL);
                    return -1;
                }
            }
            // SAFETY: the caller's own arguments.
            unsafe { real::$name(mode, blocks, count, event) }
        }
    )+};
}

lists! { lio_listio lio_listio64 }
