//! Descriptors of this library's own that live for longer than a call: out of the program's
//! way, and not its to close.
#![allow(unsafe_code)]

use crate::epoll::FIRST_NUMBER;
use crate::{sys, table};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

/// What has such a descriptor.
#[derive(Debug)]
pub(crate) struct Hidden<T: AsRawFd>(ManuallyDrop<T>);

/// The same open file by a number that programs do not expect.
pub(crate) fn raised(low: OwnedFd) -> OwnedFd {
    let fd = sys::raised(low.into_raw_fd(), FIRST_NUMBER);
    // SAFETY: the number of what was owned, or of its only copy.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

impl<T: AsRawFd> Hidden<T> {
    /// The program is not to close it.
    pub(crate) fn new(own: T) -> Self {
        table::make_private(own.as_raw_fd());
        Self(ManuallyDrop::new(own))
    }

    /// What it is, to be used up at once; `None` if the program has closed it after all.
    pub(crate) fn take(self) -> Option<T> {
        let mut taken = ManuallyDrop::new(self);
        // SAFETY: neither the wrapper nor what is in it is used or dropped afterwards, but
        // for what is returned.
        taken.is_still_ours().then(|| unsafe { ManuallyDrop::take(&mut taken.0) })
    }

    /// Its number may be the program's by now, which has closed it where nobody saw it.
    fn is_still_ours(&self) -> bool {
        table::unmake_private(self.0.as_raw_fd())
    }
}

impl<T: AsRawFd> std::ops::Deref for Hidden<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: AsRawFd> Drop for Hidden<T> {
    fn drop(&mut self) {
        if self.is_still_ours() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}
