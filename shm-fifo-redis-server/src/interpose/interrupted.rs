//! What a signal handler of the server does, at every instruction of what it may interrupt.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use super::hooks;
use crate::offers::{self, Claim, Way};
use libc::c_int;
use shm_fifo::{Region, region::Token, vfd};
use std::arch::asm;
use std::ffi::c_void;
use std::io::IoSlice;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI32, AtomicUsize};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

static INTERRUPTIONS: AtomicUsize = AtomicUsize::new(0);
/// An epoll instance that watches no connection.
static EPOLL: AtomicI32 = AtomicI32::new(-1);

/// Opens, writes and closes, as Redis does with its log, and watches a file for a moment.
extern "C" fn handle(_signal: c_int) {
    // SAFETY: this thread's own errno.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: no pointer.
    let file = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    let one = 1_u64;
    let epfd = EPOLL.load(SeqCst);
    let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 7 };
    // SAFETY: as `write` asks for: eight bytes.
    let written = unsafe { hooks::write(file, (&raw const one).cast::<c_void>(), 8) };
    // SAFETY: a live event.
    let added = unsafe { hooks::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, file, &raw mut event) };
    // SAFETY: the file that was just made.
    let closed = unsafe { hooks::close(file) };
    if (written, added, closed) == (8, 0, 0) {
        INTERRUPTIONS.fetch_add(1, SeqCst);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Runs `action` with a signal behind each of its instructions: the processor's trap flag.
fn interrupted_everywhere(action: impl FnOnce()) {
    // SAFETY: a plain C struct, for which zeros are valid: no flags, an empty mask.
    let mut handler: libc::sigaction = unsafe { std::mem::zeroed() };
    handler.sa_sigaction = handle as *const () as usize;
    // SAFETY: a handler of the right signature.
    let set = unsafe { libc::sigaction(libc::SIGTRAP, &raw const handler, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    // SAFETY: sets the flag; the kernel clears it in the handler and sets it behind that.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    action();
    // SAFETY: clears the flag.
    unsafe { asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
}

fn new_epoll() -> OwnedFd {
    // SAFETY: no pointer; a new descriptor that nobody else has.
    unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }
}

fn watch(epfd: RawFd, fd: RawFd) {
    let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 1 };
    // SAFETY: a live event.
    let added = unsafe { hooks::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    assert_eq!(added, 0);
}

/// The life of a connection, in all its parts that a hook may meet.
fn connect_move_and_close(epfd: RawFd) {
    let (here, _there) = UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    let fd = here.as_raw_fd();
    watch(epfd, fd);
    make_offer(1, fd);
    // Another one in its place.
    let token = make_offer(1, fd);
    assert!(!offers::is_unread(1));
    assert!(matches!(offers::claim(1, token), Claim::Granted(claimed) if claimed == fd));
    assert!(vfd::is_between_writes(fd));
    vfd::start(fd, offers::take(1).unwrap(), 1, b"+OK\r\n").unwrap();
    vfd::write(fd, &[IoSlice::new(b"hello")]).unwrap().unwrap();
    assert!(vfd::read(fd, &mut [0; 8]).unwrap().is_err());
    vfd::sweep();
    vfd::before_close(fd);
    drop(here);
}

fn make_offer(client_id: u64, fd: RawFd) -> Token {
    let region = Region::create(4096).unwrap();
    let token = region.token();
    offers::make(client_id, fd, Way::Connection, region, token);
    token
}

/// An offer whose connection ends before it is started.
fn offer_and_close() {
    let (here, _there) = UnixStream::pair().unwrap();
    make_offer(2, here.as_raw_fd());
    vfd::before_close(here.as_raw_fd());
    offers::drop_old();
    assert_eq!(offers::pending().offers, 0);
}

#[test]
fn a_signal_handler_may_open_write_and_close_wherever_it_interrupts() {
    let (done, watched) = channel();
    std::thread::spawn(move || {
        let patience = Duration::from_secs(60);
        if watched.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            std::process::abort();
        }
    });
    vfd::prepare().unwrap();
    let (epoll, others) = (new_epoll(), new_epoll());
    EPOLL.store(others.as_raw_fd(), SeqCst);

    interrupted_everywhere(|| {
        connect_move_and_close(epoll.as_raw_fd());
        offer_and_close();
    });

    assert!(INTERRUPTIONS.load(SeqCst) > 10_000, "{INTERRUPTIONS:?}");
    assert_eq!(vfd::usage().sessions, 0);
    let _: Result<(), _> = done.send(());
}
