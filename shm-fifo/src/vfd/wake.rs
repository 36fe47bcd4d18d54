//! Waking a thread that sleeps in an epoll instance, from another thread.

use crate::os::sys;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

/// The eventfd that wakes the thread asleep in an epoll instance when another thread
/// changes its members. It is one for all of them, made before any is needed: a program
/// that has no file descriptor left can still watch a connection elsewhere.
///
/// Nobody reads it. It is registered edge-triggered, so each signal is an event of its
/// own in each epoll instance, and those that it was not for look once in vain.
static WAKE_FD: OnceLock<OwnedFd> = OnceLock::new();

/// Makes it. Called again this changes nothing.
pub(super) fn prepare() -> io::Result<()> {
    if WAKE_FD.get().is_none() {
        let fd = sys::eventfd()?;
        WAKE_FD.get_or_init(|| fd);
    }
    Ok(())
}

pub(super) fn wake_fd() -> Option<RawFd> {
    WAKE_FD.get().map(AsRawFd::as_raw_fd)
}
