//! Knowing that this process is a forked child of the one that made a connection.

use pyo3::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Counted up in each child; it has the parent's number before. Only the thread that has
/// forked is left then, and no other order is needed.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// To be called in a forked child, before anything else there: `os.register_at_fork`.
#[pyfunction]
pub(crate) fn forked() {
    FORKS.fetch_add(1, Relaxed);
}

/// Which process of a line of forks this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    pub(crate) fn now() -> Self {
        Self(FORKS.load(Relaxed))
    }
}
