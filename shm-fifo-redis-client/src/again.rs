//! When a connection that was refused asks again.

/// Moving costs about as much as shared memory saves on so many requests.
const FIRST: u32 = 25;
/// After a refusal that may pass it is asked again after twice as many requests, up to so many.
const MOST: u32 = 10_000;

/// Counts requests until it is time to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Countdown {
    left: u32,
    /// Requests until it was asked last.
    between: u32,
}

impl Default for Countdown {
    fn default() -> Self {
        Self { left: FIRST, between: FIRST }
    }
}

impl Countdown {
    /// Whether it is time to ask.
    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// One more request is made.
    pub(crate) fn count(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Begins anew after a refusal: it takes twice as long.
    pub(crate) fn put_off(self) -> Self {
        let between = MOST.min(self.between.saturating_mul(2));
        Self { left: between, between }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_doubles_the_requests_until_the_next_attempt_up_to_a_limit() {
        let mut countdown = Countdown::default();
        for requests in [25, 50, 100] {
            (0..requests).for_each(|_| {
                assert!(!countdown.is_over());
                countdown.count();
            });
            assert!(countdown.is_over());
            countdown = countdown.put_off();
        }
        let last = (0..20).fold(countdown, |countdown, _| countdown.put_off());
        assert_eq!(last, Countdown { left: MOST, between: MOST });
    }
}
