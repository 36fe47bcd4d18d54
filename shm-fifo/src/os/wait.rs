//! When to spin and when to sleep: a small policy that learns.
//!
//! Spinning answers in a microsecond, but only while the peer runs on another
//! CPU at the same time; on a busy machine it takes the peer's own CPU away.
//! Sleeping is never wrong, merely slower. So:
//!
//! * spin only while the peer was last on another CPU, and only for a bounded time;
//! * a spin that was preempted twice within 10 ms, or the third in a row that
//!   expired, was bad: no spinning for 100 times what it cost, doubling while it
//!   stays bad, at most a second, so that probing costs about a percent;
//! * each spin that ends with the peer's answer halves that memory;
//! * the first spins are short; where what a spin had waited for comes soon after it ended,
//!   the next ones are longer, as those of KVM's halt polling;
//! * never `sched_yield`: it may hand whole time slices to a stranger.
//!
//! `docs/waiting.md` has the reasons and the measurements.

use super::sys::{current_cpu, monotonic_ns};
use crate::Watch;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How a side waits for its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WaitMode {
    /// Spin while that has been paying, else sleep.
    #[default]
    Adaptive,
    /// Always sleep.
    Park,
    /// Always spin for the whole budget before sleeping.
    Spin,
}

/// The default of [`SpinPolicy::new`], in nanoseconds.
const DEFAULT_BUDGET_NS: u64 = 200_000;
/// The first spins of an adaptive waiter take this part of the budget. By default that is
/// about what a wake-up costs: who spins for so long pays twice the best choice at most
/// (Karlin et al., Competitive randomized algorithms for non-uniform problems, 1990).
const FIRST_PART: u64 = 4;
/// A gap this long between two looks at the clock means we were preempted.
const PREEMPTED_NS: u64 = 30_000;
/// Two preemptions within this time make a bad spin; one may be chance.
const STRIKE_WINDOW_NS: u64 = 10_000_000;
/// So many spins in a row that expired make a bad spin.
const EXPIRED_IN_A_ROW: u32 = 3;
/// No spinning for this many times what a bad spin cost.
const PENALTY_FACTOR: u64 = 100;
const MAX_PENALTY_NS: u64 = 1_000_000_000;
/// Looks at the ring between two looks at the clock.
const LOOKS_PER_CLOCK: u32 = 16;

/// How a spin ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpinEnd {
    /// What was waited for came.
    Won,
    /// The budget ran out.
    Expired,
    /// The scheduler took the CPU away meanwhile.
    Preempted,
    /// The spinner had something else to do: nothing is learned.
    Interrupted,
}

/// The memory of one waiting side. Not shared; one for each connection, or for
/// each event loop.
#[derive(Debug, Clone)]
pub struct SpinPolicy {
    mode: WaitMode,
    budget_ns: u64,
    /// How long the next spin takes at most.
    patience_ns: u64,
    /// When the last spin started, if it expired and what it waited for has not come.
    expired_from_ns: Option<u64>,
    /// No spinning before this time.
    resume_at_ns: u64,
    /// How long the last bad spin forbade spinning; 0 after enough good ones.
    penalty_ns: u64,
    expired_in_a_row: u32,
    last_preemption_ns: Option<u64>,
}

impl Default for SpinPolicy {
    fn default() -> Self {
        Self::new(WaitMode::default(), DEFAULT_BUDGET_NS)
    }
}

impl SpinPolicy {
    /// A policy without a past that spins for at most `budget_ns` nanoseconds at
    /// a time; if it adapts, for a quarter of them at first.
    #[must_use]
    pub const fn new(mode: WaitMode, budget_ns: u64) -> Self {
        let policy = Self {
            mode,
            budget_ns,
            patience_ns: budget_ns,
            expired_from_ns: None,
            resume_at_ns: 0,
            penalty_ns: 0,
            expired_in_a_row: 0,
            last_preemption_ns: None,
        };
        Self { patience_ns: policy.first_patience_ns(), ..policy }
    }

