//! How many connections moved, and why how many did not.

use shm_fifo_redis_client::wire::words;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Why a connection stayed on its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    NoModule,
    NoPermission,
    NotLoggedIn,
    /// Its limits, its memory, or too many offers at a time.
    Refused,
    DescriptorStripped,
    NotSeenWaiting,
    /// Bytes that are no RESP, and what makes replies come otherwise than one for each
    /// request.
    NotUnderstood,
    /// By an epoll instance, aio or io_uring that is not served.
    Watched,
    SharedWithChild,
    /// Its number has become another file's, where that was not seen.
    Replaced,
    /// Too few commands, or no moment without an outstanding reply behind them.
    Short,
    /// What was offered could not be used in this process.
    NotAttached,
}

impl Reason {
    pub(super) const ALL: [Self; 12] = [
        Self::NoModule,
        Self::NoPermission,
        Self::NotLoggedIn,
        Self::Refused,
        Self::DescriptorStripped,
        Self::NotSeenWaiting,
        Self::NotUnderstood,
        Self::Watched,
        Self::SharedWithChild,
        Self::Replaced,
        Self::Short,
        Self::NotAttached,
    ];

    fn sentence(self) -> &'static str {
        match self {
            Self::NoModule => words::NO_MODULE,
            Self::NoPermission => words::NO_PERMISSION,
            Self::NotLoggedIn => words::NOT_LOGGED_IN,
            Self::Refused => words::REFUSED,
            Self::DescriptorStripped => words::NO_DESCRIPTOR,
            Self::NotSeenWaiting => "not seen waiting by calls that are served",
            Self::NotUnderstood => {
                "its bytes are not followed (no RESP, SUBSCRIBE, MONITOR, CLIENT REPLY)"
            }
            Self::Watched => "watched by an epoll instance, aio or io_uring that is not served",
            Self::SharedWithChild => "the process forked: a child has it, too",
            Self::Replaced => "closed by calls that are not seen, and its number is another file's",
            Self::Short => {
                "too few commands (SHM_FIFO_AFTER_COMMANDS), or none without an outstanding reply"
            }
            Self::NotAttached => words::NOT_ATTACHED,
        }
    }
}

/// Relaxed everywhere: the numbers carry nothing but themselves.
#[derive(Debug)]
pub(super) struct Counts {
    moved: AtomicU64,
    stayed: [AtomicU64; Reason::ALL.len()],
}

impl Counts {
    pub(super) const fn new() -> Self {
        Self { moved: AtomicU64::new(0), stayed: [const { AtomicU64::new(0) }; Reason::ALL.len()] }
    }

    pub(super) fn moved(&self) {
        self.moved.fetch_add(1, Relaxed);
    }

    pub(super) fn stayed(&self, reason: Reason) {
        self.of(reason).fetch_add(1, Relaxed);
    }

    /// Takes back one of `stayed`, if there is one: a forked child forgives what its
    /// parent counted.
    pub(super) fn forgive(&self, reason: Reason) {
        let less = |count: u64| count.checked_sub(1);
        let _none = self.of(reason).fetch_update(Relaxed, Relaxed, less);
    }

    pub(super) fn reset(&self) {
        self.stayed.iter().chain([&self.moved]).for_each(|count| count.store(0, Relaxed));
    }

    /// Whether there has been no connection.
    pub(super) fn is_empty(&self) -> bool {
        self.stayed.iter().chain([&self.moved]).all(|count| count.load(Relaxed) == 0)
    }

    /// A line for those that moved, and one for each reason; none without a connection.
    pub(super) fn tell(
        &self,
        line: &mut impl FnMut(fmt::Arguments<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let moved = self.moved.load(Relaxed);
        let stayed = Reason::ALL.map(|reason| (reason, self.of(reason).load(Relaxed)));
        let mut stayed = stayed.into_iter().filter(|&(_, count)| count > 0).peekable();
        match (moved, stayed.peek()) {
            (0, None) => return Ok(()),
            (0, Some(_)) => line(format_args!("no connection moved"))?,
            (1, _) => line(format_args!("1 connection moved"))?,
            (moved, _) => line(format_args!("{moved} connections moved"))?,
        }
        stayed.try_for_each(|(reason, count)| {
            line(format_args!("{count} stayed: {}", reason.sentence()))
        })
    }

    fn of(&self, reason: Reason) -> &AtomicU64 {
        &self.stayed[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(counts: &Counts) -> Vec<String> {
        let mut lines = Vec::new();
        let told = counts.tell(&mut |line| {
            lines.push(line.to_string());
            Ok(())
        });
        assert_eq!(told, Ok(()));
        lines
    }

    #[test]
    fn each_reason_counts_for_itself() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            let counts = Counts::new();
            counts.stayed(reason);
            counts.stayed(reason);
            let expected = format!("2 stayed: {}", reason.sentence());
            assert_eq!(lines(&counts), ["no connection moved", expected.as_str()]);
        }
        let sentences = Reason::ALL.map(Reason::sentence);
        let different: std::collections::BTreeSet<_> = sentences.into_iter().collect();
        assert_eq!(different.len(), sentences.len());
    }

    #[test]
    fn each_sentence_is_documented_with_what_to_do() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/preload.md");
        let page = std::fs::read_to_string(page).expect("the page");
        for reason in Reason::ALL {
            let row = format!("\n| {} | ", reason.sentence());
            assert!(page.contains(&row), "no {row}");
        }
    }

    #[test]
    fn those_that_moved_come_first() {
        let counts = Counts::new();
        assert_eq!(lines(&counts), [""; 0]);
        counts.moved();
        assert_eq!(lines(&counts), ["1 connection moved"]);
        counts.moved();
        counts.stayed(Reason::NotSeenWaiting);
        counts.stayed(Reason::NoModule);
        let expected = [
            "2 connections moved",
            "1 stayed: the server does not have the shm module",
            "1 stayed: not seen waiting by calls that are served",
        ];
        assert_eq!(lines(&counts), expected);
    }

    #[test]
    fn what_is_forgiven_is_not_told() {
        let counts = Counts::new();
        counts.stayed(Reason::NotSeenWaiting);
        counts.forgive(Reason::NotSeenWaiting);
        assert_eq!(lines(&counts), [""; 0]);
        counts.forgive(Reason::NotSeenWaiting);
        counts.stayed(Reason::NotSeenWaiting);
        assert_eq!(lines(&counts).len(), 2);
    }

    #[test]
    fn a_child_begins_with_nothing() {
        let counts = Counts::new();
        counts.moved();
        Reason::ALL.into_iter().for_each(|reason| counts.stayed(reason));
        counts.reset();
        assert_eq!(lines(&counts), [""; 0]);
    }
}
