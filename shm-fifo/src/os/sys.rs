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