    const fn first_patience_ns(&self) -> u64 {
        match self.mode {
            WaitMode::Adaptive => self.budget_ns.div_ceil(FIRST_PART),
            WaitMode::Park | WaitMode::Spin => self.budget_ns,
        }
    }

    /// The longest time, in nanoseconds, that one spin takes.
    #[must_use]
    pub const fn budget_ns(&self) -> u64 {
        self.budget_ns
    }

    /// Until when an adaptive waiter does not spin because it did not pay, in
    /// nanoseconds of the monotonic clock; 0 as long as it always did.
    #[must_use]
    pub const fn backs_off_until_ns(&self) -> u64 {
        self.resume_at_ns
    }

    /// Whether to spin for a peer that was last on `peer_cpu`.
    ///
    /// An unknown CPU is taken for another one.
    #[must_use]
    pub fn may_spin(&self, now_ns: u64, own_cpu: Option<u32>, peer_cpu: Option<u32>) -> bool {
        match self.mode {
            WaitMode::Park => false,
            WaitMode::Spin => true,
            WaitMode::Adaptive => {
                now_ns >= self.resume_at_ns && (peer_cpu.is_none() || peer_cpu != own_cpu)
            }
        }
    }

    /// Whether it learns from what it meets.
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn adapts(&self) -> bool {
        self.mode == WaitMode::Adaptive
    }

    /// Whether to spin for the peer that `watch` looks at. Tells it on which CPU this thread
    /// waits.
    pub(crate) fn may_spin_beside(&self, watch: &Watch<'_>, published: &PublishedCpu) -> bool {
        let own_cpu = current_cpu();
        published.update(own_cpu, watch);
        self.may_spin(monotonic_ns(), own_cpu, watch.peer_cpu())
    }

    /// Learns from a spin that started at `started_ns` and ended at `now_ns`.
    pub fn learn(&mut self, end: SpinEnd, started_ns: u64, now_ns: u64) {
        self.expired_from_ns = (end == SpinEnd::Expired).then_some(started_ns);
        match end {
            SpinEnd::Won => self.reward(),
            SpinEnd::Expired => {
                self.expired_in_a_row += 1;
                if self.expired_in_a_row >= EXPIRED_IN_A_ROW {
                    self.expired_in_a_row = 0;
                    self.punish(u64::from(EXPIRED_IN_A_ROW) * self.patience_ns, now_ns);
                }
            }
            SpinEnd::Interrupted => {}
            SpinEnd::Preempted => {
                let again = self
                    .last_preemption_ns
                    .is_some_and(|last_ns| now_ns.saturating_sub(last_ns) < STRIKE_WINDOW_NS);
                self.last_preemption_ns = Some(now_ns);
                if again {
                    self.punish(now_ns.saturating_sub(started_ns), now_ns);
                }
            }
        }
    }

    /// Learns that what was waited for has come, after a sleep, if a spin for it had expired.
    /// A longer one that would have seen it is worth trying; else short ones do.
    pub fn woken(&mut self, now_ns: u64) {
        let Some(started_ns) = self.expired_from_ns.take() else { return };
        if now_ns.saturating_sub(started_ns) <= self.budget_ns {
            self.patience_ns = self.patience_ns.saturating_mul(2).min(self.budget_ns);
            self.expired_in_a_row = 0;
        } else {
            self.patience_ns = self.first_patience_ns();
        }
    }

    /// Spins until `is_ready`, the budget's end or a preemption, and learns.
    ///
    /// `interrupt` is asked at each look at the clock, about every half
    /// microsecond, with the time in nanoseconds; `true` ends the spin.
    pub fn spin(
        &mut self,
        mut is_ready: impl FnMut() -> bool,
        interrupt: impl FnMut(u64) -> bool,
    ) -> SpinEnd {
        // The first looks need no clock: most answers come that soon.
        if looks(&mut is_ready) {
            self.reward();
            return SpinEnd::Won;
        }
        let now_ns = monotonic_ns();
        self.spin_on(now_ns, now_ns, is_ready, interrupt)
    }

