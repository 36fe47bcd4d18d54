//! Memory on pages of its own, shared with a forked process.

use crate::transport::{BURST_BYTES, Message};
use anyhow::{Context, Result};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// Zeroed bytes, on pages of their own, unmapped with the last handle.
#[derive(Debug, Clone)]
pub struct SharedBytes(Arc<Mapping>);

#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is an address range; whoever accesses it says why that is sound.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl SharedBytes {
    pub fn new(length: usize) -> Result<Self> {
        // SAFETY: a new mapping, at an address the kernel chooses. Populated, so that
        // no page fault is measured.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("mmap");
        }
        let start = NonNull::new(start.cast()).context("mmap returned null")?;
        Ok(Self(Arc::new(Mapping { start, length })))
    }

    pub fn as_ptr(&self) -> *mut u8 {
        self.0.start.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and no handle is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Messages that nobody else has, in the middle of a page: far, within a page, from
/// where rings start. The memcpy of glibc 2.36 is 17 times as slow on AMD where the
/// target lies just behind the source in that sense. Luck should not decide whom that
/// hits.
#[derive(Debug)]
pub struct Messages<const N: usize> {
    bytes: SharedBytes,
    count: usize,
}

impl<const N: usize> Messages<N> {
    const OFFSET: usize = 2048;

    /// As many as come in one burst.
    pub fn burst() -> Result<Self> {
        Self::in_bytes(BURST_BYTES)
    }

    /// As many as `bytes` hold, but at least one.
    pub fn in_bytes(bytes: usize) -> Result<Self> {
        let count = (bytes / N).max(1);
        Ok(Self { bytes: SharedBytes::new(Self::OFFSET + count * N)?, count })
    }
}

impl<const N: usize> Deref for Messages<N> {
    type Target = [Message<N>];

    fn deref(&self) -> &Self::Target {
        // SAFETY: within the mapping, which this handle alone has.
        unsafe {
            std::slice::from_raw_parts(self.bytes.as_ptr().add(Self::OFFSET).cast(), self.count)
        }
    }
}

impl<const N: usize> DerefMut for Messages<N> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        // SAFETY: as above.
        unsafe {
            std::slice::from_raw_parts_mut(self.bytes.as_ptr().add(Self::OFFSET).cast(), self.count)
        }
    }
}

/// A value of atomics in shared memory.
#[derive(Debug)]
pub struct Shared<T> {
    bytes: SharedBytes,
    value: PhantomData<T>,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), value: PhantomData }
    }
}

impl<T: Sync> Shared<T> {
    pub fn new(value: T) -> Result<Self> {
        let bytes = SharedBytes::new(size_of::<T>())?;
        // SAFETY: a page is large and aligned enough, and nobody else has it yet.
        unsafe { bytes.as_ptr().cast::<T>().write(value) };
        Ok(Self { bytes, value: PhantomData })
    }
}

impl<T: Sync> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: written in `new`, mapped as long as `self`, and `Sync`.
        unsafe { &*self.bytes.as_ptr().cast::<T>() }
    }
}
