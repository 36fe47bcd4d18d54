//! The functions that ours stand before: the next ones in the order of libraries,
//! which are the C library's unless something else is preloaded too.
#![allow(unsafe_code)]

mod system_calls;

use crate::errno;
use libc::{
    DIR, FILE, aiocb, c_char, c_int, c_uint, c_ulong, c_void, dl_phdr_info, epoll_event, fd_set,
    iovec, mmsghdr, mode_t, msghdr, nfds_t, off_t, off64_t, pid_t, pollfd, pthread_t,
    sigaction as Action, sigevent, sighandler_t, sigset_t, size_t, sockaddr, socklen_t, ssize_t,
    termios, timespec, timeval, winsize,
};
use std::ffi::CStr;
use std::ptr::{null_mut, without_provenance_mut};
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};

macro_rules! next_functions {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)+) => {$(
        /// # Safety
        /// As the C library's function of this name.
        #[inline]
        pub(crate) unsafe fn $name($($argument: $type),*) -> $result {
            let next = resolved(&next::$name, name_of(concat!(stringify!($name), "\0")));
            if next == MISSING {
                errno::set(libc::ENOSYS);
                return <$result>::FAILED;
            }
            type Next = unsafe extern "C" fn($($type),*) -> $result;
            // SAFETY: the C library's function of this name has this type.
            let next: Next = unsafe { std::mem::transmute(next) };
            // SAFETY: the caller's own arguments.
            unsafe { next($($argument),*) }
        }
    )+
        /// Where they are.
        #[allow(non_upper_case_globals, reason = "they have the functions' names")]
        mod next {
            use super::{AtomicPtr, c_void, null_mut};

            $(pub(super) static $name: AtomicPtr<c_void> = AtomicPtr::new(null_mut());)+
        }

        /// Looks for all of them: doing so in a signal handler could wait for ever.
        pub(crate) fn resolve_all() {
            $(resolve(&next::$name, name_of(concat!(stringify!($name), "\0")));)+
            forget_error();
        }
    };
}

/// In the place of a function that this C library does not have: older ones do not have all.
const MISSING: *mut c_void = without_provenance_mut(1);

const fn name_of(name: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(name.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("a name has no zero byte"),
    }
}

/// What a function returns where it fails.
trait Fails {
    const FAILED: Self;
}

impl Fails for c_int {
    const FAILED: Self = -1;
}

impl Fails for () {
    const FAILED: Self = ();
}

impl Fails for ssize_t {
    const FAILED: Self = -1;
}

impl Fails for sighandler_t {
    const FAILED: Self = libc::SIG_ERR;
}

impl<T> Fails for *mut T {
    const FAILED: Self = null_mut();
}

/// The functions of a stream that `fopencookie(3)` makes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct CookieFunctions {
    pub(crate) read: Option<unsafe extern "C" fn(*mut c_void, *mut c_char, size_t) -> ssize_t>,
    pub(crate) write: Option<unsafe extern "C" fn(*mut c_void, *const c_char, size_t) -> ssize_t>,
    pub(crate) seek: Option<unsafe extern "C" fn(*mut c_void, *mut off64_t, c_int) -> c_int>,
    pub(crate) close: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
}

