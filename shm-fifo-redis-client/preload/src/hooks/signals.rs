//! How a program installs signal handlers.
#![allow(unsafe_code)]

use crate::signals::install;
use crate::{real, settings};
use libc::{c_int, sigaction as Action, sighandler_t};

/// # Safety
/// As `sigaction(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn sigaction(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    // SAFETY: the caller's own arguments.
    unsafe {
        match settings::get() {
            Some(_) => install(signal, new, old),
            None => real::sigaction(signal, new, old),
        }
    }
}

/// # Safety
/// As `sigaction(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __sigaction(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    // SAFETY: the caller's own arguments.
    unsafe { sigaction(signal, new, old) }
}

/// `signal(2)`, with what is different between systems in `flags`.
unsafe fn set(signal: c_int, handler: sighandler_t, flags: c_int) -> sighandler_t {
    // SAFETY: plain C structs, for which zeros are valid.
    let (mut new, mut old): (Action, Action) = unsafe { std::mem::zeroed() };
    new.sa_sigaction = handler;
    new.sa_flags = flags;
    // SAFETY: live structs.
    match unsafe { sigaction(signal, &raw const new, &raw mut old) } {
        0 => old.sa_sigaction,
        _ => libc::SIG_ERR,
    }
}

macro_rules! simple {
    ($(fn $name:ident = $flags:expr;)+) => {$(
        /// # Safety
        /// As `signal(2)`.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(signal: c_int, handler: sighandler_t) -> sighandler_t {
            if settings::get().is_none() {
                // SAFETY: the caller's own arguments.
                return unsafe { real::$name(signal, handler) };
            }
            // SAFETY: the caller's own arguments.
            unsafe { set(signal, handler, $flags) }
        }
    )+};
}

const SYSTEM_V: c_int = libc::SA_RESETHAND | libc::SA_NODEFER;

simple! {
    fn signal = libc::SA_RESTART;
    fn bsd_signal = libc::SA_RESTART;
    fn ssignal = libc::SA_RESTART;
    fn sysv_signal = SYSTEM_V;
    fn __sysv_signal = SYSTEM_V;
}

/// Installs by the C library's own means, and then by ours what that has installed.
///
/// # Safety
/// As `sigset(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn sigset(signal: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: plain C structs, for which zeros are valid.
    let (mut before, mut now): (Action, Action) = unsafe { std::mem::zeroed() };
    // SAFETY: live structs, and the caller's own arguments.
    unsafe {
        sigaction(signal, std::ptr::null(), &raw mut before);
        let old = real::sigset(signal, handler);
        real::sigaction(signal, std::ptr::null(), &raw mut now);
        if now.sa_sigaction == handler {
            sigaction(signal, &raw const now, std::ptr::null_mut());
        }
        // SIG_HOLD, and errors, are no handlers.
        let is_handler = !matches!(old, libc::SIG_ERR | SIG_HOLD);
        if is_handler { before.sa_sigaction } else { old }
    }
}

/// The signal was blocked.
const SIG_HOLD: sighandler_t = 2;
