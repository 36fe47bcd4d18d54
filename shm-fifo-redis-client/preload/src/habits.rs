//! What a program does with one of its connections, and a moved one cannot do: the program may
//! do so with any other, too. So none moves any more.

use crate::report::Reason;
use std::sync::OnceLock;

static KNOWN: OnceLock<Reason> = OnceLock::new();

/// The program did so with one of its connections.
pub(crate) fn note(reason: Reason) {
    KNOWN.get_or_init(|| reason);
}

/// Why none moves any more.
pub(crate) fn known() -> Option<Reason> {
    KNOWN.get().copied()
}
