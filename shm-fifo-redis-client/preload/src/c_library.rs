//! Which C library the process has. glibc and musl have the same functions and structures as
//! far as they are known here, but for lengths in messages: words to the kernel and glibc, and
//! half of one to musl, beside padding that a program leaves as it finds it.
#![allow(unsafe_code)]

use crate::real;
use libc::{PT_INTERP, c_int, c_void, dl_phdr_info, size_t};
use std::ffi::CStr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

static IS_MUSL: AtomicBool = AtomicBool::new(false);

/// Looks which it is; whether it is one of the two. Before the program begins.
pub(crate) fn is_known() -> bool {
    if is_glibc() {
        return true;
    }
    let is_musl = wants_musl();
    // ORDERING, Relaxed: there is one thread yet.
    IS_MUSL.store(is_musl, Relaxed);
    is_musl
}

pub(crate) fn is_musl() -> bool {
    // ORDERING, Relaxed: written before there was a second thread.
    IS_MUSL.load(Relaxed)
}

/// A length that a message of the program holds, or a control message in it.
pub(crate) fn length_in_message(word: usize) -> usize {
    const HALF: usize = 0xffff_ffff;
    if is_musl() { word & HALF } else { word }
}

/// glibc's own question; others do not know it.
fn is_glibc() -> bool {
    // SAFETY: asks for the length alone.
    unsafe { libc::confstr(libc::_CS_GNU_LIBC_VERSION, std::ptr::null_mut(), 0) > 0 }
}

/// musl has no such question. The program says which dynamic linker it wants, and musl's is
/// the C library as well.
fn wants_musl() -> bool {
    let mut wants_musl = false;
    // SAFETY: the function below takes this.
    unsafe { real::dl_iterate_phdr(Some(look_at), (&raw mut wants_musl).cast()) };
    wants_musl
}

/// # Safety
/// As the function given to `dl_iterate_phdr(3)`, with a `bool`.
unsafe extern "C" fn look_at(
    program: *mut dl_phdr_info,
    _size: size_t,
    wants_musl: *mut c_void,
) -> c_int {
    // SAFETY: the caller's contract; of a program the loaded headers are all there.
    let (program, headers) = unsafe {
        let program = &*program;
        (program, std::slice::from_raw_parts(program.dlpi_phdr, program.dlpi_phnum.into()))
    };
    let wanted = headers.iter().find(|header| header.p_type == PT_INTERP);
    let place = wanted.map(|header| usize::try_from(program.dlpi_addr + header.p_vaddr));
    if let Some(Ok(place)) = place {
        // SAFETY: a path in the program's own memory, which ends with a zero.
        let path = unsafe { CStr::from_ptr(std::ptr::with_exposed_provenance(place)) };
        let name = path.to_bytes().rsplit(|&byte| byte == b'/').next();
        let is_so = name.is_some_and(|name| name.starts_with(b"ld-musl-"));
        // SAFETY: the caller's contract.
        unsafe { *wants_musl.cast::<bool>() = is_so };
    }
    const NO_MORE: c_int = 1;
    NO_MORE
}
