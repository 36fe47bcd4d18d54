//! What a server may do to a client, and must not, and what the client has to make of it.

mod ending;
mod hostile;
mod moving;
mod staying;

use super::session::{Played, Session};

/// How the program under test is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It has sent back whatever it was given.
    Well,
    /// It says that its connection was lost.
    WithAnError,
}

/// Where a scenario makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Any,
    Tcp,
}

/// One connection that is played with a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What the client has to do.
    pub(super) demand: &'static str,
    /// Where that is written.
    pub(super) section: &'static str,
    pub(super) end: End,
    pub(super) over: Over,
    pub(super) play: fn(&mut Session) -> Played,
}

impl Scenario {
    const fn well(
        name: &'static str,
        demand: &'static str,
        section: &'static str,
        play: fn(&mut Session) -> Played,
    ) -> Self {
        Self { name, demand, section, end: End::Well, over: Over::Any, play }
    }

    const fn error(
        name: &'static str,
        demand: &'static str,
        section: &'static str,
        play: fn(&mut Session) -> Played,
    ) -> Self {
        Self { end: End::WithAnError, ..Self::well(name, demand, section, play) }
    }

    const fn over_tcp(self) -> Self {
        Self { over: Over::Tcp, ..self }
    }
}

/// In the order in which a writer of a client meets them.
pub(super) fn all() -> impl Iterator<Item = &'static Scenario> + Clone {
    [moving::SCENARIOS, staying::SCENARIOS, ending::SCENARIOS, hostile::SCENARIOS]
        .into_iter()
        .flatten()
}

/// The smallest ring: whatever is of some length passes its end.
const SMALL_RING: usize = 4096;
const RING: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_words_that_nobody_else_has() {
        let names: HashSet<_> = all().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().count());
        let is_word =
            |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(names.iter().all(is_word), "{names:?}");
    }
}
