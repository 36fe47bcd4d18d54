//! The program's signal handlers, which may call anything that is async-signal-safe
//! (signal-safety(7)) at any moment: also in the middle of this library, whose locks and
//! whose heap the interrupted thread may hold.
//!
//! So no handler runs there. This library stands before each handler that the program
//! installs. While a thread is busy in here, a signal is kept, and all others are blocked,
//! by changing the mask that the kernel restores when the handler returns. As soon as the
//! thread has let go of everything, the signal is sent to it again and the mask restored:
//! the kernel delivers it as it would have, some microseconds later.
//!
//! Several signals may come at once: the kernel puts a frame for each on the stack before it
//! lets any of their handlers run. The last one's runs first, and is kept; those below find
//! that, and leave theirs pending.
#![allow(unsafe_code)]

use crate::thread::{self, Thread};
use crate::{real, sleeps, sys};
use libc::{c_int, c_void, sigaction as Action, siginfo_t, ucontext_t};
use std::mem::transmute;
use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicUsize, compiler_fence};

/// The largest number of a signal, plus one.
const SIGNALS: usize = 65;
/// All of them, as the kernel's mask.
const ALL: u64 = !0;

/// A signal came while a thread was about to sleep: the sleep ends with `EINTR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupted {
    /// Its handler was installed so that calls which can do so go on.
    pub(crate) restarts: bool,
}

/// Runs `work`, which takes locks or allocates. The program's handlers run afterwards.
#[inline]
pub(crate) fn put_off<T>(work: impl FnOnce() -> T) -> T {
    let thread = thread::own();
    let was_busy = thread.set_busy(true);
    if !was_busy && thread.has_sleeps.get() {
        let here = 0;
        sleeps::end_deeper_than(&raw const here);
    }
    let result = work();
    is_done(thread, was_busy);
    result
}

/// Runs `sleep`, within `put_off`, while nothing is held: handlers may run. It does not
/// sleep where one has just run.
pub(crate) fn let_in<T>(sleep: impl FnOnce() -> T) -> Result<T, Interrupted> {
    let thread = thread::own();
    let was_busy = thread.set_busy(false);
    let result = if thread.has_late.get() {
        Err(Interrupted { restarts: thread.deliver_late() })
    } else {
        Ok(sleep())
    };
    thread.set_busy(was_busy);
    result
}

/// What the thread was busy with is done: as before, it is or is not in the middle of something
/// else.
#[inline]
fn is_done(thread: &Thread, was_busy: bool) {
    thread.set_busy(was_busy);
    if !was_busy && thread.has_late.get() {
        thread.deliver_late();
    }
}

/// A fork begins, in this thread. Until it is done the heap is locked, and no handler may come.
pub(crate) fn fork_begins() {
    let thread = thread::own();
    thread.was_busy_before_fork.set(thread.set_busy(true));
}

/// It is done.
pub(crate) fn fork_is_done() {
    let thread = thread::own();
    is_done(thread, thread.was_busy_before_fork.get());
}

/// The same in the child: a signal that came before is its parent's.
pub(crate) fn fork_is_done_in_child() {
    let thread = thread::own();
    if thread.has_late.get() && thread.kept_by.get() != sys::process_id() {
        thread.has_late.set(false);
        sys::set_signal_mask(thread.mask.get());
    }
    fork_is_done();
}

/// Whether this thread is in the middle of something: a call that it makes is our own.
#[inline]
pub(crate) fn is_busy() -> bool {
    thread::own().is_busy.get()
}

/// Whether a signal waits for this thread to let go.
#[inline]
pub(crate) fn is_waiting() -> bool {
    thread::own().has_late.get()
}

impl Thread {
    /// Says whether it may be in the middle of something; returns what was said before.
    #[inline]
    fn set_busy(&self, is_busy: bool) -> bool {
        // ORDERING, SeqCst: pairs with `handle`, which is this thread, too, and interrupts it
        // anywhere: the compiler is to leave what it is busy with, and the look for a signal that
        // was kept meanwhile, on this line's side on which they are written.
        compiler_fence(SeqCst);
        let before = self.is_busy.replace(is_busy);
        compiler_fence(SeqCst);
        before
    }

