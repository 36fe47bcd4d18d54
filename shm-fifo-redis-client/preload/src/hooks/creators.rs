//! Whatever returns a descriptor proves that the number's former owner is gone, however it
//! was closed: `syscall`, a library that makes system calls itself, the C library's own
//! internals. So each of these functions lets go of what was behind the number.
#![allow(unsafe_code)]

use super::files::returned;
use crate::real;
use libc::{
    DIR, FILE, c_char, c_int, c_uint, c_void, mode_t, pid_t, sigset_t, sockaddr, socklen_t,
    termios, winsize,
};

/// Functions that return one descriptor.
macro_rules! creators {
    ($(fn $name:ident($($argument:ident: $type:ty),*);)+) => {$(
        /// # Safety
        /// As the C library's function of this name.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            // SAFETY: the caller's own arguments.
            let fd = unsafe { real::$name($($argument),*) };
            returned(fd);
            fd
        }
    )+};
}

// The last argument of `open` and `mq_open` is variable; on every architecture of Linux
// it comes where a fixed one would.
creators! {
    fn socket(domain: c_int, kind: c_int, protocol: c_int);
    fn accept(fd: c_int, address: *mut sockaddr, length: *mut socklen_t);
    fn accept4(fd: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int);
    fn open(path: *const c_char, flags: c_int, mode: mode_t);
    fn open64(path: *const c_char, flags: c_int, mode: mode_t);
    fn __open(path: *const c_char, flags: c_int, mode: mode_t);
    fn __open64(path: *const c_char, flags: c_int, mode: mode_t);
    fn __open_2(path: *const c_char, flags: c_int);
    fn __open64_2(path: *const c_char, flags: c_int);
    fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t);
    fn openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t);
    fn __openat_2(directory: c_int, path: *const c_char, flags: c_int);
    fn __openat64_2(directory: c_int, path: *const c_char, flags: c_int);
    fn open_by_handle_at(mount: c_int, handle: *mut c_void, flags: c_int);
    fn creat(path: *const c_char, mode: mode_t);
    fn creat64(path: *const c_char, mode: mode_t);
    fn mkstemp(template: *mut c_char);
    fn mkstemp64(template: *mut c_char);
    fn mkostemp(template: *mut c_char, flags: c_int);
    fn mkostemp64(template: *mut c_char, flags: c_int);
    fn mkstemps(template: *mut c_char, suffix: c_int);
    fn mkstemps64(template: *mut c_char, suffix: c_int);
    fn mkostemps(template: *mut c_char, suffix: c_int, flags: c_int);
    fn mkostemps64(template: *mut c_char, suffix: c_int, flags: c_int);
    fn shm_open(name: *const c_char, flags: c_int, mode: mode_t);
    fn mq_open(name: *const c_char, flags: c_int, mode: mode_t, attributes: *mut c_void);
    fn __mq_open_2(name: *const c_char, flags: c_int);
    fn memfd_create(name: *const c_char, flags: c_uint);
    fn eventfd(count: c_uint, flags: c_int);
    fn timerfd_create(clock: c_int, flags: c_int);
    fn signalfd(fd: c_int, mask: *const sigset_t, flags: c_int);
    fn inotify_init();
    fn inotify_init1(flags: c_int);
    fn fanotify_init(flags: c_uint, event_flags: c_uint);
    fn pidfd_open(process: pid_t, flags: c_uint);
    fn pidfd_getfd(pidfd: c_int, fd: c_int, flags: c_uint);
    fn posix_openpt(flags: c_int);
    fn getpt();
    fn fsopen(name: *const c_char, flags: c_uint);
    fn fsmount(fd: c_int, flags: c_uint, attributes: c_uint);
    fn fspick(directory: c_int, path: *const c_char, flags: c_uint);
    fn open_tree(directory: c_int, path: *const c_char, flags: c_uint);
}

/// Functions that fill in two.
macro_rules! pair_creators {
    ($(fn $name:ident($($argument:ident: $type:ty),*);)+) => {$(
        /// # Safety
        /// As the C library's function of this name.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name($($argument: $type,)* pair: *mut c_int) -> c_int {
            // SAFETY: the caller's own arguments.
            let result = unsafe { real::$name($($argument,)* pair) };
            if result == 0 {
                // SAFETY: the function has written two.
                unsafe { pair_returned(pair) };
            }
            result
        }
    )+};
}

pair_creators! {
    fn pipe();
    fn __pipe();
    fn socketpair(domain: c_int, kind: c_int, protocol: c_int);
}

/// # Safety
/// Two descriptors to read.
pub(super) unsafe fn pair_returned(pair: *const c_int) {
    // SAFETY: the caller's contract.
    for fd in unsafe { [*pair, *pair.add(1)] } {
        returned(fd);
    }
}

/// # Safety
/// As `pipe2(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pipe2(pair: *mut c_int, flags: c_int) -> c_int {
    // SAFETY: the caller's own arguments.
    let result = unsafe { real::pipe2(pair, flags) };
    if result == 0 {
        // SAFETY: the function has written two.
        unsafe { pair_returned(pair) };
    }
    result
}

/// # Safety
/// As `openpty(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn openpty(
    master: *mut c_int,
    slave: *mut c_int,
    name: *mut c_char,
    terminal: *const termios,
    size: *const winsize,
) -> c_int {
    // SAFETY: the caller's own arguments.
    let result = unsafe { real::openpty(master, slave, name, terminal, size) };
    if result == 0 {
        // SAFETY: the function has written both.
        unsafe {
            returned(*master);
            returned(*slave);
        }
    }
    result
}

/// # Safety
/// As `forkpty(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn forkpty(
    master: *mut c_int,
    name: *mut c_char,
    terminal: *const termios,
    size: *const winsize,
) -> c_int {
    // SAFETY: the caller's own arguments.
    let result = unsafe { real::forkpty(master, name, terminal, size) };
    if result > 0 {
        // SAFETY: the function has written it.
        returned(unsafe { *master });
    }
    result
}

/// Functions that return a stream, which has a descriptor.
macro_rules! stream_creators {
    ($(fn $name:ident($($argument:ident: $type:ty),*);)+) => {$(
        /// # Safety
        /// As the C library's function of this name.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> *mut FILE {
            // SAFETY: the caller's own arguments.
            let stream = unsafe { real::$name($($argument),*) };
            if !stream.is_null() {
                // SAFETY: a live stream.
                returned(unsafe { libc::fileno(stream) });
            }
            stream
        }
    )+};
}

stream_creators! {
    fn fopen(path: *const c_char, mode: *const c_char);
    fn fopen64(path: *const c_char, mode: *const c_char);
    fn popen(command: *const c_char, mode: *const c_char);
    fn tmpfile();
    fn tmpfile64();
}

/// # Safety
/// As `opendir(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn opendir(path: *const c_char) -> *mut DIR {
    // SAFETY: the caller's own argument.
    let directory = unsafe { real::opendir(path) };
    if !directory.is_null() {
        // SAFETY: a live directory stream.
        returned(unsafe { libc::dirfd(directory) });
    }
    directory
}