    /// Goes on at `now_ns` with a spin that began at `started_ns` and was interrupted since.
    pub(crate) fn spin_on(
        &mut self,
        started_ns: u64,
        now_ns: u64,
        mut is_ready: impl FnMut() -> bool,
        mut interrupt: impl FnMut(u64) -> bool,
    ) -> SpinEnd {
        let mut looked_ns = now_ns;
        let end = loop {
            let won = looks(&mut is_ready);
            let now_ns = monotonic_ns();
            let preempted = now_ns - looked_ns > PREEMPTED_NS;
            looked_ns = now_ns;
            if preempted {
                break SpinEnd::Preempted;
            }
            if won {
                break SpinEnd::Won;
            }
            if now_ns - started_ns >= self.patience_ns {
                break SpinEnd::Expired;
            }
            if interrupt(now_ns) {
                break SpinEnd::Interrupted;
            }
        };
        self.learn(end, started_ns, looked_ns);
        end
    }

    fn reward(&mut self) {
        self.expired_from_ns = None;
        self.expired_in_a_row = 0;
        self.penalty_ns /= 2;
    }

    fn punish(&mut self, cost_ns: u64, now_ns: u64) {
        let fresh_ns = cost_ns.saturating_mul(PENALTY_FACTOR);
        self.penalty_ns = fresh_ns.max(self.penalty_ns * 2).min(MAX_PENALTY_NS);
        if self.mode == WaitMode::Adaptive {
            self.resume_at_ns = now_ns + self.penalty_ns;
        }
    }
}

