//! How event loops wait, as the program has set it.

use crate::os::wait::{SpinPolicy, WaitMode};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How connections wait; see [`WaitMode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitSettings {
    /// The mode.
    pub mode: WaitMode,
    /// The longest time that one wait spins, in microseconds.
    pub spin_us: u32,
    /// Whether the thread that waits for a connection's events may write without
    /// looking whether the peer sleeps: its next [`epoll_wait`](super::epoll_wait) looks,
    /// once for all connections. Only for programs that wait soon after they have written,
    /// as event loops do that collect their replies. Where several threads wait for
    /// one epoll instance, it has no effect.
    pub notify_at_next_wait: bool,
}

/// Sets how every event loop of this process waits, from its next wait on.
pub fn configure(settings: WaitSettings) {
    // ORDERING, Relaxed: nothing else travels with the settings.
    SETTINGS.store(Packed::from(settings).0, Relaxed);
}

/// `WaitSettings` in one word: the spin budget, a bit for the doorbells, and the
/// mode in the lowest bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed(u64);

static SETTINGS: AtomicU64 = AtomicU64::new(200 << BUDGET_SHIFT);

const BUDGET_SHIFT: u32 = 8;
const NOTIFY_AT_NEXT_WAIT: u64 = 0x80;
const MODE: u64 = 0x7F;

impl Packed {
    /// What is set at the moment.
    pub(super) fn now() -> Self {
        // ORDERING, Relaxed: see `configure`.
        Self(SETTINGS.load(Relaxed))
    }

    pub(super) fn notify_at_next_wait(self) -> bool {
        self.0 & NOTIFY_AT_NEXT_WAIT != 0
    }

    /// A policy without a past.
    pub(super) fn policy(self) -> SpinPolicy {
        let mode = match self.0 & MODE {
            1 => WaitMode::Park,
            2 => WaitMode::Spin,
            _ => WaitMode::Adaptive,
        };
        SpinPolicy::new(mode, (self.0 >> BUDGET_SHIFT) * 1000)
    }
}

impl From<WaitSettings> for Packed {
    fn from(settings: WaitSettings) -> Self {
        let mode = match settings.mode {
            WaitMode::Adaptive => 0,
            WaitMode::Park => 1,
            WaitMode::Spin => 2,
        };
        let later = if settings.notify_at_next_wait { NOTIFY_AT_NEXT_WAIT } else { 0 };
        Self(u64::from(settings.spin_us) << BUDGET_SHIFT | later | mode)
    }
}
