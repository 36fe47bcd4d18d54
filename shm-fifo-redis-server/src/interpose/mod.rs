//! Standing between the server and the C library.
//!
//! The server's executable calls `read`, `write`, `epoll_wait` and so on through
//! slots of its global offset table. [`install`] points those slots at [`hooks`],
//! which serve moved connections from shared memory and pass every other call on.
//! `docs/interposition.md` has the whole argument.

mod got;
mod hooks;
#[cfg(test)]
mod interrupted;

use std::sync::OnceLock;

/// The slots that were found, with what belongs in them.
static SLOTS: OnceLock<Vec<got::Slot>> = OnceLock::new();

/// Finds the slots and points them at the hooks. May be called again.
///
/// # Errors
/// If the executable has no slot for a call that is needed: a static binary, or
/// a server that makes its calls otherwise. Nothing has changed then.
pub(crate) fn install() -> Result<(), String> {
    if SLOTS.get().is_none() {
        let slots = got::find(&hooks::HOOKS)?;
        // The server loads modules from one thread only.
        SLOTS.set(slots).ok();
    }
    patch()
}

/// Points slots at the hooks again that something else has written meanwhile:
/// a server bound lazily resolves a slot at the first call through it.
pub(crate) fn verify() {
    // It worked when the module was loaded; the same pages are still there.
    patch().ok();
}

fn patch() -> Result<(), String> {
    SLOTS.get().into_iter().flatten().try_for_each(got::Slot::patch)
}
