//! The commands that are sent, a table for each type of data and each part of Redis.
//!
//! Not in them, because their replies depend on more than the commands before:
//! RANDOMKEY, SPOP, SRANDMEMBER, HRANDFIELD and ZRANDMEMBER of less than everything, ZLEXCOUNT
//! and its kin where scores differ (chance);
//! TIME, LASTSAVE, XADD with `*`, OBJECT IDLETIME and FREQ, XINFO CONSUMERS and FULL,
//! XPENDING with a range, DUMP of streams and hashes, TTL, PTTL, EXPIRETIME and their kin but through a script, expiry within
//! milliseconds (the clock); KEYS and SCAN of a whole database but through a script
//! (its table grows by the clock); PUBSUB CHANNELS of several (their table keeps the size
//! that connections before gave it); MEMORY USAGE, STATS and INFO (memory); ROLE
//! (it counts what was ever written); LOLWUT,
//! `CLIENT ID`, `LIST` and `INFO` (who asks). The scenarios ask for some of these.

mod collections;
mod connection;
mod scripting;
mod streams;
mod strings;

use crate::support::Random;
use crate::template::Template;
use std::sync::LazyLock;

/// Commands that go together.
#[derive(Debug)]
pub(crate) struct Family {
    /// The kind of most of their keys.
    home: &'static str,
    templates: Vec<Template>,
}

impl Family {
    fn new(home: &'static str, templates: &[&'static str]) -> Self {
        Self { home, templates: templates.iter().map(|text| Template::parse(text)).collect() }
    }

    /// One of its commands.
    pub(crate) fn command(&self, random: &mut Random) -> Vec<Vec<u8>> {
        self.templates[random.below(self.templates.len())].expand(self.home, random)
    }
}

/// Commands on data: each has one reply, and no other connection matters to it.
pub(crate) static DATA: LazyLock<Vec<Family>> = LazyLock::new(|| {
    vec![
        Family::new("string", strings::STRINGS),
        Family::new("string", strings::KEYS),
        Family::new("bits", strings::BITS),
        Family::new("list", collections::LISTS),
        Family::new("hash", collections::HASHES),
        Family::new("set", collections::SETS),
        Family::new("zset", collections::SORTED_SETS),
        Family::new("geo", collections::GEO),
        Family::new("stream", streams::STREAMS),
    ]
});

macro_rules! family {
    ($name:ident, $home:literal, $table:path, $what:literal) => {
        #[doc = $what]
        pub(crate) static $name: LazyLock<Family> = LazyLock::new(|| Family::new($home, $table));
    };
}

family!(SCRIPTING, "string", scripting::SCRIPTING, "Scripts and functions.");
family!(TRANSACTIONS, "string", connection::TRANSACTIONS, "MULTI and what belongs to it.");
family!(SERVER, "string", connection::SERVER, "What a connection asks about itself and others.");
family!(REPLY_MODES, "string", connection::REPLY_MODES, "Replies that are left out.");
family!(PUBSUB, "string", connection::PUBSUB, "Subscriptions.");
family!(TRACKING, "string", connection::TRACKING, "Client-side caching.");
family!(BLOCKING, "list", collections::BLOCKING, "Commands that wait.");
