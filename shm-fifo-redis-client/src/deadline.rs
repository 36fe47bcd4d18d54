//! A deadline that is fixed when it is first needed.

use std::time::{Duration, Instant};

/// The end of a wait. Its clock starts at the first [`Deadline::at`]: what does
/// not have to wait does not look at the clock, which costs as much as a reply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    timeout: Option<Duration>,
    at: Option<Instant>,
}

impl Deadline {
    /// A deadline `timeout` after it is first asked for; `None` is never.
    pub(crate) const fn after(timeout: Option<Duration>) -> Self {
        Self { timeout, at: None }
    }

    /// When it is. A time beyond the clock's range is never.
    #[inline]
    pub(crate) fn at(&mut self) -> Option<Instant> {
        let timeout = self.timeout?;
        if self.at.is_none() {
            self.at = Instant::now().checked_add(timeout);
        }
        self.at
    }

    /// Whether it has passed. One that nobody had to wait for has not.
    pub(crate) fn has_passed(&self) -> bool {
        self.at.is_some_and(|at| at <= Instant::now())
    }

    /// How long until then; `None` is for ever. Never zero, which timeouts may
    /// not be.
    pub(crate) fn left(&mut self) -> Option<Duration> {
        let left = self.at()?.saturating_duration_since(Instant::now());
        Some(left.max(Duration::from_nanos(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_stays_where_it_was_first_seen() {
        let mut deadline = Deadline::after(Some(Duration::from_secs(60)));
        assert_eq!(deadline.at(), deadline.at());
        assert!(deadline.at().is_some());
    }

    #[test]
    fn a_deadline_passes_only_once_it_is_fixed() {
        let mut deadline = Deadline::after(Some(Duration::ZERO));
        assert!(!deadline.has_passed());
        assert!(deadline.at().is_some());
        assert!(deadline.has_passed());
    }

    #[test]
    fn no_timeout_and_an_endless_one_are_never() {
        assert_eq!(Deadline::after(None).at(), None);
        assert_eq!(Deadline::after(Some(Duration::MAX)).at(), None);
    }
}
