//! Memory of the table's pages: not of the heap, in which a signal may have interrupted the
//! thread that needs one.
#![allow(unsafe_code)]

#[cfg(not(any(fuzzing, portable_copies)))]
pub(super) use mapped::{give_back, take};
#[cfg(any(fuzzing, portable_copies))]
pub(super) use of_heap::{give_back, take};

#[cfg(not(any(fuzzing, portable_copies)))]
mod mapped {
    use std::ptr::null_mut;

    /// Memory for a `T`, if there is any.
    pub(in super::super) fn take<T>() -> Option<*mut T> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, wherever there is room.
        let memory = unsafe { libc::mmap(null_mut(), size_of::<T>(), protection, flags, -1, 0) };
        (memory != libc::MAP_FAILED).then(|| memory.cast())
    }

    /// # Safety
    /// What [`take`] returned, and nobody's any more.
    pub(in super::super) unsafe fn give_back<T>(memory: *mut T) {
        // SAFETY: the caller's contract.
        unsafe { libc::munmap(memory.cast(), size_of::<T>()) };
    }
}

/// Under a sanitizer, to which all that only a mapping points to is leaked.
#[cfg(any(fuzzing, portable_copies))]
mod of_heap {
    use std::mem::MaybeUninit;

    pub(in super::super) fn take<T>() -> Option<*mut T> {
        Some(Box::into_raw(Box::<MaybeUninit<T>>::new_uninit()).cast())
    }

    /// # Safety
    /// What [`take`] returned, and nobody's any more.
    pub(in super::super) unsafe fn give_back<T>(memory: *mut T) {
        // SAFETY: the caller's contract.
        drop(unsafe { Box::from_raw(memory.cast::<MaybeUninit<T>>()) });
    }
}
