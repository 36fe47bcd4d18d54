//! The system calls used on doorbells, made directly.
//!
//! Not through libc's wrappers: where this crate serves an interposer, those
//! wrappers are what is interposed, and a doorbell must not ring itself.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

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
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The CPU this thread runs on at the moment.
pub(crate) fn current_cpu() -> Option<u32> {
    // SAFETY: takes no pointer.
    u32::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// Sets `SO_RCVTIMEO`; zero is for ever.
pub(crate) fn set_receive_timeout(fd: RawFd, timeout: std::time::Duration) -> io::Result<()> {
    let value = libc::timeval {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: libc::suseconds_t::from(timeout.subsec_micros().cast_signed()),
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
#[cfg(feature = "virtual-fd")]
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

/// Adds one to an eventfd. Failing means it is signalled already.
#[cfg(feature = "virtual-fd")]
pub(crate) fn signal_eventfd(fd: RawFd) {
    let one = 1_u64;
    // SAFETY: eight readable bytes.
    unsafe { libc::syscall(libc::SYS_write, fd, &raw const one, size_of_val(&one)) };
}

/// Sets an eventfd back to zero. Failing means it is zero already.
#[cfg(feature = "virtual-fd")]
pub(crate) fn clear_eventfd(fd: RawFd) {
    let mut count = 0_u64;
    // SAFETY: eight writable bytes.
    unsafe { libc::syscall(libc::SYS_read, fd, &raw mut count, size_of_val(&count)) };
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