/// What `dl_iterate_phdr(3)` shows each library.
pub(crate) type Visit =
    unsafe extern "C" fn(*mut dl_phdr_info, size: size_t, data: *mut c_void) -> c_int;

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
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn accept(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int;
    fn accept4(fd: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int;
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn __open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn __open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn __open_2(path: *const c_char, flags: c_int) -> c_int;
    fn __open64_2(path: *const c_char, flags: c_int) -> c_int;
    fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn __openat_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int;
    fn __openat64_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int;
    fn open_by_handle_at(mount: c_int, handle: *mut c_void, flags: c_int) -> c_int;
    fn creat(path: *const c_char, mode: mode_t) -> c_int;
    fn creat64(path: *const c_char, mode: mode_t) -> c_int;
    fn mkstemp(template: *mut c_char) -> c_int;
    fn mkstemp64(template: *mut c_char) -> c_int;
    fn mkostemp(template: *mut c_char, flags: c_int) -> c_int;
    fn mkostemp64(template: *mut c_char, flags: c_int) -> c_int;
    fn mkstemps(template: *mut c_char, suffix: c_int) -> c_int;
    fn mkstemps64(template: *mut c_char, suffix: c_int) -> c_int;
    fn mkostemps(template: *mut c_char, suffix: c_int, flags: c_int) -> c_int;
    fn mkostemps64(template: *mut c_char, suffix: c_int, flags: c_int) -> c_int;
    fn shm_open(name: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    fn mq_open(name: *const c_char, flags: c_int, mode: mode_t, attributes: *mut c_void) -> c_int;
    fn __mq_open_2(name: *const c_char, flags: c_int) -> c_int;
    fn memfd_create(name: *const c_char, flags: c_uint) -> c_int;
    fn eventfd(count: c_uint, flags: c_int) -> c_int;
    fn timerfd_create(clock: c_int, flags: c_int) -> c_int;
    fn signalfd(fd: c_int, mask: *const sigset_t, flags: c_int) -> c_int;
    fn inotify_init() -> c_int;
    fn inotify_init1(flags: c_int) -> c_int;
    fn fanotify_init(flags: c_uint, event_flags: c_uint) -> c_int;
    fn pidfd_open(process: pid_t, flags: c_uint) -> c_int;
    fn pidfd_getfd(pidfd: c_int, fd: c_int, flags: c_uint) -> c_int;
    fn posix_openpt(flags: c_int) -> c_int;
    fn getpt() -> c_int;
    fn fsopen(name: *const c_char, flags: c_uint) -> c_int;
    fn fsmount(fd: c_int, flags: c_uint, attributes: c_uint) -> c_int;
    fn fspick(directory: c_int, path: *const c_char, flags: c_uint) -> c_int;
    fn open_tree(directory: c_int, path: *const c_char, flags: c_uint) -> c_int;
    fn pipe(pair: *mut c_int) -> c_int;
    fn __pipe(pair: *mut c_int) -> c_int;
    fn socketpair(domain: c_int, kind: c_int, protocol: c_int, pair: *mut c_int) -> c_int;
    fn pipe2(pair: *mut c_int, flags: c_int) -> c_int;
    fn openpty(master: *mut c_int, slave: *mut c_int, name: *mut c_char, terminal: *const termios, size: *const winsize) -> c_int;
    fn forkpty(master: *mut c_int, name: *mut c_char, terminal: *const termios, size: *const winsize) -> c_int;
    fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE;
    fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE;
    fn popen(command: *const c_char, mode: *const c_char) -> *mut FILE;
    fn tmpfile() -> *mut FILE;
    fn tmpfile64() -> *mut FILE;
    fn opendir(path: *const c_char) -> *mut DIR;
    fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE;
    fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: CookieFunctions) -> *mut FILE;
    fn fclose(stream: *mut FILE) -> c_int;
    fn freopen(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE;
    fn freopen64(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE;
    fn epoll_create(size: c_int) -> c_int;
    fn epoll_create1(flags: c_int) -> c_int;
    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, length: socklen_t) -> c_int;
    fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, length: *mut socklen_t) -> c_int;
    fn sigaction(signal: c_int, new: *const Action, old: *mut Action) -> c_int;
    fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
    fn sigset(signal: c_int, handler: sighandler_t) -> sighandler_t;
    fn bsd_signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
    fn ssignal(signal: c_int, handler: sighandler_t) -> sighandler_t;
    fn sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
    fn __sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
    fn preadv2(fd: c_int, spans: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t;
    fn pwritev2(fd: c_int, spans: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t;
    fn aio_read(block: *mut aiocb) -> c_int;
    fn lio_listio(mode: c_int, blocks: *const *mut aiocb, count: c_int, event: *mut sigevent) -> c_int;
    fn lio_listio64(mode: c_int, blocks: *const *mut aiocb, count: c_int, event: *mut sigevent) -> c_int;
    fn fileno(stream: *mut FILE) -> c_int;
    fn fileno_unlocked(stream: *mut FILE) -> c_int;
    fn aio_read64(block: *mut aiocb) -> c_int;
    fn aio_write(block: *mut aiocb) -> c_int;
    fn aio_write64(block: *mut aiocb) -> c_int;
    fn pthread_cancel(thread: pthread_t) -> c_int;
    fn pthread_testcancel() -> ();
    fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int;
    fn dl_iterate_phdr(visit: Option<Visit>, data: *mut c_void) -> c_int;
}

#[inline]
fn resolved(cell: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    // ORDERING, Acquire: pairs with the Release below; it is code that is reached.
    let next = cell.load(Acquire);
    if next.is_null() { resolve(cell, name) } else { next }
}

#[cold]
fn resolve(cell: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    let found =
        next_of(name).or_else(|| next_without_64(name)).or_else(|| system_calls::by_name(name));
    let next = found.unwrap_or(MISSING);
    // ORDERING, Release: pairs with the Acquire above.
    cell.store(next, Release);
    next
}

fn next_of(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a C string.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    (!next.is_null()).then_some(next)
}

/// A function of large files by its plain name: on 64-bit machines it is the same one, and not
/// every C library has both.
fn next_without_64(name: &CStr) -> Option<*mut c_void> {
    const LONGEST: usize = 16;
    let plain = name.to_bytes().strip_suffix(b"64")?;
    let mut place = [0; LONGEST];
    place.get_mut(..plain.len())?.copy_from_slice(plain);
    next_of(CStr::from_bytes_until_nul(&place).ok()?)
}

/// What was not found is not the program's to hear of, when it asks for its own errors.
fn forget_error() {
    // SAFETY: a C string.
    let dlerror = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"dlerror".as_ptr()) };
    if !dlerror.is_null() {
        // SAFETY: the C library's function of this name has this type.
        let dlerror: unsafe extern "C" fn() -> *mut c_char =
            unsafe { std::mem::transmute(dlerror) };
        // SAFETY: takes nothing.
        unsafe { dlerror() };
    }
}
