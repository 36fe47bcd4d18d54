//! Functions of threads and forks that are found while the process runs: where they are, and
//! what they are called, differs.
#![allow(unsafe_code)]

use super::look_up::found;
use crate::c_library::is_musl;
use libc::{c_int, c_void, pthread_key_t};
use std::mem::transmute;
use std::ptr::null_mut;

type Destructor = unsafe extern "C" fn(*mut c_void);
type AtFork = unsafe extern "C" fn();

/// # Safety
/// As `pthread_key_create(3)`.
pub(super) unsafe extern "C" fn key_create(
    key: *mut pthread_key_t,
    destructor: Option<Destructor>,
) -> c_int {
    type Create = unsafe extern "C" fn(*mut pthread_key_t, Option<Destructor>) -> c_int;
    let Some(create) = found(c"pthread_key_create") else { return libc::EAGAIN };
    // SAFETY: the function's type, and the caller's own arguments.
    unsafe { transmute::<*mut c_void, Create>(create)(key, destructor) }
}

/// # Safety
/// As `pthread_key_delete(3)`.
pub(super) unsafe extern "C" fn key_delete(key: pthread_key_t) -> c_int {
    type Delete = unsafe extern "C" fn(pthread_key_t) -> c_int;
    let Some(delete) = found(c"pthread_key_delete") else { return libc::EINVAL };
    // SAFETY: the function's type, and the caller's own argument.
    unsafe { transmute::<*mut c_void, Delete>(delete)(key) }
}

/// # Safety
/// As `pthread_setspecific(3)`.
pub(super) unsafe extern "C" fn key_set(key: pthread_key_t, value: *const c_void) -> c_int {
    type Set = unsafe extern "C" fn(pthread_key_t, *const c_void) -> c_int;
    let Some(set) = found(c"pthread_setspecific") else { return libc::EINVAL };
    // SAFETY: the function's type, and the caller's own arguments.
    unsafe { transmute::<*mut c_void, Set>(set)(key, value) }
}

/// # Safety
/// As `pthread_atfork(3)`.
pub(super) unsafe extern "C" fn at_fork(
    prepare: Option<AtFork>,
    parent: Option<AtFork>,
    child: Option<AtFork>,
) -> c_int {
    type Register =
        unsafe extern "C" fn(Option<AtFork>, Option<AtFork>, Option<AtFork>, *mut c_void) -> c_int;
    // In glibc the function is static, and this one behind it.
    let name = if is_musl() { c"pthread_atfork" } else { c"__register_atfork" };
    let Some(register) = found(name) else { return libc::ENOMEM };
    // SAFETY: the second function's type; the first one does not look for a fourth argument.
    // The others are the caller's own. Of no library: this one is never unloaded.
    unsafe { transmute::<*mut c_void, Register>(register)(prepare, parent, child, null_mut()) }
}
