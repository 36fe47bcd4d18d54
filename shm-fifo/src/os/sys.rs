//! The system calls used on doorbells, made directly.
//!
//! Not through libc's wrappers: where this crate serves an interposer, those
//! wrappers are what is interposed, and a doorbell must not ring itself.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// The result of a system call that returns a count or -1 with `errno`.
fn counted(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Sends `bytes` on a socket; never raises SIGPIPE.
pub(crate) fn send(fd: RawFd, bytes: &[u8], flags: libc::c_int) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of a live slice; the kernel
    // checks the rest.
    counted(unsafe {
        libc::syscall(
            libc::SYS_sendto,
            fd,
            bytes.as_ptr(),
            bytes.len(),
            flags | libc::MSG_NOSIGNAL,
            std::ptr::null::<libc::sockaddr>(),
            0,
        )
    })
}

/// Sends `sources` on a socket, one behind the other; never raises SIGPIPE.
#[cfg(feature = "virtual-fd")]
pub(crate) fn send_vectored(fd: RawFd, sources: &[io::IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all zero is a message without address, bytes and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // The kernel only reads them. `IoSlice` has the layout of `iovec` (its documentation says so).
    message.msg_iov = sources.as_ptr().cast_mut().cast();
    // In musl the length has another type.
    message.msg_iovlen = sources.len() as _;
    // SAFETY: a live message with live buffers.
    counted(unsafe { libc::syscall(libc::SYS_sendmsg, fd, &raw const message, libc::MSG_NOSIGNAL) })
}

/// Receives from a socket; `Ok(0)` is its end.
pub(crate) fn recv(fd: RawFd, buffer: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes into a live slice.
    counted(unsafe {
        libc::syscall(
            libc::SYS_recvfrom,
            fd,
            buffer.as_mut_ptr(),
            buffer.len(),
            flags,
            std::ptr::null_mut::<libc::sockaddr>(),
            std::ptr::null_mut::<libc::socklen_t>(),
        )
    })
}

/// Shuts a socket down in both directions; its state afterwards is all that counts.
pub(crate) fn shutdown(fd: RawFd) {
    // SAFETY: takes no pointer.
    unsafe { libc::syscall(libc::SYS_shutdown, fd, libc::SHUT_RDWR) };
}

/// Now, in nanoseconds of a clock that never goes back.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    #[allow(clippy::cast_sign_loss, reason = "this clock begins at 0")]
    let (seconds, nanoseconds) = (now.tv_sec as u64, now.tv_nsec as u64);
    seconds * 1_000_000_000 + nanoseconds
}

/// The CPU this thread runs on at the moment.
pub(crate) fn current_cpu() -> Option<u32> {
    // SAFETY: takes no pointer.
    u32::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// The number of this thread.
#[cfg(feature = "virtual-fd")]
pub(crate) fn thread_id() -> libc::pid_t {
    // SAFETY: takes no pointer.
    let id = unsafe { libc::syscall(libc::SYS_gettid) };
    libc::pid_t::try_from(id).unwrap_or(0)
}

/// How often the kernel has taken the CPU from this thread while it wanted to run.
#[cfg(feature = "virtual-fd")]
pub(crate) fn involuntary_switches() -> u64 {
    // SAFETY: all zero is a usage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a live rusage, written.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    u64::try_from(usage.ru_nivcsw).unwrap_or(0)
}

/// The size of the system's pages: 4096 bytes, or a larger power of two.
pub(crate) fn page_bytes() -> usize {
    // SAFETY: takes no pointer.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Sets `SO_RCVTIMEO`; zero is for ever.
pub(crate) fn set_receive_timeout(fd: RawFd, timeout: std::time::Duration) -> io::Result<()> {
    let value = libc::timeval {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: libc::suseconds_t::from(timeout.subsec_micros()),
    };
    let length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default();
    // SAFETY: the pointer and the length are those of a live timeval.
    counted(unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            &raw const value,
            length,
        )
    })?;
    Ok(())
}

/// Who was at the other end of a unix socket when it was connected.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of_val(&credentials)).unwrap_or_default();
    // SAFETY: the kernel writes at most `length` bytes into a live structure of integers.
    counted(unsafe {
        libc::syscall(
            libc::SYS_getsockopt,
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            &raw mut credentials,
            &raw mut length,
        )
    })?;
    Ok(credentials)
}

/// Whether calls on `fd` return rather than wait.
pub(crate) fn is_nonblocking(fd: RawFd) -> bool {
    // SAFETY: takes no pointer.
    let flags = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL) };
    flags < 0 || flags & libc::c_long::from(libc::O_NONBLOCK) != 0
}

/// The value of `SO_RCVTIMEO` or `SO_SNDTIMEO`; `None` is for ever.
#[cfg(feature = "virtual-fd")]
pub(crate) fn timeout(fd: RawFd, option: libc::c_int) -> Option<libc::timespec> {
    let mut value = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default();
    // SAFETY: the kernel writes at most `length` bytes into a live timeval.
    counted(unsafe {
        libc::syscall(
            libc::SYS_getsockopt,
            fd,
            libc::SOL_SOCKET,
            option,
            &raw mut value,
            &raw mut length,
        )
    })
    .ok()?;
    let is_set = value.tv_sec != 0 || value.tv_usec != 0;
    is_set.then(|| libc::timespec { tv_sec: value.tv_sec, tv_nsec: value.tv_usec * 1000 })
}

