//! The list of libraries. AddressSanitizer's looks through it when the program starts, and
//! ends it unless it is itself the first of them.
#![allow(unsafe_code)]

use crate::left_alone;
use crate::real::{self, Visit};
use libc::{c_int, c_void, dl_phdr_info, size_t};

/// A walk through the list that comes to this library at the end.
struct Walk {
    visit: Visit,
    data: *mut c_void,
    own: Option<dl_phdr_info>,
}

/// # Safety
/// As `dl_iterate_phdr(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn dl_iterate_phdr(visit: Option<Visit>, data: *mut c_void) -> c_int {
    let Some(visit) = visit.filter(|_| left_alone::has_sanitizer()) else {
        // SAFETY: the caller's own arguments.
        return unsafe { real::dl_iterate_phdr(visit, data) };
    };
    let mut walk = Walk { visit, data, own: None };
    // SAFETY: the walk is what `visit_others` takes; the rest is the caller's own.
    unsafe {
        let result = real::dl_iterate_phdr(Some(visit_others), (&raw mut walk).cast());
        match &mut walk.own {
            Some(own) if result == 0 => visit(own, size_of::<dl_phdr_info>(), data),
            _ => result,
        }
    }
}

/// # Safety
/// As the function given to `dl_iterate_phdr(3)`, with a [`Walk`].
unsafe extern "C" fn visit_others(
    library: *mut dl_phdr_info,
    size: size_t,
    walk: *mut c_void,
) -> c_int {
    // SAFETY: the caller's contract.
    let (walk, known) = unsafe { (&mut *walk.cast::<Walk>(), &*library) };
    if is_own(known) {
        walk.own = Some(*known);
        return 0;
    }
    // SAFETY: the program's own function and data.
    unsafe { (walk.visit)(library, size, walk.data) }
}

/// Whether it is this library, whose first page the linker gives a name.
fn is_own(library: &dl_phdr_info) -> bool {
    unsafe extern "C" {
        static __ehdr_start: u8;
    }
    usize::try_from(library.dlpi_addr) == Ok((&raw const __ehdr_start).addr())
}
