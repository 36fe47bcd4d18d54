//! Processes that are left alone although this library is in them: those of a C library whose
//! functions and structures are not known here, and those of a sanitizer, which has to see all
//! that the program does. There each call is passed on as it is.
#![allow(unsafe_code)]

use crate::c_library;
use std::arch::global_asm;

/// Whether this process is one of them.
pub(crate) fn is_left_alone() -> bool {
    !c_library::is_known() || has_sanitizer()
}

const SANITIZERS: usize = 5;

// What the dynamic linker does not find leaves zero: a sanitizer that is about to start has
// no memory yet, which `dlsym` may need.
global_asm!(
    ".pushsection .data.rel.ro.shm_fifo,\"aw\",@progbits",
    ".balign 8",
    ".weak __asan_init, __hwasan_init, __lsan_init, __msan_init, __tsan_init",
    ".globl shm_fifo_sanitizers",
    ".hidden shm_fifo_sanitizers",
    "shm_fifo_sanitizers:",
    ".quad __asan_init, __hwasan_init, __lsan_init, __msan_init, __tsan_init",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "shm_fifo_sanitizers"]
    static SANITIZER_STARTS: [usize; SANITIZERS];
}

/// Whether the program was compiled with one of those that keep a record of its memory or
/// its threads.
pub(crate) fn has_sanitizer() -> bool {
    // SAFETY: words that are written before anything of this library runs.
    unsafe { SANITIZER_STARTS }.into_iter().any(|start| start != 0)
}
