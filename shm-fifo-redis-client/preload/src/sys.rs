//! System calls made directly: what the C library calls them is what we replace, its
//! `syscall` included.
#![allow(unsafe_code)]

use crate::errno::{self, Errno};
use crate::{real, thread};
use libc::{c_int, c_long, epoll_event, pollfd, sigset_t, timespec};
use shm_fifo::fd_passing;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::ptr::{null, null_mut};

/// A system call's number and arguments.
pub(crate) type Call = [c_long; 7];

/// Makes a system call. Returns what the kernel does: an error is a small negative number.
///
/// # Safety
/// As the system call.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn raw([number, a, b, c, d, e, f]: Call) -> c_long {
    let result;
    // SAFETY: the kernel's calling convention (syscall(2)); the rest is the caller's contract.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Makes a system call. Returns what the kernel does: an error is a small negative number.
///
/// # Safety
/// As the system call.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn raw([number, a, b, c, d, e, f]: Call) -> c_long {
    let result;
    // SAFETY: the kernel's calling convention (syscall(2)); the rest is the caller's contract.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

/// Receives bytes and the descriptor that comes with them, without waiting.
pub(crate) fn receive_with_fd(
    socket: RawFd,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    // SAFETY: the number is the program's, and for this call alone; if it closes that, the
    // kernel says so.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    fd_passing::recv_with_fd(socket, buffer, libc::MSG_DONTWAIT)
}

/// What a [`raw`] call's result says.
pub(crate) fn outcome(result: c_long) -> Result<c_long, Errno> {
    const LOWEST: c_long = -4095;
    match result {
        LOWEST..=-1 => Err(Errno(c_int::try_from(-result).unwrap_or(libc::EIO))),
        _ => Ok(result),
    }
}

/// What a system call takes, as the register that it travels in.
pub(crate) trait Argument {
    fn register(self) -> c_long;
}

impl Argument for c_long {
    fn register(self) -> c_long {
        self
    }
}

impl Argument for c_int {
    fn register(self) -> c_long {
        self.into()
    }
}

impl Argument for usize {
    fn register(self) -> c_long {
        self.cast_signed() as c_long
    }
}

impl<T> Argument for *const T {
    fn register(self) -> c_long {
        self.expose_provenance().register()
    }
}

impl<T> Argument for *mut T {
    fn register(self) -> c_long {
        self.expose_provenance().register()
    }
}

/// `call!(SYS_name, arguments…)`: a system call, as `Result<c_long, Errno>`.
macro_rules! call {
    ($number:expr $(, $argument:expr)* $(,)?) => {{
        let arguments = [$number $(, $crate::sys::Argument::register($argument))*];
        let mut call: $crate::sys::Call = [0; 7];
        call[..arguments.len()].copy_from_slice(&arguments);
        $crate::sys::outcome($crate::sys::raw(call))
    }};
}
pub(crate) use call;

/// A look, without waiting.
pub(crate) const NO_TIME: timespec = timespec { tv_sec: 0, tv_nsec: 0 };

/// Bytes of the kernel's signal sets.
pub(crate) const KERNEL_SIGSET_BYTES: usize = 8;

fn counted(result: Result<c_long, Errno>) -> Result<usize, Errno> {
    result.map(|count| usize::try_from(count).unwrap_or(0))
}

/// Waits, as long as the socket's receive timeout says, until there is a byte or
/// the end on it. Takes nothing. Here a thread may be cancelled, so it is the C library's.
pub(crate) fn wait_for_byte(socket: RawFd) -> Result<(), Errno> {
    let mut byte = 0_u8;
    // SAFETY: one writable byte.
    match unsafe { real::recv(socket, (&raw mut byte).cast(), 1, libc::MSG_PEEK) } {
        ..0 => Err(Errno(errno::get())),
        _ => Ok(()),
    }
}

/// The same within `left_ns`; a signal ends it.
pub(crate) fn wait_readable(socket: RawFd, left_ns: Option<u64>) -> Result<(), Errno> {
    let mut entry = pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
    let left = left_ns.map(timespec_of);
    let left = left.as_ref().map_or(null(), std::ptr::from_ref);
    // SAFETY: one live entry, null or a live timespec, and no signal mask.
    match unsafe { real::ppoll(&raw mut entry, 1, left, null()) } {
        ..0 => Err(Errno(errno::get())),
        0 => Err(Errno::AGAIN),
        _ => Ok(()),
    }
}

