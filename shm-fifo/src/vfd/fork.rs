//! Knowing that this process is a forked child of the one that mapped the rings.
//!
//! The mappings are not inherited (`MADV_DONTFORK`), so a child must not touch
//! them. A page that the kernel wipes on fork tells, for the price of one load.
#![allow(unsafe_code)]

use memmap2::{MmapMut, MmapOptions};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering::Acquire, Ordering::Release};

/// Not null once prepared; points to a byte that is 1 here and 0 in a child.
static MARK: AtomicPtr<AtomicU8> = AtomicPtr::new(std::ptr::null_mut());
static PAGE: OnceLock<MmapMut> = OnceLock::new();

/// Sets the mark up. Needed before the first [`in_child`] that matters.
pub(super) fn prepare() -> io::Result<()> {
    if !MARK.load(Acquire).is_null() {
        return Ok(());
    }
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
    let mark: *mut AtomicU8 = page.as_ptr().cast_mut().cast();
    // SAFETY: the first byte of a page that is never unmapped, writable, and
    // reached as an atomic only.
    unsafe { &*mark }.store(1, Release);
    MARK.store(mark, Release);
    Ok(())
}

/// Whether this process is a forked child of the one that called [`prepare`].
#[inline]
pub(super) fn in_child() -> bool {
    // SAFETY: null, or the mark set up in `prepare`, never unmapped.
    unsafe { MARK.load(Acquire).as_ref() }.is_some_and(|mark| mark.load(Acquire) == 0)
}
