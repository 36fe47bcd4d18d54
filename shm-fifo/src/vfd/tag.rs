//! How the engine knows its own registrations among a program's.

use std::hash::{BuildHasher, RandomState};
use std::os::fd::RawFd;
use std::sync::OnceLock;

/// The event data of our own registrations: a random number that is this
/// process's own, never 0, above the file descriptor.
pub(super) fn tag_of(fd: RawFd) -> u64 {
    u64::from(tag()) << 32 | u64::from(u32::from_ne_bytes(fd.to_ne_bytes()))
}

/// The file descriptor of one of our own registrations.
pub(super) fn fd_of_tag(data: u64) -> Option<RawFd> {
    let [high, low] = [data >> 32, data & u64::from(u32::MAX)];
    let low = u32::try_from(low).ok()?;
    (high == u64::from(tag())).then_some(RawFd::from_ne_bytes(low.to_ne_bytes()))
}

fn tag() -> u32 {
    static TAG: OnceLock<u32> = OnceLock::new();
    *TAG.get_or_init(|| {
        let random = RandomState::new().hash_one("shm-fifo").to_ne_bytes();
        u32::from_ne_bytes([random[0], random[1], random[2], random[3]]) | 1
    })
}