    /// In a handler: keeps the signal, and lets no other in.
    fn keep(&self, info: &siginfo_t, context: &mut ucontext_t) {
        sys::set_signal_mask(ALL);
        let mask = (&raw mut context.uc_sigmask).cast::<u64>();
        // SAFETY: the kernel's part of the mask in the live context that it passed.
        let before = unsafe { mask.replace(ALL) };
        // What is kept already interrupted this handler at its beginning: that mask is this one's.
        self.mask.set(before);
        if self.has_late.get() {
            return sys::raise_again(info.si_signo, info);
        }
        // SAFETY: only this thread reaches it, and all signals are blocked until it was taken.
        unsafe { (*self.late.get()).write(*info) };
        self.kept_by.set(sys::process_id());
        self.has_late.set(true);
    }

    /// Returns whether calls go on after it.
    #[cold]
    fn deliver_late(&self) -> bool {
        self.has_late.set(false);
        // SAFETY: `keep` wrote it. All signals are blocked until the mask is restored.
        let info = unsafe { (*self.late.get()).assume_init_ref() };
        let flags = index_of(info.si_signo).map_or(0, |index| FLAGS[index].load(Relaxed));
        sys::raise_again(info.si_signo, info);
        sys::set_signal_mask(self.mask.get());
        flags & libc::SA_RESTART != 0
    }
}

/// What the program installed for each signal. Read in handlers: no lock.
static HANDLERS: [AtomicUsize; SIGNALS] = [const { AtomicUsize::new(0) }; SIGNALS];
static FLAGS: [AtomicI32; SIGNALS] = [const { AtomicI32::new(0) }; SIGNALS];

/// These are about the very instruction that raised them: they cannot wait.
fn is_synchronous(info: &siginfo_t) -> bool {
    let by_instruction = matches!(
        info.si_signo,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP | libc::SIGSYS
    );
    by_instruction && info.si_code > 0
}

/// Stands before the program's handlers.
unsafe extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes both, for the time of this call.
    let (known, interrupted) = unsafe { (&*info, &mut *context.cast::<ucontext_t>()) };
    let thread = thread::own();
    if thread.is_busy.get() && !is_synchronous(known) {
        return thread.keep(known, interrupted);
    }
    let Some(index) = index_of(signal) else { return };
    let flags = FLAGS[index].load(Relaxed);
    if flags & libc::SA_RESETHAND != 0 {
        // SAFETY: a plain C struct, for which zeros are valid: SIG_DFL.
        let default: Action = unsafe { std::mem::zeroed() };
        // SAFETY: a live action to read.
        unsafe { real::sigaction(signal, &raw const default, std::ptr::null_mut()) };
    }
    match HANDLERS[index].load(Relaxed) {
        libc::SIG_DFL | libc::SIG_IGN => {}
        handler if flags & libc::SA_SIGINFO != 0 => {
            type Informed = unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
            // SAFETY: the program installed it as a function of this type.
            let handler: Informed = unsafe { transmute(handler) };
            // SAFETY: what the kernel passed.
            unsafe { handler(signal, info, context) };
        }
        handler => {
            // SAFETY: the program installed it as a function of this type.
            let handler: unsafe extern "C" fn(c_int) = unsafe { transmute(handler) };
            // SAFETY: what the kernel passed.
            unsafe { handler(signal) };
        }
    }
}

fn index_of(signal: c_int) -> Option<usize> {
    usize::try_from(signal).ok().filter(|&index| index > 0 && index < SIGNALS)
}

