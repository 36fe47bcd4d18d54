//! Where a session is among the members of the poller that watches it.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A list of members, and the index there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Hot(usize),
    Parked(usize),
}

/// A session's place in one word, changed with its poller locked. For whoever has not
/// locked that it is a hint.
#[derive(Debug)]
pub(super) struct SharedPlace(AtomicUsize);

const NOWHERE: usize = usize::MAX;
const HOT: usize = 1;

impl SharedPlace {
    pub(super) const fn nowhere() -> Self {
        Self(AtomicUsize::new(NOWHERE))
    }

    pub(super) fn get(&self) -> Option<Place> {
        // ORDERING, Relaxed: the poller's lock orders it, for who relies on it.
        match self.0.load(Relaxed) {
            NOWHERE => None,
            word if word & HOT != 0 => Some(Place::Hot(word >> 1)),
            word => Some(Place::Parked(word >> 1)),
        }
    }

    pub(super) fn set(&self, place: Option<Place>) {
        let word = match place {
            None => NOWHERE,
            Some(Place::Hot(index)) => index << 1 | HOT,
            Some(Place::Parked(index)) => index << 1,
        };
        self.0.store(word, Relaxed);
    }
}
