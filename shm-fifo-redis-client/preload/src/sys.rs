//! System calls made directly: what the C library calls them is what we replace.
#![allow(unsafe_code)]

use crate::errno::Errno;
use libc::{c_int, c_long, epoll_event, pollfd, sigset_t, timespec};
use std::os::fd::RawFd;
use std::ptr::null;

/// Bytes of the kernel's signal sets.
const KERNEL_SIGSET_BYTES: usize = 8;

fn counted(result: c_long) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::last())
}

/// Waits, as long as the socket's receive timeout says, until there is a byte or
/// the end on it. Takes nothing.
pub(crate) fn wait_for_byte(socket: RawFd) -> Result<(), Errno> {
    let mut byte = 0_u8;
    let nobody = null::<libc::sockaddr>();
    // SAFETY: one writable byte, and no address asked for.
    counted(unsafe {
        libc::syscall(libc::SYS_recvfrom, socket, &raw mut byte, 1, libc::MSG_PEEK, nobody, nobody)
    })?;
    Ok(())
}

/// Sends without waiting and without SIGPIPE.
pub(crate) fn send(socket: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let nobody = null::<libc::sockaddr>();
    // SAFETY: the pointer and the length of a live slice, and no address.
    counted(unsafe {
        libc::syscall(libc::SYS_sendto, socket, bytes.as_ptr(), bytes.len(), flags, nobody, 0)
    })
}

/// Receives until `target` is full, if it may wait.
pub(crate) fn receive_all(
    socket: RawFd,
    target: &mut [u8],
    dont_wait: bool,
) -> Result<usize, Errno> {
    let flags = libc::MSG_WAITALL | if dont_wait { libc::MSG_DONTWAIT } else { 0 };
    let nobody = null::<libc::sockaddr>();
    let (bytes, length) = (target.as_mut_ptr(), target.len());
    // SAFETY: the pointer and the length of a live slice, and no address asked for.
    counted(unsafe {
        libc::syscall(libc::SYS_recvfrom, socket, bytes, length, flags, nobody, nobody)
    })
}

/// Ends what is written to the socket.
pub(crate) fn shut_down_writing(socket: RawFd) {
    // SAFETY: takes no pointer.
    unsafe { libc::syscall(libc::SYS_shutdown, socket, libc::SHUT_WR) };
}

/// Lets single bytes go at once: those of doorbells do not wait for acknowledgements.
pub(crate) fn send_at_once(socket: RawFd) {
    let on: c_int = 1;
    // SAFETY: the pointer and the length are those of a live value.
    unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            &raw const on,
            size_of_val(&on),
        );
    }
}

/// `ppoll(2)`; without a `timeout` it waits for ever.
pub(crate) fn ppoll(
    entries: &mut [pollfd],
    timeout: Option<timespec>,
    mask: *const sigset_t,
) -> Result<usize, Errno> {
    // The kernel writes the time that is left: into our copy.
    let timeout = timeout.as_ref().map_or(null(), std::ptr::from_ref);
    // SAFETY: a live slice, null or a live timespec, and the caller's signal mask.
    counted(unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            entries.as_mut_ptr(),
            entries.len(),
            timeout,
            mask,
            KERNEL_SIGSET_BYTES,
        )
    })
}

/// `epoll_ctl(2)`.
pub(crate) fn epoll_ctl(
    epfd: RawFd,
    operation: c_int,
    fd: RawFd,
    event: Option<epoll_event>,
) -> Result<(), Errno> {
    let event = event.as_ref().map_or(null(), std::ptr::from_ref);
    // SAFETY: null, or a live event that the kernel only reads.
    counted(unsafe { libc::syscall(libc::SYS_epoll_ctl, epfd, operation, fd, event) })?;
    Ok(())
}

/// `epoll_pwait(2)` into a slice.
pub(crate) fn epoll_wait(
    epfd: RawFd,
    events: &mut [epoll_event],
    timeout_ms: c_int,
    mask: *const sigset_t,
) -> Result<usize, Errno> {
    let capacity = c_int::try_from(events.len()).unwrap_or(c_int::MAX);
    // SAFETY: a live slice of so many events, and the caller's signal mask.
    counted(unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait,
            epfd,
            events.as_mut_ptr(),
            capacity,
            timeout_ms,
            mask,
            KERNEL_SIGSET_BYTES,
        )
    })
}

/// Whether the file description of `fd` is in non-blocking mode.
pub(crate) fn is_nonblocking(fd: RawFd) -> bool {
    // SAFETY: takes no pointer.
    let flags = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL) };
    flags >= 0 && flags & c_long::from(libc::O_NONBLOCK) != 0
}

/// Whether `fd` is open.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: takes no pointer.
    let flags = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFD) };
    flags >= 0
}

/// Lets `fd` end with the program's image, at `execve(2)`.
pub(crate) fn close_on_exec(fd: RawFd) {
    // SAFETY: takes no pointer.
    unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// The socket's `SO_SNDTIMEO`, if it has one.
pub(crate) fn send_timeout(socket: RawFd) -> Option<timespec> {
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut timeout: libc::timeval = unsafe { std::mem::zeroed() };
    socket_option(socket, libc::SO_SNDTIMEO, &mut timeout)?;
    let some = timeout.tv_sec != 0 || timeout.tv_usec != 0;
    some.then(|| timespec { tv_sec: timeout.tv_sec, tv_nsec: timeout.tv_usec * 1000 })
}

/// Whether `fd` is a stream socket.
pub(crate) fn is_stream_socket(fd: RawFd) -> bool {
    let mut kind: c_int = 0;
    socket_option(fd, libc::SO_TYPE, &mut kind).is_some() && kind == libc::SOCK_STREAM
}

fn socket_option<T: Copy>(fd: RawFd, name: c_int, value: &mut T) -> Option<()> {
    let mut length = libc::socklen_t::try_from(size_of::<T>()).ok()?;
    // SAFETY: a live value of so many bytes, in which any bytes are valid for the
    // two types that are asked for above.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            name,
            std::ptr::from_mut(value).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(())
}

/// What tells one open file from another, as long as both are open.
pub(crate) fn identity(fd: RawFd) -> Option<(u64, u64)> {
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a live struct to write.
    let result = unsafe { libc::fstat(fd, &raw mut status) };
    (result == 0).then_some((status.st_dev, status.st_ino))
}

/// This process, from the kernel: a child by `vfork` shares our memory.
pub(crate) fn process_id() -> libc::pid_t {
    // SAFETY: takes no pointer.
    let id = unsafe { libc::syscall(libc::SYS_getpid) };
    libc::pid_t::try_from(id).unwrap_or(0)
}

/// Now, in nanoseconds of a clock that never goes back.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Raises SIGPIPE, as writing to a socket that nobody reads does.
pub(crate) fn raise_sigpipe() {
    // SAFETY: takes no pointer.
    unsafe { libc::raise(libc::SIGPIPE) };
}