/// Waits until `fd` is readable or has ended; `false` if `timeout` passed before.
#[cfg(feature = "virtual-fd")]
pub(crate) fn wait_readable(fd: RawFd, timeout: Option<libc::timespec>) -> io::Result<bool> {
    poll_one(fd, libc::POLLIN, timeout)
}

/// Waits until `fd` is writable or has ended; `false` if `timeout` passed before.
#[cfg(feature = "virtual-fd")]
pub(crate) fn wait_writable(fd: RawFd, timeout: Option<libc::timespec>) -> io::Result<bool> {
    poll_one(fd, libc::POLLOUT, timeout)
}

/// Whether a short write to `fd` would not wait, or `fd` has ended.
#[cfg(feature = "virtual-fd")]
pub(crate) fn is_writable(fd: RawFd) -> bool {
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    poll_one(fd, libc::POLLOUT, Some(at_once)).unwrap_or(false)
}

#[cfg(feature = "virtual-fd")]
fn poll_one(fd: RawFd, events: libc::c_short, timeout: Option<libc::timespec>) -> io::Result<bool> {
    let mut polled = libc::pollfd { fd, events, revents: 0 };
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: one live pollfd, a live timespec or null, and no signal mask.
    let ready = counted(unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            &raw mut polled,
            1,
            timeout,
            std::ptr::null::<libc::sigset_t>(),
            8,
        )
    })?;
    Ok(ready > 0)
}

/// `epoll_ctl(2)`.
#[cfg(feature = "virtual-fd")]
pub(crate) fn epoll_ctl(
    epfd: RawFd,
    operation: libc::c_int,
    fd: RawFd,
    event: Option<libc::epoll_event>,
) -> io::Result<()> {
    let event = event.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: null, or a live event that the kernel only reads.
    counted(unsafe { libc::syscall(libc::SYS_epoll_ctl, epfd, operation, fd, event) })?;
    Ok(())
}

/// `epoll_wait(2)` into a slice.
#[cfg(feature = "virtual-fd")]
pub(crate) fn epoll_wait(
    epfd: RawFd,
    events: &mut [libc::epoll_event],
    timeout_ms: libc::c_int,
) -> io::Result<usize> {
    let capacity = libc::c_int::try_from(events.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel writes at most `capacity` events into a live slice.
    // (epoll_pwait without a mask: every architecture has that call.)
    counted(unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait,
            epfd,
            events.as_mut_ptr(),
            capacity,
            timeout_ms,
            std::ptr::null::<libc::sigset_t>(),
            8,
        )
    })
}

/// A non-blocking eventfd that any number of threads may wake a poller with.
pub(crate) fn eventfd() -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: takes no pointer.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else has it.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) })
}

/// Adds one to an eventfd. Returns whether it did: failing means it is signalled
/// already.
pub(crate) fn signal_eventfd(fd: RawFd) -> bool {
    let one = 1_u64;
    // SAFETY: eight readable bytes.
    unsafe { libc::syscall(libc::SYS_write, fd, &raw const one, size_of_val(&one)) == 8 }
}

/// Sets an eventfd back to zero and returns what it was, without waiting, also if
/// a peer has made the descriptor blocking (Linux 5.8; before, it could make this wait).
pub(crate) fn take_eventfd(fd: RawFd) -> u64 {
    let mut count = 0_u64;
    let target = libc::iovec { iov_base: (&raw mut count).cast(), iov_len: size_of_val(&count) };
    // The position of what has none.
    let nowhere: libc::c_long = -1;
    // SAFETY: one vector of eight writable bytes.
    let taken = counted(unsafe {
        libc::syscall(libc::SYS_preadv2, fd, &raw const target, 1, nowhere, 0, libc::RWF_NOWAIT)
    });
    let refusal = taken.err().and_then(|error| error.raw_os_error());
    // Before Linux 5.8 an eventfd has no such read, and an emulator may not know it: there
    // its own mode says whether this waits. If it stayed as it is, nobody could sleep on it.
    if matches!(refusal, Some(libc::ENOSYS | libc::EOPNOTSUPP)) {
        // SAFETY: eight writable bytes.
        unsafe { libc::syscall(libc::SYS_read, fd, &raw mut count, size_of_val(&count)) };
    }
    count
}

/// Waits until one of `fds` is readable or has hung up, at most for `timeout`.
/// Returns which are.
pub(crate) fn poll_readable<const N: usize>(
    fds: [RawFd; N],
    timeout: Option<std::time::Duration>,
) -> io::Result<[bool; N]> {
    let events = libc::POLLIN | libc::POLLRDHUP;
    let mut polled = fds.map(|fd| libc::pollfd { fd, events, revents: 0 });
    let mut timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: an array of as many pollfds, and null or a live timespec that the
    // kernel may overwrite: it is not looked at again.
    counted(unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            polled.as_mut_ptr(),
            N,
            timeout,
            std::ptr::null::<libc::sigset_t>(),
            8,
        )
    })?;
    Ok(polled.map(|fd| fd.revents != 0))
}

/// This thread's `errno`.
#[cfg(feature = "virtual-fd")]
pub(crate) fn errno() -> libc::c_int {
    // SAFETY: the location is this thread's own and always valid.
    unsafe { *libc::__errno_location() }
}

/// Sets this thread's `errno`.
#[cfg(feature = "virtual-fd")]
pub(crate) fn set_errno(value: libc::c_int) {
    // SAFETY: the location is this thread's own and always valid.
    unsafe { *libc::__errno_location() = value };
}
