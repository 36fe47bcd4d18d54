//! `syscall(2)`, by which libuv, among others, closes and waits.
//!
//! What is served under a name of its own is served here too; everything else goes to the
//! kernel. So do this library's own calls, which it makes while it is busy.
#![allow(unsafe_code)]

use super::files::{close, close_range, returned};
use super::{aliases, copies, creators, epoll, files, filters, length, options, poll, read, write};
use crate::errno::Errno;
use crate::{settings, signals, sys};
use libc::{c_int, c_long, c_uint, c_ulong, c_void, size_t, ssize_t};
use std::ptr::{null, with_exposed_provenance_mut as pointer};

/// Its arguments are variable; on every architecture of Linux they come where fixed ones
/// would.
///
/// # Safety
/// As `syscall(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    let call = [number, a, b, c, d, e, f];
    if settings::get().is_some() && !signals::is_busy() {
        // SAFETY: the caller's own arguments.
        if let Some(result) = unsafe { served(call) } {
            return result;
        }
    }
    // SAFETY: the caller's own arguments.
    let result = sys::outcome(unsafe { sys::raw(call) });
    result.unwrap_or_else(fail)
}

/// The kernel looks at the low half of a register for an `int`.
#[allow(clippy::cast_possible_truncation, reason = "as the kernel does it")]
fn int(register: c_long) -> c_int {
    register as c_int
}

#[allow(clippy::cast_possible_truncation, reason = "both are a register wide")]
fn size(register: c_long) -> size_t {
    register.cast_unsigned() as size_t
}

fn at<T>(register: c_long) -> *mut T {
    pointer(size(register))
}

