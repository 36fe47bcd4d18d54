//! What INFO said at one moment.

use crate::refusals::Refusals;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Gauges, and counters since the server's start.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    taken: Instant,
    pub(super) sessions: u64,
    pub(super) hot: u64,
    pub(super) offers: u64,
    pub(super) region_bytes: u64,
    /// Those since the start; `None` where an older module does not count them.
    pub(super) refusals: Option<Refusals>,
    pub(super) counters: Counters,
}

/// They only grow, but for `CONFIG RESETSTAT`.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    pub(super) commands: u64,
    pub(super) doorbells_sent: u64,
    pub(super) doorbells_received: u64,
    pub(super) parks: u64,
    pub(super) spins_won: u64,
    pub(super) spins_expired: u64,
    pub(super) spins_preempted: u64,
    pub(super) spin_us: u64,
}

impl Sample {
    /// The server's start, when all counters were 0; from `INFO server`.
    pub(super) fn since_the_start(info: &str) -> Self {
        let uptime = fields(info).get("uptime_in_seconds").copied().unwrap_or(0).max(1);
        let now = Instant::now();
        Self {
            taken: now.checked_sub(Duration::from_secs(uptime)).unwrap_or(now),
            sessions: 0,
            hot: 0,
            offers: 0,
            region_bytes: 0,
            refusals: None,
            counters: Counters::default(),
        }
    }

    /// From `INFO shm` and `INFO stats`; `None` without the module's fields.
    pub(super) fn from_info(info: &str) -> Option<Self> {
        let fields = fields(info);
        let shm = |name: &str| fields.get(format!("shm_{name}").as_str()).copied();
        // What an older module does not count stands still.
        let counter = |name: &str| shm(name).unwrap_or(0);
        Some(Self {
            taken: Instant::now(),
            sessions: shm("sessions")?,
            hot: shm("sessions_hot")?,
            offers: shm("offers")?,
            region_bytes: shm("region_bytes")?,
            refusals: Refusals::from_info(info),
            counters: Counters {
                commands: fields.get("total_commands_processed").copied().unwrap_or(0),
                doorbells_sent: counter("doorbells_sent"),
                doorbells_received: counter("doorbells_received"),
                parks: counter("parks"),
                spins_won: counter("spins_won"),
                spins_expired: counter("spins_expired"),
                spins_preempted: counter("spins_preempted"),
                spin_us: counter("spin_us"),
            },
        })
    }

    /// How much a counter grew in a second, on average since `before`.
    pub(super) fn per_s(&self, before: &Self, counter: fn(&Counters) -> u64) -> f64 {
        let growth = counter(&self.counters).saturating_sub(counter(&before.counters));
        let seconds = (self.taken - before.taken).as_secs_f64();
        if seconds > 0.0 { growth as f64 / seconds } else { 0.0 }
    }

    #[cfg(test)]
    pub(super) fn later(mut self, before: &Self, time: Duration) -> Self {
        self.taken = before.taken + time;
        self
    }
}

/// The fields that are whole numbers.
fn fields(info: &str) -> HashMap<&str, u64> {
    let pairs = info.lines().filter_map(|line| line.split_once(':'));
    pairs.filter_map(|(name, value)| Some((name, value.trim().parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# shm\r\nshm_sessions:3\r\nshm_sessions_hot:1\r\nshm_offers:0\r\n\
                        shm_region_bytes:405504\r\nshm_parks:7\r\n\
                        # Stats\r\ntotal_commands_processed:1000\r\n";

    #[test]
    fn fields_are_found_by_their_names() {
        let sample = Sample::from_info(INFO).expect("the module's fields");
        assert_eq!((sample.sessions, sample.hot, sample.region_bytes), (3, 1, 405_504));
        assert_eq!((sample.counters.parks, sample.counters.commands), (7, 1000));
    }

    #[test]
    fn a_server_without_the_module_gives_no_sample() {
        assert!(Sample::from_info("# Stats\r\ntotal_commands_processed:1000\r\n").is_none());
    }

    #[test]
    fn rates_are_growth_over_time_and_never_negative() {
        let before = Sample::from_info(INFO).expect("a sample");
        let grown = INFO.replace(":1000", ":1500");
        let after = Sample::from_info(&grown).expect("a sample");
        let after = after.later(&before, Duration::from_secs(2));
        assert!((after.per_s(&before, |counters| counters.commands) - 250.0).abs() < 1e-9);
        let reset = Sample::from_info(&INFO.replace(":1000", ":3")).expect("a sample");
        let reset = reset.later(&before, Duration::from_secs(2));
        assert!(reset.per_s(&before, |counters| counters.commands) < 1e-9);
    }
}
