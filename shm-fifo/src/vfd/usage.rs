//! How much the moved connections take at the moment.

use super::unread;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Sessions that live, and the bytes of their regions.
//
// ORDERING, Relaxed: statistics; no data depends on them.
static LIVE_SESSIONS: AtomicUsize = AtomicUsize::new(0);
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// What the moved connections take at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// How many there are.
    pub sessions: usize,
    /// Bytes of memory of all their regions.
    pub region_bytes: usize,
    /// Bytes of memory that hold what the peers of ended connections have not read.
    pub unread_bytes: usize,
    /// How many ended connections these are. Their regions are still mapped here.
    pub unread_connections: usize,
}

/// What the moved connections take at the moment.
#[must_use]
pub fn usage() -> Usage {
    Usage {
        sessions: LIVE_SESSIONS.load(Relaxed),
        region_bytes: LIVE_BYTES.load(Relaxed),
        unread_bytes: unread::bytes(),
        unread_connections: unread::connections(),
    }
}

/// One more, with a region of so many bytes.
pub(super) fn count_in(region_bytes: usize) {
    LIVE_SESSIONS.fetch_add(1, Relaxed);
    LIVE_BYTES.fetch_add(region_bytes, Relaxed);
}

/// One less.
pub(super) fn count_out(region_bytes: usize) {
    LIVE_SESSIONS.fetch_sub(1, Relaxed);
    LIVE_BYTES.fetch_sub(region_bytes, Relaxed);
}
