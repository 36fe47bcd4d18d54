//! What each thread has of its own in here.
//!
//! It lies where the dynamic linker puts the data of what is there from the start, beside the
//! thread itself: reaching it calls nothing. What `thread_local!` makes in a library is reached
//! by `__tls_get_addr`, which may allocate once the program has loaded a library, and signal
//! handlers come here, too. (Rust has no stable word for that; the linker makes the one of the
//! other in programs only, not in libraries.)
#![allow(unsafe_code)]

use crate::sleeps::Sleeps;
use libc::siginfo_t;
use std::arch::{asm, global_asm};
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;

/// All of it begins as zeros.
#[repr(C, align(16))]
pub(crate) struct Thread {
    /// Whether it may be in the middle of something.
    pub(crate) is_busy: Cell<bool>,
    pub(crate) was_busy_before_fork: Cell<bool>,
    /// A signal was kept, in the process `kept_by`: `late`. What was blocked before is `mask`.
    pub(crate) has_late: Cell<bool>,
    /// It has made an epoll instance, and told none of anything since.
    pub(crate) made_epoll: Cell<bool>,
    /// It is asleep, or has been: see `sleeps`.
    pub(crate) has_sleeps: Cell<bool>,
    pub(crate) sleeps: Cell<*mut Sleeps>,
    pub(crate) kept_by: Cell<libc::pid_t>,
    pub(crate) mask: Cell<u64>,
    pub(crate) late: UnsafeCell<MaybeUninit<siginfo_t>>,
}

global_asm!(
    ".pushsection .tbss.shm_fifo_thread,\"awT\",@nobits",
    ".balign 16",
    ".globl shm_fifo_thread",
    ".hidden shm_fifo_thread",
    ".type shm_fifo_thread,@object",
    ".size shm_fifo_thread, {size}",
    "shm_fifo_thread: .zero {size}",
    ".popsection",
    size = const size_of::<Thread>(),
);

/// That of the thread that calls.
#[inline]
pub(crate) fn own() -> &'static Thread {
    // SAFETY: zeros are a `Thread`, aligned as it wants, and all of it is in cells. Only its own
    // thread reaches it: no reference leaves this one, as cells are not `Sync`. It is there as
    // long as the thread is.
    unsafe { &*place() }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn place() -> *const Thread {
    let place;
    // SAFETY: as the ABI has it (initial exec): the thread's own address, and behind it a
    // distance that the dynamic linker has written.
    unsafe {
        asm!(
            "mov {place}, qword ptr fs:[0]",
            "add {place}, qword ptr [rip + shm_fifo_thread@GOTTPOFF]",
            place = out(reg) place,
            options(pure, readonly, nostack),
        );
    }
    place
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn place() -> *const Thread {
    let place;
    // SAFETY: as the ABI has it (initial exec): the thread's own address, and behind it a
    // distance that the dynamic linker has written.
    unsafe {
        asm!(
            "mrs {place}, tpidr_el0",
            "adrp {distance}, :gottprel:shm_fifo_thread",
            "ldr {distance}, [{distance}, :gottprel_lo12:shm_fifo_thread]",
            "add {place}, {place}, {distance}",
            place = out(reg) place,
            distance = out(reg) _,
            options(pure, readonly, nostack),
        );
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_its_own() {
        own().mask.set(1);
        let other = std::thread::spawn(|| {
            assert_eq!(own().mask.replace(2), 0);
            std::ptr::from_ref(own()).addr()
        });
        assert_ne!(other.join().ok(), Some(std::ptr::from_ref(own()).addr()));
        assert_eq!(own().mask.replace(0), 1);
    }
}
