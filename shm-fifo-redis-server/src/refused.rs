//! How often clients were refused, and why: for INFO and for the log.
//!
//! The server's main thread alone comes here: once for a refusal, and with its cron. Whoever
//! moves, and the bytes of those who have moved, do not.

use crate::log;
use crate::refusal::{Reason, Refusal};
use redis_module::Context;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use strum::{EnumCount as _, VariantArray as _};

/// A reason is logged at once, and then so seldom, however many clients are refused.
const QUIET: Duration = Duration::from_secs(5 * 60);

/// The refusals for one reason.
#[derive(Debug)]
struct Tally {
    refused: u64,
    /// Of these the log knows.
    logged: u64,
    logged_at: Option<Instant>,
    /// What the last client was told.
    last: String,
}

/// By the reasons' numbers. No thread waits for another one here; a static asks for the lock.
static TALLIES: Mutex<[Tally; Reason::COUNT]> = Mutex::new([const { Tally::new() }; Reason::COUNT]);

pub(crate) fn count(refusal: &Refusal) {
    lock()[refusal.reason() as usize].count(refusal.to_string());
}

/// Each reason's field in INFO, and how many were refused for it.
pub(crate) fn fields() -> impl Iterator<Item = (String, u64)> {
    let counts = lock().each_ref().map(|tally| tally.refused);
    Reason::VARIANTS.iter().map(|reason| reason.field()).zip(counts)
}

/// Logs what is new, a line for each reason, and not too often.
pub(crate) fn log(context: &Context) {
    let now = Instant::now();
    for (reason, tally) in Reason::VARIANTS.iter().zip(lock().iter_mut()) {
        if let Some(line) = tally.line(&reason.field(), now) {
            reason.log(context, &line);
        }
    }
}

impl Tally {
    const fn new() -> Self {
        Self { refused: 0, logged: 0, logged_at: None, last: String::new() }
    }

    fn count(&mut self, told: String) {
        self.refused += 1;
        self.last = told;
    }

    /// What to log, if it is time for that.
    fn line(&mut self, field: &str, now: Instant) -> Option<String> {
        let news = self.refused - self.logged;
        let is_early = self.logged_at.is_some_and(|before| now < before + QUIET);
        if news == 0 || is_early {
            return None;
        }
        self.logged = self.refused;
        self.logged_at = Some(now);
        let Self { refused, last, .. } = self;
        Some(format!(
            "{news} requests to move to shared memory were refused (shm_{field}, {refused} since \
             the start); the last client was told: {last}"
        ))
    }
}

impl Reason {
    fn field(self) -> String {
        format!("refused_{}", <&str>::from(self))
    }

    /// Warnings are what an operator can mend. What a client does wrong is its own to know.
    fn log(self, context: &Context, line: &str) {
        match self {
            Self::MaxSessions | Self::MaxMemory | Self::System | Self::ClientList => {
                log::warning(context, line);
            }
            Self::SwitchedOff | Self::Remote | Self::Encrypted => log::notice(context, line),
            Self::State | Self::Unread | Self::Offer | Self::Version | Self::Arguments => {
                log::verbose(context, line);
            }
        }
    }
}

fn lock() -> MutexGuard<'static, [Tally; Reason::COUNT]> {
    TALLIES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_logged_at_once_and_then_with_how_many_since() {
        let mut tally = Tally::new();
        let start = Instant::now();
        assert_eq!(tally.line("refused_offer", start), None);
        tally.count("no".into());

        let first = tally.line("refused_offer", start);

        assert_eq!(
            first.as_deref(),
            Some(
                "1 requests to move to shared memory were refused (shm_refused_offer, 1 since the \
                 start); the last client was told: no"
            )
        );
        for _ in 0..121 {
            tally.count("not now".into());
        }
        assert_eq!(tally.line("refused_offer", start + QUIET / 2), None);
        let second = tally.line("refused_offer", start + QUIET).expect("they are news");
        assert!(second.starts_with("121 requests"), "{second}");
        assert!(second.ends_with(", 122 since the start); the last client was told: not now"));
        assert_eq!(tally.line("refused_offer", start + 9 * QUIET), None);
    }

    #[test]
    fn reasons_stand_in_the_order_of_their_numbers() {
        assert!(Reason::VARIANTS.iter().enumerate().all(|(place, &one)| place == one as usize));
    }
}