/// What there is on the socket, as far as it fits, without taking it; none is the end.
pub(crate) fn peek(socket: RawFd, target: &mut [u8]) -> Result<usize, Errno> {
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let nobody = null::<libc::sockaddr>();
    let (bytes, length) = (target.as_mut_ptr(), target.len());
    // SAFETY: the pointer and the length of a live slice, and no address asked for.
    counted(unsafe { call!(libc::SYS_recvfrom, socket, bytes, length, flags, nobody, nobody) })
}

/// How many bytes there are on the socket.
pub(crate) fn unread_bytes(socket: RawFd) -> usize {
    const UNREAD: c_long = libc::FIONREAD.cast_signed();
    let mut count: c_int = 0;
    // SAFETY: the kernel writes one live number.
    let result = unsafe { call!(libc::SYS_ioctl, socket, UNREAD, &raw mut count) };
    result.map_or(0, |_| usize::try_from(count).unwrap_or(0))
}

/// Whether the kernel has room for what is written to the socket.
pub(crate) fn is_writable(socket: RawFd) -> bool {
    ready_now(socket, u32::from(libc::POLLOUT.cast_unsigned())) != 0
}

/// What of `events` the kernel has now for `poll`, and for epoll.
pub(crate) fn ready_now(fd: RawFd, events: u32) -> u32 {
    // The bits above are epoll's own.
    let events = u16::try_from(events & u32::from(u16::MAX)).unwrap_or(0).cast_signed();
    let mut entry = [pollfd { fd, events, revents: 0 }];
    match ppoll(&mut entry, Some(NO_TIME), null()) {
        Ok(_) => entry[0].revents.cast_unsigned().into(),
        Err(_) => 0,
    }
}

/// Whether the socket's peer has ended. Takes nothing.
pub(crate) fn has_hung_up(socket: RawFd) -> bool {
    ready_now(socket, u32::from(libc::POLLRDHUP.cast_unsigned())) != 0
}

/// Sends without waiting and without SIGPIPE.
pub(crate) fn send(socket: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let nobody = null::<libc::sockaddr>();
    let (bytes, length) = (bytes.as_ptr(), bytes.len());
    // SAFETY: the pointer and the length of a live slice, and no address.
    counted(unsafe { call!(libc::SYS_sendto, socket, bytes, length, flags, nobody, 0) })
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
    counted(unsafe { call!(libc::SYS_recvfrom, socket, bytes, length, flags, nobody, nobody) })
}

/// `shutdown(2)`. What became of the socket, its user hears from it.
pub(crate) fn shut_down(socket: RawFd, how: c_int) {
    // SAFETY: takes no pointer.
    let _result = unsafe { call!(libc::SYS_shutdown, socket, how) };
}

/// Lets single bytes go at once: those of doorbells do not wait for acknowledgements.
pub(crate) fn send_at_once(socket: RawFd) {
    let on: c_int = 1;
    let (level, name, value, length) =
        (libc::IPPROTO_TCP, libc::TCP_NODELAY, &raw const on, size_of_val(&on));
    // SAFETY: the pointer and the length are those of a live value.
    let _result = unsafe { call!(libc::SYS_setsockopt, socket, level, name, value, length) };
}

/// `SO_RCVLOWAT`.
pub(crate) fn set_least_bytes(socket: RawFd, bytes: usize) {
    let least = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    let (level, name, value, length) =
        (libc::SOL_SOCKET, libc::SO_RCVLOWAT, &raw const least, size_of_val(&least));
    // SAFETY: the pointer and the length are those of a live value.
    let _result = unsafe { call!(libc::SYS_setsockopt, socket, level, name, value, length) };
}

/// `ppoll(2)`; without a `timeout` it waits for ever.
pub(crate) fn ppoll(
    entries: &mut [pollfd],
    mut timeout: Option<timespec>,
    mask: *const sigset_t,
) -> Result<usize, Errno> {
    // The kernel writes the time that is left: into our copy.
    let timeout = timeout.as_mut().map_or(null_mut(), std::ptr::from_mut);
    let (first, count) = (entries.as_mut_ptr(), entries.len());
    // SAFETY: a live slice, null or a live timespec, and the caller's signal mask.
    counted(unsafe { call!(libc::SYS_ppoll, first, count, timeout, mask, KERNEL_SIGSET_BYTES) })
}

/// `epoll_create1(2)`, close-on-exec, with a number not less than `below`.
pub(crate) fn epoll_create(below: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: takes no pointer.
    let low = unsafe { call!(libc::SYS_epoll_create1, libc::EPOLL_CLOEXEC) }?;
    Ok(raised(RawFd::try_from(low).unwrap_or(-1), below))
}