/// # Safety
/// As `syscall(2)`.
unsafe fn served([number, a, b, c, d, e, f]: sys::Call) -> Option<c_long> {
    let fd = int(a);
    let byte_count = |count: ssize_t| Some(count as c_long);
    let plain = |result: c_int| Some(c_long::from(result));
    // SAFETY: each has the arguments of the system call, which are the caller's own.
    unsafe {
        match number {
            libc::SYS_read => byte_count(read::read(fd, at(b), size(c))),
            libc::SYS_readv => byte_count(read::readv(fd, at(b), int(c))),
            libc::SYS_preadv2 => byte_count(aliases::preadv2(fd, at(b), int(c), d, int(f))),
            libc::SYS_recvfrom => {
                byte_count(read::recvfrom(fd, at(b), size(c), int(d), at(e), at(f)))
            }
            libc::SYS_recvmsg => byte_count(read::recvmsg(fd, at(b), int(c))),
            libc::SYS_recvmmsg => {
                plain(read::recvmmsg(fd, at(b), int(c).cast_unsigned(), int(d), at(e)))
            }
            libc::SYS_write => byte_count(write::write(fd, at(b), size(c))),
            libc::SYS_writev => byte_count(write::writev(fd, at(b), int(c))),
            libc::SYS_pwritev2 => byte_count(aliases::pwritev2(fd, at(b), int(c), d, int(f))),
            libc::SYS_sendto => {
                byte_count(write::sendto(fd, at(b), size(c), int(d), at(e), int(f).cast_unsigned()))
            }
            libc::SYS_sendmsg => byte_count(write::sendmsg(fd, at(b), int(c))),
            libc::SYS_sendmmsg => plain(write::sendmmsg(fd, at(b), int(c).cast_unsigned(), int(d))),
            libc::SYS_sendfile => byte_count(copies::sendfile(fd, int(b), at(c), size(d))),
            libc::SYS_splice => byte_count(copies::splice(
                fd,
                at(b),
                int(c),
                at(d),
                size(e),
                int(f).cast_unsigned(),
            )),
            libc::SYS_ppoll => plain(poll::ppoll(at(a), a_count(b), at(c), at(d))),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll => plain(poll::poll(at(a), a_count(b), int(c))),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_select => plain(poll::select(fd, at(b), at(c), at(d), at(e))),
            libc::SYS_pselect6 => {
                plain(poll::pselect(fd, at(b), at(c), at(d), at(e), mask_of_pselect(f)))
            }
            libc::SYS_epoll_create1 => plain(files::epoll_create1(fd)),
            libc::SYS_epoll_ctl => plain(epoll::epoll_ctl(fd, int(b), int(c), at(d))),
            libc::SYS_epoll_pwait => plain(epoll::epoll_pwait(fd, at(b), int(c), int(d), at(e))),
            libc::SYS_epoll_pwait2 => plain(epoll::epoll_pwait2(fd, at(b), int(c), at(d), at(e))),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_create => plain(files::epoll_create(fd)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait => plain(epoll::epoll_wait(fd, at(b), int(c), int(d))),
            libc::SYS_connect => plain(files::connect(fd, at(b), int(c).cast_unsigned())),
            libc::SYS_setsockopt => {
                let length = int(e).cast_unsigned();
                plain(options::setsockopt(fd, int(b), int(c), at(d), length))
            }
            libc::SYS_getsockopt => plain(options::getsockopt(fd, int(b), int(c), at(d), at(e))),
            libc::SYS_shutdown => plain(files::shutdown(fd, int(b))),
            libc::SYS_close => plain(close(fd)),
            libc::SYS_close_range => {
                plain(close_range(fd.cast_unsigned() as c_uint, int(b).cast_unsigned(), int(c)))
            }
            libc::SYS_dup => plain(files::dup(fd)),
            libc::SYS_dup3 => plain(files::dup3(fd, int(b), int(c))),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_dup2 => plain(files::dup2(fd, int(b))),
            libc::SYS_fcntl => plain(files::fcntl(fd, int(b), c.cast_unsigned() as c_ulong)),
            libc::SYS_ioctl => {
                plain(files::ioctl(fd, b.cast_unsigned() as c_ulong, at::<c_void>(c)))
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_pipe => plain(creators::pipe(at(a))),
            libc::SYS_pipe2 => plain(creators::pipe2(at(a), int(b))),
            libc::SYS_socketpair => plain(creators::socketpair(fd, int(b), int(c), at(d))),
            libc::SYS_io_uring_setup if files::is_ring_of_event_loop(int(a).cast_unsigned()) => {
                Some(fail(Errno(libc::ENOSYS)))
            }
            libc::SYS_seccomp if filters::is_filter(a) => {
                filters::before_filter();
                None
            }
            libc::SYS_prctl => plain(filters::prctl(
                int(a),
                b.cast_unsigned() as c_ulong,
                c.cast_unsigned() as c_ulong,
                d.cast_unsigned() as c_ulong,
                e.cast_unsigned() as c_ulong,
            )),
            _ if makes_descriptor(number) => {
                let result = sys::outcome(sys::raw([number, a, b, c, d, e, f]));
                if let Ok(fd) = result {
                    returned(int(fd));
                }
                Some(result.unwrap_or_else(fail))
            }
            _ => None,
        }
    }
}

fn a_count(register: c_long) -> libc::nfds_t {
    register.cast_unsigned() as libc::nfds_t
}

fn fail(errno: Errno) -> c_long {
    length(Err(errno)) as c_long
}

/// The kernel takes the mask of `pselect6` in a struct, with its size.
///
/// # Safety
/// Null, or the struct of two words.
unsafe fn mask_of_pselect(register: c_long) -> *const libc::sigset_t {
    let place = at::<*const libc::sigset_t>(register);
    if place.is_null() {
        return null();
    }
    // SAFETY: the caller's contract.
    unsafe { *place }
}

/// Calls that return a descriptor, beside those above.
fn makes_descriptor(number: c_long) -> bool {
    #[cfg(target_arch = "x86_64")]
    if matches!(
        number,
        libc::SYS_open
            | libc::SYS_creat
            | libc::SYS_eventfd
            | libc::SYS_signalfd
            | libc::SYS_inotify_init
    ) {
        return true;
    }
    matches!(
        number,
        libc::SYS_openat
            | libc::SYS_openat2
            | libc::SYS_open_by_handle_at
            | libc::SYS_open_tree
            | libc::SYS_socket
            | libc::SYS_accept
            | libc::SYS_accept4
            | libc::SYS_eventfd2
            | libc::SYS_signalfd4
            | libc::SYS_timerfd_create
            | libc::SYS_inotify_init1
            | libc::SYS_fanotify_init
            | libc::SYS_memfd_create
            | libc::SYS_memfd_secret
            | libc::SYS_pidfd_open
            | libc::SYS_pidfd_getfd
            | libc::SYS_mq_open
            | libc::SYS_fsopen
            | libc::SYS_fsmount
            | libc::SYS_fspick
            | libc::SYS_bpf
            | libc::SYS_landlock_create_ruleset
            | libc::SYS_userfaultfd
            | libc::SYS_perf_event_open
            | libc::SYS_io_uring_setup
    )
}
