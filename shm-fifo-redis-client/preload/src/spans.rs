//! The buffers that a program passes to be filled or emptied.
#![allow(unsafe_code)]

use crate::c_library::length_in_message;
use libc::{c_void, iovec, msghdr};
use std::borrow::Cow;
use std::io::IoSlice;
use std::marker::PhantomData;

/// What the kernel takes in one call: `IOV_MAX`.
pub(crate) const MAX_SPANS: usize = 1024;

/// Buffers of the program, in order, for the time of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spans<'a> {
    first: *const iovec,
    count: usize,
    _program: PhantomData<&'a iovec>,
}

impl<'a> Spans<'a> {
    /// # Safety
    /// `count` spans, each of bytes that the call which is being served may read
    /// and, if that is what it does, write.
    pub(crate) unsafe fn new(first: *const iovec, count: usize) -> Self {
        let count = if first.is_null() { 0 } else { count };
        Self { first, count, _program: PhantomData }
    }

    /// # Safety
    /// As [`Spans::new`]; the message is null or live.
    pub(crate) unsafe fn of_message(message: *const msghdr) -> Self {
        // SAFETY: the caller's contract.
        match unsafe { message.as_ref() } {
            Some(message) => {
                let count = length_in_message(message.msg_iovlen);
                // SAFETY: the caller's contract.
                unsafe { Self::new(message.msg_iov, count) }
            }
            None => Self { first: std::ptr::null(), count: 0, _program: PhantomData },
        }
    }

    /// All bytes that there is room for, or that there are.
    pub(crate) fn total_bytes(self) -> usize {
        self.iter().map(|span| span.iov_len).fold(0, usize::saturating_add)
    }

    /// Whether it is a single buffer.
    pub(crate) fn is_one(self) -> bool {
        self.count == 1
    }

    /// Whether one of them is nowhere: `EFAULT`.
    pub(crate) fn has_null(self) -> bool {
        self.iter().any(|span| span.iov_base.is_null() && span.iov_len > 0)
    }

    /// The bytes of the buffers, to be read, but for those of no byte that are nowhere.
    pub(crate) fn sources(self) -> Cow<'a, [IoSlice<'a>]> {
        if self.count == 0 {
            return Cow::Borrowed(&[]);
        }
        if self.iter().any(|span| span.iov_base.is_null()) {
            return self.iter().filter(|span| !span.iov_base.is_null()).map(source).collect();
        }
        // SAFETY: by the contract of `new`, and none is null. `IoSlice` has the layout of
        // `iovec`, as its documentation says.
        Cow::Borrowed(unsafe { std::slice::from_raw_parts(self.first.cast(), self.count) })
    }

    /// Calls `take` with each buffer, without its first `skip` bytes in all, until
    /// it does not fill one; how many bytes it filled.
    pub(crate) fn fill<E>(
        self,
        skip: usize,
        mut take: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let mut filled = 0;
        let mut skip = skip;
        for span in self.iter() {
            let skipped = skip.min(span.iov_len);
            skip -= skipped;
            if skipped == span.iov_len {
                continue;
            }
            // SAFETY: by the contract of `new`. They may be uninitialised, but are
            // only written; the slice does not outlive the closure's call.
            let target = unsafe {
                std::slice::from_raw_parts_mut(
                    span.iov_base.cast::<u8>().add(skipped),
                    span.iov_len - skipped,
                )
            };
            match take(target) {
                Ok(count) => {
                    filled += count;
                    if count < target.len() {
                        break;
                    }
                }
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Calls `see` with the first `count` bytes, buffer by buffer, until it is
    /// false.
    pub(crate) fn for_each_of(self, count: usize, mut see: impl FnMut(&[u8]) -> bool) {
        let mut left = count;
        for span in self.sources().iter() {
            let length = span.len().min(left);
            left -= length;
            if length > 0 && !see(&span[..length]) {
                return;
            }
        }
    }

    fn iter(self) -> impl Iterator<Item = iovec> {
        // SAFETY: by the contract of `new`.
        (0..self.count).map(move |index| unsafe { *self.first.add(index) })
    }
}

/// The bytes of one, which is somewhere.
fn source<'a>(span: iovec) -> IoSlice<'a> {
    // SAFETY: by the contract of `Spans::new`, for as long as that lives.
    IoSlice::new(unsafe { std::slice::from_raw_parts(span.iov_base.cast::<u8>(), span.iov_len) })
}

/// `sources` without their first `skip` bytes in all.
pub(crate) fn without_first<'a>(sources: &'a [IoSlice<'a>], mut skip: usize) -> Vec<IoSlice<'a>> {
    let rest = |source: &'a IoSlice<'a>| {
        let skipped = skip.min(source.len());
        skip -= skipped;
        IoSlice::new(&source[skipped..])
    };
    sources.iter().map(rest).filter(|rest| !rest.is_empty()).collect()
}

/// The first bytes of `sources`, so many at most.
pub(crate) fn first_of<'a>(sources: &'a [IoSlice<'a>], mut left: usize) -> Vec<IoSlice<'a>> {
    let first = |source: &'a IoSlice<'a>| {
        let count = left.min(source.len());
        left -= count;
        IoSlice::new(&source[..count])
    };
    sources.iter().map(first).filter(|first| !first.is_empty()).collect()
}

/// One buffer as a span.
pub(crate) fn span(buffer: *const c_void, length: usize) -> iovec {
    iovec { iov_base: buffer.cast_mut(), iov_len: length }
}