/// `eventfd(2)`, non-blocking and close-on-exec, with a number not less than `below`.
pub(crate) fn eventfd(below: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: takes no pointer.
    let low = unsafe { call!(libc::SYS_eventfd2, 0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }?;
    Ok(raised(RawFd::try_from(low).unwrap_or(-1), below))
}

/// Adds one to an eventfd. Failing means that it is signalled as far as it can be.
pub(crate) fn signal_eventfd(fd: RawFd) {
    let one = 1_u64;
    // SAFETY: eight readable bytes.
    let _result = unsafe { call!(libc::SYS_write, fd, &raw const one, size_of_val(&one)) };
}

/// Another number, not below `below`, for the descriptor `low`, which is closed.
pub(crate) fn raised(low: RawFd, below: RawFd) -> RawFd {
    match duplicate(low, below) {
        Ok(high) => {
            close(low);
            high
        }
        // A program that may not have so many.
        Err(_) => low,
    }
}

/// A duplicate, close-on-exec, with a number not less than `below`.
pub(crate) fn duplicate(fd: RawFd, below: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: takes no pointer.
    let high = unsafe { call!(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, below) }?;
    Ok(RawFd::try_from(high).unwrap_or(-1))
}

/// `close(2)` of what is our own.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: takes no pointer.
    let _result = unsafe { call!(libc::SYS_close, fd) };
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
    unsafe { call!(libc::SYS_epoll_ctl, epfd, operation, fd, event) }?;
    Ok(())
}

/// `epoll_pwait(2)` into a slice, within `timeout_ns`; `None` is for ever.
pub(crate) fn epoll_wait(
    epfd: RawFd,
    events: &mut [epoll_event],
    timeout_ns: Option<u64>,
    mask: *const sigset_t,
) -> Result<usize, Errno> {
    let capacity = c_int::try_from(events.len()).unwrap_or(c_int::MAX);
    // Rounded up, so that a wait never spins on the last fraction.
    let timeout_ms =
        timeout_ns.map_or(-1, |ns| c_int::try_from(ns.div_ceil(1_000_000)).unwrap_or(c_int::MAX));
    let first = events.as_mut_ptr();
    // SAFETY: a live slice of so many events, and the caller's signal mask.
    counted(unsafe {
        call!(libc::SYS_epoll_pwait, epfd, first, capacity, timeout_ms, mask, KERNEL_SIGSET_BYTES,)
    })
}

/// Whether the file description of `fd` is in non-blocking mode.
pub(crate) fn is_nonblocking(fd: RawFd) -> bool {
    // SAFETY: takes no pointer.
    let flags = unsafe { call!(libc::SYS_fcntl, fd, libc::F_GETFL) };
    flags.is_ok_and(|flags| flags & c_long::from(libc::O_NONBLOCK) != 0)
}

/// Whether `fd` is open.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: takes no pointer.
    unsafe { call!(libc::SYS_fcntl, fd, libc::F_GETFD) }.is_ok()
}

