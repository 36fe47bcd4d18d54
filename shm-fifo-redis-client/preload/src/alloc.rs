//! Memory of this library's own.
//!
//! The program's `malloc` may be what a signal handler interrupted, and a handler may call
//! what stands in here: so nothing in here calls it. Nor does a handler interrupt this heap:
//! it is put off, wherever something is allocated or dropped.
#![allow(unsafe_code)]

use crate::signals::put_off;
use dlmalloc::GlobalDlmalloc;
use std::alloc::{GlobalAlloc, Layout};

struct Heap;

#[global_allocator]
static HEAP: Heap = Heap;

// SAFETY: all of it is dlmalloc's; that a signal handler comes later changes nothing.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        put_off(|| unsafe { GlobalDlmalloc.alloc(layout) })
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        put_off(|| unsafe { GlobalDlmalloc.dealloc(place, layout) });
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        put_off(|| unsafe { GlobalDlmalloc.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        put_off(|| unsafe { GlobalDlmalloc.realloc(place, layout, size) })
    }
}

/// Keeps the heap whole in a child that is forked while another thread allocates: it is locked
/// meanwhile. Before that, by what is prepared later, handlers are put off.
pub(crate) fn prepare() {
    // SAFETY: called once, before the program starts a thread.
    unsafe { dlmalloc::enable_alloc_after_fork() };
}
