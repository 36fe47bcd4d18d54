//! Spinning for a peer, by the policy that all of shm-fifo follows.

use shm_fifo::{SpinEnd, SpinPolicy};

/// Spins until `is_ready` or `interrupt`, or as long as `policy` says. Returns
/// whether what was waited for came.
pub(crate) fn until(
    policy: &mut SpinPolicy,
    is_ready: impl FnMut() -> bool,
    interrupt: impl FnMut(u64) -> bool,
) -> bool {
    policy.spin(is_ready, interrupt) == SpinEnd::Won
}