/// Lets `fd` end with the program's image, at `execve(2)`. Returns whether it would not have.
pub(crate) fn close_on_exec(fd: RawFd) -> bool {
    // SAFETY: takes no pointer. What is not open needs no flag.
    let flags = unsafe { call!(libc::SYS_fcntl, fd, libc::F_GETFD) };
    let is_kept = flags.is_ok_and(|flags| flags & c_long::from(libc::FD_CLOEXEC) == 0);
    if is_kept {
        // SAFETY: takes no pointer.
        let _result = unsafe { call!(libc::SYS_fcntl, fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    is_kept
}

/// The contrary.
pub(crate) fn keep_on_exec(fd: RawFd) {
    // SAFETY: takes no pointer.
    let _result = unsafe { call!(libc::SYS_fcntl, fd, libc::F_SETFD, 0) };
}

/// The socket's `SO_RCVTIMEO` or `SO_SNDTIMEO`, whichever is named, if it has one.
pub(crate) fn timeout_ns(socket: RawFd, name: c_int) -> Option<u64> {
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut timeout: libc::timeval = unsafe { std::mem::zeroed() };
    socket_option(socket, name, &mut timeout)?;
    let us = timeout.tv_sec.cast_unsigned().saturating_mul(1_000_000);
    let us = us.saturating_add(timeout.tv_usec.cast_unsigned());
    (us > 0).then_some(us.saturating_mul(1000))
}

/// Whether `fd` is a stream socket.
pub(crate) fn is_stream_socket(fd: RawFd) -> bool {
    let mut kind: c_int = 0;
    socket_option(fd, libc::SO_TYPE, &mut kind).is_some() && kind == libc::SOCK_STREAM
}

fn socket_option<T: Copy>(fd: RawFd, name: c_int, value: &mut T) -> Option<()> {
    let mut length = libc::socklen_t::try_from(size_of::<T>()).ok()?;
    let (value, length) = (std::ptr::from_mut(value), &raw mut length);
    // SAFETY: a live value of so many bytes, in which any bytes are valid for the
    // two types that are asked for above.
    unsafe { call!(libc::SYS_getsockopt, fd, libc::SOL_SOCKET, name, value, length) }.ok()?;
    Some(())
}

/// What tells one open file from another, as long as both are open.
pub(crate) fn identity(fd: RawFd) -> Option<(u64, u64)> {
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a live struct to write; on 64-bit machines it is the kernel's.
    unsafe { call!(libc::SYS_fstat, fd, &raw mut status) }.ok()?;
    Some((status.st_dev, status.st_ino))
}

/// This process, from the kernel: a child by `vfork` shares our memory.
pub(crate) fn process_id() -> libc::pid_t {
    // SAFETY: takes no pointer.
    let id = unsafe { call!(libc::SYS_getpid) };
    id.ok().and_then(|id| libc::pid_t::try_from(id).ok()).unwrap_or(0)
}

/// Now, in nanoseconds of a clock that never goes back.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The same as of the last tick, some milliseconds ago at most: a few loads, where the moment
/// itself takes long.
pub(crate) fn tick_ns() -> u64 {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// So many nanoseconds, as the kernel takes them.
pub(crate) fn timespec_of(ns: u64) -> timespec {
    let seconds = libc::time_t::try_from(ns / 1_000_000_000).unwrap_or(libc::time_t::MAX);
    let rest = c_long::try_from(ns % 1_000_000_000).unwrap_or(0);
    timespec { tv_sec: seconds, tv_nsec: rest }
}

/// Lets go of the CPU for so long; a signal ends it.
pub(crate) fn nap(ns: i64) {
    let time = timespec { tv_sec: 0, tv_nsec: ns };
    // SAFETY: a live timespec, and no place for the rest.
    let _result = unsafe { call!(libc::SYS_nanosleep, &raw const time, null::<timespec>()) };
}

/// Raises SIGPIPE, as writing to a socket that nobody reads does.
pub(crate) fn raise_sigpipe() {
    // SAFETY: takes no pointer.
    unsafe { libc::raise(libc::SIGPIPE) };
}

/// Sends `info` to this thread again. If it is blocked, it is delivered as soon as it is not.
pub(crate) fn raise_again(signal: c_int, info: &libc::siginfo_t) {
    // Where there is no room for what it says of itself (RLIMIT_SIGPENDING) it comes as kill(2)
    // sends it, which needs none; where a filter forbids that call, by one that no program does
    // without.
    let mut plain = *info;
    plain.si_code = libc::SI_USER;
    let sent = queue_signal(signal, info).or_else(|_| queue_signal(signal, &plain));
    if sent.is_err() {
        let (process, thread) = (process_id(), thread_id());
        // SAFETY: takes no pointer.
        let _result = unsafe { call!(libc::SYS_tgkill, process, thread, signal) };
    }
}

fn queue_signal(signal: c_int, info: &libc::siginfo_t) -> Result<c_long, Errno> {
    let (process, thread) = (process_id(), thread_id());
    let info = std::ptr::from_ref(info);
    // SAFETY: a live siginfo, which the kernel copies.
    unsafe { call!(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, info) }
}

/// This thread's number in the kernel.
fn thread_id() -> libc::pid_t {
    // SAFETY: takes no pointer.
    let id = unsafe { call!(libc::SYS_gettid) };
    id.ok().and_then(|id| libc::pid_t::try_from(id).ok()).unwrap_or(0)
}

/// Whether this is a signal handler's own stack (sigaltstack(2)).
pub(crate) fn is_on_signal_stack() -> bool {
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut now: libc::stack_t = unsafe { std::mem::zeroed() };
    // SAFETY: nothing to set, and a live struct to write.
    let asked = unsafe { call!(libc::SYS_sigaltstack, null::<libc::stack_t>(), &raw mut now) };
    asked.is_ok() && now.ss_flags & libc::SS_ONSTACK != 0
}

/// Sets this thread's signal mask.
pub(crate) fn set_signal_mask(mask: u64) {
    let before = null::<u64>();
    // SAFETY: the kernel reads one live mask of its own size.
    let _result = unsafe {
        call!(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            before,
            KERNEL_SIGSET_BYTES,
        )
    };
}

/// A number that no other thread of this process has.
pub(crate) fn thread() -> u64 {
    std::ptr::from_ref(thread::own()).addr() as u64
}
