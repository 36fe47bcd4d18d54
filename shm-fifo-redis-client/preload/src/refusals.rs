//! What the server has refused to this process, so that not each of its connections asks
//! for the same: a refusal for want of permission stands in the server's ACL LOG.

use crate::sys;
use shm_fifo_redis_client::Refusal;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Who is logged in on a connection: a number that says no more than whether two are the
/// same. 0 is nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct User(u64);

impl User {
    /// The one who logs in by these words: those that the whole request begins with.
    pub(crate) fn of_login<'a>(words: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut hasher = DefaultHasher::new();
        words.for_each(|word| word.hash(&mut hasher));
        Self(hasher.finish() | 1)
    }

    /// What stands for the user in the table, where 0 is an empty place.
    fn entry(self) -> u64 {
        self.0.max(2)
    }
}

/// Users that may not ask. Those beyond are asked for again, by each connection.
static NOT_PERMITTED: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];
/// When a server that did not know the command may be asked again: modules are loaded later.
static NO_MODULE_UNTIL_NS: AtomicU64 = AtomicU64::new(0);
const NO_MODULE_NS: u64 = 1_000_000_000;

/// Why a connection of this user need not ask; `None` if it may.
pub(crate) fn known(user: User) -> Option<Refusal> {
    let is_refused = |place: &AtomicU64| place.load(Relaxed) == user.entry();
    if NOT_PERMITTED.iter().any(is_refused) {
        return Some(Refusal::NoPermission);
    }
    // The clock is not looked at where nothing was ever refused.
    let until_ns = NO_MODULE_UNTIL_NS.load(Relaxed);
    let is_unknown = until_ns != 0 && sys::monotonic_ns() < until_ns;
    is_unknown.then_some(Refusal::NoModule)
}

/// The server refused.
pub(crate) fn note(refusal: &Refusal, user: User) {
    match refusal {
        Refusal::NoPermission => {
            let is_free = |place: &&AtomicU64| {
                place.compare_exchange(0, user.entry(), Relaxed, Relaxed).is_ok()
            };
            let _place = NOT_PERMITTED.iter().find(is_free);
        }
        Refusal::NoModule => {
            NO_MODULE_UNTIL_NS.store(sys::monotonic_ns() + NO_MODULE_NS, Relaxed);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_does_not_ask_again_and_others_may() {
        let user = |name: &'static [u8]| User::of_login([&b"AUTH"[..], name].into_iter());
        note(&Refusal::NoPermission, user(b"one"));
        assert!(matches!(known(user(b"one")), Some(Refusal::NoPermission)));
        assert!(known(user(b"two")).is_none());
        assert!(known(User::default()).is_none());
    }
}
