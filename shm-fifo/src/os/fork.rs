//! Knowing that this process is a forked child of the one that mapped a region.
//!
//! Mappings are not inherited (`MADV_DONTFORK`), so a child must not touch them,
//! nor unmap what may have taken their place. A page that the kernel wipes on
//! fork (`MADV_WIPEONFORK`) tells, for the price of two loads.
#![allow(unsafe_code)]

use memmap2::{MmapMut, MmapOptions};
use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64};

/// A process in a line of forks; a child has another one than its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u64);

/// Null until [`prepare`]; points to this process's generation, 0 after a fork.
static MARK: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
static PAGE: OnceLock<MmapMut> = OnceLock::new();
/// The last generation given out; inherited by children, who continue from it.
static LAST: AtomicU64 = AtomicU64::new(0);

/// This process's generation. The first call, before any fork that matters, sets
/// up what tells.
pub(crate) fn prepare() -> io::Result<Generation> {
    if MARK.load(Acquire).is_null() {
        let page = MmapOptions::new().len(4096).map_anon()?;
        // SAFETY: the page is ours alone, anonymous and private, as the advice asks.
        let wiped = unsafe {
            libc::madvise(page.as_ptr().cast_mut().cast(), page.len(), libc::MADV_WIPEONFORK)
        };
        if wiped != 0 {
            return Err(io::Error::last_os_error());
        }
        // A concurrent call may have been first; then its page is the one.
        let page = PAGE.get_or_init(|| page);
        MARK.store(page.as_ptr().cast_mut().cast(), Release);
    }
    Ok(generation())
}

/// This process's generation, once prepared.
#[inline]
pub(crate) fn generation() -> Generation {
    // SAFETY: null, or the start of a page that is writable, never unmapped, and
    // reached as this atomic only.
    let Some(mark) = (unsafe { MARK.load(Acquire).as_ref() }) else { return Generation(0) };
    match mark.load(Relaxed) {
        0 => first_call_after_fork(mark),
        number => Generation(number),
    }
}

#[cold]
fn first_call_after_fork(mark: &AtomicU64) -> Generation {
    let fresh = LAST.fetch_add(1, Relaxed) + 1;
    // Another thread may have been first.
    match mark.compare_exchange(0, fresh, Relaxed, Relaxed) {
        Ok(_) => Generation(fresh),
        Err(number) => Generation(number),
    }
}

/// What a forked child does not inherit, whatever its memory says: there is no way to it
/// but by a look whether this is the process that made it.
pub(crate) struct NotInherited<T> {
    value: T,
    made_by: Generation,
}

impl<T> NotInherited<T> {
    pub(crate) const fn new(value: T, made_by: Generation) -> Self {
        Self { value, made_by }
    }

    /// The value; `None` in a forked child.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        (self.made_by == generation()).then_some(&self.value)
    }

    /// As [`NotInherited::get`].
    #[inline]
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        (self.made_by == generation()).then_some(&mut self.value)
    }

    /// The value in a forked child as well: for what lies in the child's own memory, such
    /// as a file descriptor's number.
    pub(crate) const fn even_if_inherited(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for NotInherited<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => value.fmt(f),
            None => f.write_str("NotInherited"),
        }
    }
}
