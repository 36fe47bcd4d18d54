//! What the standard library takes from elsewhere, and not every process has.
//!
//! Children of a preloaded program may have another C library, or an older one, and the
//! dynamic linker ends a program whose preloaded library needs another library, a symbol or
//! a symbol's version that is not there. So this one needs the C library alone, and of it
//! what all have (glibc since 2.18): `link/libc.so` keeps the linker from adding more, and
//! the functions below are this library's own. Nobody else sees them.
#![allow(unsafe_code)]

mod look_up;
mod threads;
mod unwinder;
mod young_calls;

use look_up::look_up;
use std::arch::global_asm;
use threads::{at_fork, key_create, key_delete, key_set};
use unwinder::{end_of_stack, no_resumption, nothing};
use young_calls::{extended_stat, stat_of_fd, stat_of_path, thread_id};

/// Functions by names that the linker finds here and the dynamic linker does not: what Rust
/// itself gives a name to, the program would get, too.
macro_rules! hidden {
    ($($name:literal = $function:path;)+) => {$(
        global_asm!(
            concat!(".pushsection .text.", $name, ",\"ax\",@progbits"),
            concat!(".globl ", $name),
            concat!(".hidden ", $name),
            concat!(".type ", $name, ",@function"),
            concat!($name, ":"),
            JUMP!(),
            concat!(".size ", $name, ", . - ", $name),
            ".popsection",
            function = sym $function,
        );
    )+};
}

#[cfg(target_arch = "x86_64")]
macro_rules! JUMP {
    () => {
        "jmp {function}"
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! JUMP {
    () => {
        "b {function}"
    };
}

hidden! {
    // glibc has had these since 2.33, 2.28 and 2.30.
    "stat" = stat_of_path;
    "stat64" = stat_of_path;
    "fstat64" = stat_of_fd;
    "statx" = extended_stat;
    "gettid" = thread_id;
    // Until 2.34 they were in libraries of their own.
    "dlsym" = look_up;
    "pthread_key_create" = key_create;
    "pthread_key_delete" = key_delete;
    "pthread_setspecific" = key_set;
    // This one is in a static part of glibc.
    "pthread_atfork" = at_fork;
    // And these are the C compiler's.
    "_Unwind_RaiseException" = end_of_stack;
    "_Unwind_Backtrace" = end_of_stack;
    "_Unwind_Resume" = no_resumption;
    "_Unwind_GetLanguageSpecificData" = nothing;
    "_Unwind_GetDataRelBase" = nothing;
    "_Unwind_GetTextRelBase" = nothing;
    "_Unwind_GetRegionStart" = nothing;
    "_Unwind_GetIP" = nothing;
    "_Unwind_GetIPInfo" = nothing;
    "_Unwind_SetIP" = nothing;
    "_Unwind_SetGR" = nothing;
}
