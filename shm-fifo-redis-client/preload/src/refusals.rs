//! What servers have refused to this process lately, so that not each of its connections asks
//! for the same: a refusal for want of permission stands in the server's ACL LOG.
//!
//! No lock: a forked child has what another thread of its parent was in the middle of. Two
//! threads that note something at once may lose one of it, which is then asked for once more.

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
        Self(number_of(&words.collect::<Vec<_>>()))
    }
}

/// How long a user who may not ask is taken at that: `ACL SETUSER` may allow it.
pub(crate) const NO_PERMISSION_NS: u64 = 60_000_000_000;
/// How long a server that does not know the command is: a module may be loaded.
const NO_MODULE_NS: u64 = 1_000_000_000;

/// Something that was refused, by its number; the moment from which it may be asked for again.
struct Place {
    what: AtomicU64,
    until_ns: AtomicU64,
}

/// What finds no place is asked for again, by each connection.
static PLACES: [Place; 32] =
    [const { Place { what: AtomicU64::new(0), until_ns: AtomicU64::new(0) } }; 32];

/// Why a connection of this user to this server need not ask, and until when; `None` if it may.
pub(crate) fn known(server: u64, user: User) -> Option<(Refusal, u64)> {
    known_at(sys::monotonic_ns(), server, user)
}

fn known_at(now_ns: u64, server: u64, user: User) -> Option<(Refusal, u64)> {
    [Refusal::NoPermission, Refusal::NoModule].into_iter().find_map(|refusal| {
        let (what, _) = entry(&refusal, server, user)?;
        let place = PLACES.iter().find(|place| place.what.load(Relaxed) == what)?;
        let until_ns = place.until_ns.load(Relaxed);
        (now_ns < until_ns).then_some((refusal, until_ns))
    })
}

/// The server refused.
pub(crate) fn note(refusal: &Refusal, server: u64, user: User) {
    let Some((what, lasts_ns)) = entry(refusal, server, user) else { return };
    let now_ns = sys::monotonic_ns();
    let is_its = |place: &&Place| place.what.load(Relaxed) == what;
    let is_free = |place: &&Place| place.until_ns.load(Relaxed) <= now_ns;
    if let Some(place) = PLACES.iter().find(is_its).or_else(|| PLACES.iter().find(is_free)) {
        place.what.store(what, Relaxed);
        place.until_ns.store(now_ns + lasts_ns, Relaxed);
    }
}

/// The number of what is refused, and for how long it is.
fn entry(refusal: &Refusal, server: u64, user: User) -> Option<(u64, u64)> {
    match refusal {
        Refusal::NoPermission => Some((number_of(&(server, user.0)), NO_PERMISSION_NS)),
        Refusal::NoModule => Some((number_of(&server), NO_MODULE_NS)),
        _ => None,
    }
}

/// A number that says no more than whether two are the same; not 0.
pub(crate) fn number_of(what: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish() | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &'static [u8]) -> User {
        User::of_login([&b"AUTH"[..], name].into_iter())
    }

    #[test]
    fn who_may_not_does_not_ask_again_for_a_minute_and_others_may() {
        note(&Refusal::NoPermission, 1, user(b"one"));
        let (refusal, until_ns) = known(1, user(b"one")).unwrap_or((Refusal::NotLoggedIn, 0));
        assert!(matches!(refusal, Refusal::NoPermission));
        assert!(known_at(until_ns - 1, 1, user(b"one")).is_some());
        assert!(known_at(until_ns, 1, user(b"one")).is_none());
        assert!(known(1, user(b"two")).is_none());
        assert!(known(1, User::default()).is_none());
    }

    #[test]
    fn what_one_server_refuses_another_may_grant() {
        note(&Refusal::NoPermission, 2, User::default());
        note(&Refusal::NoModule, 3, User::default());
        assert!(known(2, User::default()).is_some());
        assert!(known(3, user(b"any")).is_some());
        assert!(known(4, User::default()).is_none());
    }
}
