//! `dlsym(3)`, by which everything else is found. Until glibc 2.34 it was in a library that
//! not every program has; glibc had means of its own to load that.
#![allow(unsafe_code)]

use libc::{c_char, c_int, c_void};
use std::arch::global_asm;
use std::ffi::CStr;
use std::mem::transmute;
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};

type LookUp = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;
type Open = unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void;

/// The version that `dlsym` has had from the first day, whichever library it was in.
#[cfg(target_arch = "x86_64")]
macro_rules! FIRST_DLSYM {
    () => {
        "dlsym@GLIBC_2.2.5"
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! FIRST_DLSYM {
    () => {
        "dlsym@GLIBC_2.17"
    };
}

// The words of what is not there are zero.
global_asm!(
    ".pushsection .data.rel.ro.shm_fifo,\"aw\",@progbits",
    ".balign 8",
    ".weak shm_fifo_dlsym, __libc_dlsym, __libc_dlopen_mode",
    concat!(".symver shm_fifo_dlsym,", FIRST_DLSYM!()),
    ".globl shm_fifo_place_of_dlsym, shm_fifo_place_of_old_dlsym, shm_fifo_place_of_old_dlopen",
    ".hidden shm_fifo_place_of_dlsym, shm_fifo_place_of_old_dlsym, shm_fifo_place_of_old_dlopen",
    "shm_fifo_place_of_dlsym: .quad shm_fifo_dlsym",
    "shm_fifo_place_of_old_dlsym: .quad __libc_dlsym",
    "shm_fifo_place_of_old_dlopen: .quad __libc_dlopen_mode",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "shm_fifo_place_of_dlsym"]
    static DLSYM: *mut c_void;
    #[link_name = "shm_fifo_place_of_old_dlsym"]
    static OLD_DLSYM: Option<LookUp>;
    #[link_name = "shm_fifo_place_of_old_dlopen"]
    static OLD_DLOPEN: Option<Open>;
}

/// # Safety
/// As `dlsym(3)`.
pub(super) unsafe extern "C" fn look_up(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    let dlsym = dlsym();
    if dlsym.is_null() {
        return null_mut();
    }
    // SAFETY: the function's type, and the caller's own arguments.
    unsafe { transmute::<*mut c_void, LookUp>(dlsym)(handle, name) }
}

fn dlsym() -> *mut c_void {
    static LOADED: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
    // SAFETY: a word that is written before anything of this library runs.
    let known = unsafe { DLSYM };
    if !known.is_null() {
        return known;
    }
    // ORDERING, Acquire: pairs with the Release below; it is code that is reached.
    let loaded = LOADED.load(Acquire);
    if !loaded.is_null() {
        return loaded;
    }
    let loaded = loaded_dlsym();
    // ORDERING, Release: pairs with the Acquire above.
    LOADED.store(loaded, Release);
    loaded
}

fn loaded_dlsym() -> *mut c_void {
    const RTLD_DLOPEN: c_int = c_int::MIN;
    // SAFETY: words as above.
    let (Some(dlopen), Some(dlsym)) = (unsafe { OLD_DLOPEN }, unsafe { OLD_DLSYM }) else {
        return null_mut();
    };
    // SAFETY: C strings, and a library that was found.
    unsafe {
        let library = dlopen(c"libdl.so.2".as_ptr(), libc::RTLD_NOW | RTLD_DLOPEN);
        if library.is_null() { null_mut() } else { dlsym(library, c"dlsym".as_ptr()) }
    }
}

/// The function of this name, whichever library has it.
pub(super) fn found(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a C string.
    let place = unsafe { look_up(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!place.is_null()).then_some(place)
}
