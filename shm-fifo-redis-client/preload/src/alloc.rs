//! Memory of this library's own.
//!
//! The program's `malloc` may be what a signal handler interrupted, and a handler may call
//! what stands in here: so nothing in here calls it. (That a handler does not interrupt this
//! heap either is the concern of `signals`.)
#![allow(unsafe_code)]

#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Keeps the heap whole in a child that is forked while another thread allocates.
pub(crate) fn prepare() {
    // SAFETY: called once, before the program starts a thread.
    unsafe { dlmalloc::enable_alloc_after_fork() };
}