/// `sigaction(2)` as the program means it.
///
/// # Safety
/// As `sigaction(2)`.
pub(crate) unsafe fn install(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    let Some(index) = index_of(signal) else {
        // SAFETY: the caller's own arguments.
        return unsafe { real::sigaction(signal, new, old) };
    };
    let before = (HANDLERS[index].load(Relaxed), FLAGS[index].load(Relaxed));
    // SAFETY: null, or an action to read.
    let mut ours = unsafe { new.as_ref() }.copied();
    if let Some(action) = &mut ours {
        let (handler, flags) = (action.sa_sigaction, action.sa_flags);
        // A program may have got ours by a call that is not seen, and puts it back.
        let is_ours = handler == handle as *const () as usize;
        if handler != libc::SIG_DFL && handler != libc::SIG_IGN && !is_ours {
            action.sa_sigaction = handle as *const () as usize;
            // A signal that is kept comes twice: its handler is reset at the second time.
            action.sa_flags = flags & !libc::SA_RESETHAND | libc::SA_SIGINFO;
            FLAGS[index].store(flags, Relaxed);
            // ORDERING, Release: with the flags; a handler that is being replaced while its
            // signal comes may be called with either's, as on any system.
            HANDLERS[index].store(handler, Release);
        }
    }
    let new = ours.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: null or a live action; the caller's own place for the old one.
    let result = unsafe { real::sigaction(signal, new, old) };
    if result != 0 {
        FLAGS[index].store(before.1, Relaxed);
        HANDLERS[index].store(before.0, SeqCst);
    // SAFETY: null, or the caller's place, which was written.
    } else if let Some(old) = unsafe { old.as_mut() }
        && old.sa_sigaction == handle as *const () as usize
    {
        const OF_THE_PROGRAM: c_int = libc::SA_SIGINFO | libc::SA_RESETHAND;
        old.sa_sigaction = before.0;
        old.sa_flags = old.sa_flags & !OF_THE_PROGRAM | before.1 & OF_THE_PROGRAM;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    static CALLS: [AtomicU32; SIGNALS] = [const { AtomicU32::new(0) }; SIGNALS];

    extern "C" fn count(signal: c_int) {
        CALLS[index_of(signal).unwrap_or(0)].fetch_add(1, Relaxed);
    }

    fn calls(signal: c_int) -> u32 {
        CALLS[index_of(signal).unwrap_or(0)].load(Relaxed)
    }

    fn install_count(signal: c_int) {
        // SAFETY: a plain C struct, for which zeros are valid.
        let mut action: Action = unsafe { std::mem::zeroed() };
        action.sa_sigaction = count as *const () as usize;
        // SAFETY: a live action, and no place for the old one.
        assert_eq!(unsafe { install(signal, &raw const action, std::ptr::null_mut()) }, 0);
    }

    /// Of this thread.
    fn mask(how: c_int, signals: &[c_int]) -> libc::sigset_t {
        // SAFETY: plain C structs, for which zeros are valid, and live ones to read and write.
        unsafe {
            let (mut set, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigemptyset(&raw mut set);
            for &signal in signals {
                libc::sigaddset(&raw mut set, signal);
            }
            libc::pthread_sigmask(how, &raw const set, &raw mut before);
            before
        }
    }

    fn is_blocked(signal: c_int) -> bool {
        let now = mask(libc::SIG_BLOCK, &[]);
        // SAFETY: a live set.
        unsafe { libc::sigismember(&raw const now, signal) == 1 }
    }

    #[test]
    fn signals_that_come_at_once_are_all_delivered() {
        let signals = [libc::SIGUSR1, libc::SIGURG];
        signals.into_iter().for_each(install_count);
        mask(libc::SIG_BLOCK, &signals);
        for signal in signals {
            // SAFETY: takes no pointer.
            unsafe { libc::raise(signal) };
        }
        put_off(|| {
            mask(libc::SIG_UNBLOCK, &signals);
            assert_eq!(signals.map(calls), [0, 0]);
        });
        assert_eq!(signals.map(calls), [1, 1]);
        assert_eq!(signals.map(is_blocked), [false, false]);
    }

    #[test]
    fn a_kept_signal_comes_where_no_room_is_left_for_signals() {
        let signal = libc::SIGRTMIN() + 3;
        install_count(signal);
        // SAFETY: a plain C struct, for which zeros are valid.
        let mut info: siginfo_t = unsafe { std::mem::zeroed() };
        info.si_signo = signal;
        info.si_code = libc::SI_QUEUE;
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a live struct to write.
        unsafe { libc::getrlimit(libc::RLIMIT_SIGPENDING, &raw mut before) };
        let none = libc::rlimit { rlim_cur: 0, ..before };
        // SAFETY: live structs to read.
        unsafe {
            libc::setrlimit(libc::RLIMIT_SIGPENDING, &raw const none);
            sys::raise_again(signal, &info);
            libc::setrlimit(libc::RLIMIT_SIGPENDING, &raw const before);
        }
        assert_eq!(calls(signal), 1);
    }
}