/// A few looks with a pause between them.
#[inline]
fn looks(is_ready: &mut impl FnMut() -> bool) -> bool {
    for _ in 0..LOOKS_PER_CLOCK {
        if is_ready() {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}

/// This side's CPU as it was last told to a peer, which is told only of changes.
///
/// As it travels: plus one, 0 is unknown.
#[derive(Debug, Default)]
pub(crate) struct PublishedCpu(AtomicU32);

impl PublishedCpu {
    /// Tells the peer that `watch` looks at of the `cpu` this side runs on, if that is news.
    pub(crate) fn update(&self, cpu: Option<u32>, watch: &Watch<'_>) {
        // ORDERING, Relaxed: a hint, as what is published.
        if let Some(cpu) = cpu.filter(|cpu| cpu.wrapping_add(1) != self.0.load(Relaxed)) {
            self.0.store(cpu.wrapping_add(1), Relaxed);
            watch.publish_cpu(cpu);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn adaptive() -> SpinPolicy {
        SpinPolicy::new(WaitMode::Adaptive, 200_000)
    }

    #[test]
    fn adaptive_spins_only_for_a_peer_on_another_cpu() {
        let policy = adaptive();
        assert!(policy.may_spin(1, Some(0), Some(1)));
        assert!(policy.may_spin(1, Some(0), None));
        assert!(!policy.may_spin(1, Some(0), Some(0)));
    }

    #[test]
    fn park_never_spins_and_spin_always_does() {
        assert!(!SpinPolicy::new(WaitMode::Park, 50_000).may_spin(1, Some(0), Some(1)));
        assert!(SpinPolicy::new(WaitMode::Spin, 50_000).may_spin(1, Some(0), Some(0)));
    }

    #[test]
    fn one_preemption_is_forgiven_and_a_second_soon_after_is_not() {
        let mut policy = adaptive();
        policy.learn(SpinEnd::Preempted, MS, 2 * MS);
        assert!(policy.may_spin(2 * MS, Some(0), Some(1)));
        policy.learn(SpinEnd::Preempted, 3 * MS, 4 * MS);
        assert!(!policy.may_spin(4 * MS + 99 * MS, Some(0), Some(1)));
        assert!(policy.may_spin(4 * MS + 100 * MS, Some(0), Some(1)));
    }

    #[test]
    fn only_who_adapts_backs_off() {
        let end_of_back_off = |mode| {
            let mut policy = SpinPolicy::new(mode, 200_000);
            for _ in 0..3 {
                policy.learn(SpinEnd::Expired, 0, MS);
            }
            policy.backs_off_until_ns()
        };
        assert_eq!(end_of_back_off(WaitMode::Adaptive), 16 * MS);
        assert_eq!(end_of_back_off(WaitMode::Spin), 0);
    }

    #[test]
    fn preemptions_far_apart_are_forgiven() {
        let mut policy = adaptive();
        policy.learn(SpinEnd::Preempted, MS, 2 * MS);
        policy.learn(SpinEnd::Preempted, 19 * MS, 20 * MS);
        assert!(policy.may_spin(20 * MS, Some(0), Some(1)));
    }

    #[test]
    fn the_third_expired_spin_in_a_row_is_bad_and_repetition_doubles_the_penalty() {
        let mut policy = adaptive();
        let mut expire_three_at = |now_ns| {
            for _ in 0..3 {
                policy.learn(SpinEnd::Expired, now_ns - 50_000, now_ns);
            }
            policy.resume_at_ns - now_ns
        };
        assert_eq!(expire_three_at(10 * MS), 15 * MS);
        assert_eq!(expire_three_at(40 * MS), 30 * MS);
        assert_eq!(expire_three_at(90 * MS), 60 * MS);
    }

    #[test]
    fn spins_grow_where_longer_ones_would_have_won_and_shrink_where_not() {
        let mut policy = adaptive();
        let mut wait_of = |wait_ns| {
            policy.learn(SpinEnd::Expired, MS, MS + policy.patience_ns);
            policy.woken(MS + wait_ns);
            policy.patience_ns
        };
        assert_eq!(
            [wait_of(120_000), wait_of(180_000), wait_of(200_000)],
            [100_000, 200_000, 200_000]
        );
        assert_eq!([wait_of(200_001), wait_of(MS)], [50_000, 50_000]);
    }

    #[test]
    fn what_makes_spins_grow_is_not_held_against_them() {
        let mut policy = adaptive();
        for _ in 0..2 {
            policy.learn(SpinEnd::Expired, 0, 50_000);
        }
        policy.woken(100_000);
        for _ in 0..2 {
            policy.learn(SpinEnd::Expired, 0, 100_000);
        }
        assert_eq!(policy.backs_off_until_ns(), 0);
    }

    #[test]
    fn only_a_spin_that_expired_is_learned_from_later() {
        let mut policy = adaptive();
        policy.woken(60_000);
        policy.learn(SpinEnd::Expired, 0, 50_000);
        policy.learn(SpinEnd::Won, 50_000, 60_000);
        policy.woken(70_000);
        assert_eq!(policy.patience_ns, 50_000);
    }

    #[test]
    fn who_does_not_adapt_spins_for_the_whole_budget() {
        assert_eq!(SpinPolicy::new(WaitMode::Spin, 50_000).patience_ns, 50_000);
    }

    #[test]
    fn the_penalty_is_bounded_and_good_spins_forget_it() {
        let mut policy = adaptive();
        for _ in 0..60 {
            policy.learn(SpinEnd::Expired, 0, 50_000);
        }
        assert_eq!(policy.penalty_ns, MAX_PENALTY_NS);
        for _ in 0..30 {
            policy.learn(SpinEnd::Won, 0, 1_000);
        }
        assert_eq!(policy.penalty_ns, 0);
    }

    #[test]
    fn a_spin_for_something_that_is_there_wins_at_once() {
        assert_eq!(adaptive().spin(|| true, |_| false), SpinEnd::Won);
    }

    #[test]
    fn a_spin_for_nothing_ends() {
        assert_ne!(adaptive().spin(|| false, |_| false), SpinEnd::Won);
    }
}
