//! Threads that are cancelled.
#![allow(unsafe_code)]

use crate::errno::untouched_by;
use crate::real;
use libc::{c_int, pthread_t};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// Some thread may have been told to end.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// # Safety
/// As `pthread_cancel(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cancel(thread: pthread_t) -> c_int {
    IS_USED.store(true, Relaxed);
    // SAFETY: the caller's own argument.
    unsafe { real::pthread_cancel(thread) }
}

/// A call that the C library would end a cancelled thread in, also where it need not wait.
#[inline]
pub(super) fn may_end_here() {
    if IS_USED.load(Relaxed) {
        // SAFETY: nothing is held that would have to be let go of.
        untouched_by(|| unsafe { real::pthread_testcancel() });
    }
}
