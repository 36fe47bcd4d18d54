//! Memory of connections that are silent.
//!
//! A ring's pages stay once they were written. Those of the ring that this side writes hold
//! nothing any more when the peer has read all of it, and whoever writes there next has them
//! allocated again. (The ring that the peer writes is the peer's: it may be writing at any
//! moment.)

use super::session::Session;
use super::table;
use crate::os::overcommit;
use crate::os::sys;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Each session is looked at in every so manieth sweep, and sweeps count that are so far apart:
/// one that is silent for two to four seconds is idle.
const TURNS: u64 = 20;
const TURN_NS: u64 = 100_000_000;
/// To give fewer back costs more than it is worth.
const LEAST_BYTES: u64 = 8192;
/// So many give their memory back in one sweep: each takes the kernel some twenty microseconds.
const MOST_IN_A_SWEEP: usize = 16;

static TURN: AtomicU64 = AtomicU64::new(0);
static LAST_TURN_NS: AtomicU64 = AtomicU64::new(0);

/// What was seen of a session when it was looked at last.
#[derive(Debug, Default)]
pub(super) struct LastSeen {
    /// All bytes that had been read and written.
    passed: AtomicU64,
    /// How many had been written when memory was given back.
    given_back: AtomicU64,
}

// ORDERING, Relaxed, of all four: one thread sweeps at a time, and if two did, a session would
// be looked at early.

/// Looks at some sessions.
pub(super) fn sweep() {
    let now = sys::monotonic_ns();
    if now.wrapping_sub(LAST_TURN_NS.load(Relaxed)) < TURN_NS {
        return;
    }
    LAST_TURN_NS.store(now, Relaxed);
    let turn = TURN.fetch_add(1, Relaxed) % TURNS;
    let is_their_turn = |session: &&Session| u64::from(session.fd().unsigned_abs()) % TURNS == turn;
    let mut idle = table::sessions().filter(is_their_turn).filter(|session| session.is_idle());
    // The pages may be refused when they are needed again.
    let may_take = |_: &_| overcommit::pages_may_come_when_used();
    if let Some(first) = idle.next().filter(may_take) {
        [first].into_iter().chain(idle).take(MOST_IN_A_SWEEP).for_each(Session::give_back_written);
    }
}

impl Session {
    /// Whether nothing has passed since it was asked last, and there may be memory to give
    /// back.
    fn is_idle(&self) -> bool {
        let at = self.positions();
        let passed = at.head.wrapping_add(at.tail);
        let is_silent = self.last_seen().passed.swap(passed, Relaxed) == passed;
        let written = at.tail.wrapping_sub(self.last_seen().given_back.load(Relaxed));
        is_silent && written >= LEAST_BYTES
    }

    /// Gives the memory back of what was written and read.
    fn give_back_written(&self) {
        let tail = self.positions().tail;
        if self.give_back_if_read() {
            self.last_seen().given_back.store(tail, Relaxed);
        }
    }
}

impl LastSeen {
    /// Another connection begins.
    pub(super) fn forget(&self) {
        self.passed.store(0, Relaxed);
        self.given_back.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::endpoint::Endpoint;
    use crate::os::region::Region;
    use std::fs::File;
    use std::io::IoSlice;
    use std::os::unix::fs::MetadataExt as _;

    const WRITTEN: usize = 20_000;

    /// A session that nobody watches, its peer, and the file that both map.
    fn session() -> (Session, Endpoint, File) {
        let region = Region::create(64 << 10).expect("memory");
        let file = region.fd().expect("its file");
        let peer = Region::attach(region.fd().expect("its file")).expect("a region");
        let session = Session::new(-1);
        session.begin(region.into_endpoint(), 0).expect("its first");
        (session, peer.into_endpoint(), File::from(file))
    }

    fn write(session: &Session, bytes: &[u8]) {
        assert_eq!(session.write(&[IoSlice::new(bytes)]), Ok(bytes.len()));
    }

    fn read(peer: &mut Endpoint) -> Vec<u8> {
        let mut bytes = vec![0; WRITTEN];
        let count = peer.consumer.read(&mut bytes).expect("sane");
        bytes.truncate(count);
        bytes
    }

    fn allocated_bytes(file: &File) -> u64 {
        file.metadata().expect("a file").blocks() * 512
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn a_silent_session_keeps_nothing_that_was_read_and_goes_on() {
        let (session, mut peer, file) = session();
        for _ in 0..3 {
            write(&session, &[1; WRITTEN]);
            assert_eq!(read(&mut peer), [1; WRITTEN]);
            let before = allocated_bytes(&file);
            assert!(!session.is_idle(), "something has passed");
            assert!(session.is_idle());

            session.give_back_written();

            assert!(allocated_bytes(&file) + WRITTEN as u64 <= before + 4096);
            assert!(!session.is_idle(), "there is nothing to give back");
        }
        session.end();
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn what_is_unread_stays() {
        let (session, mut peer, file) = session();
        write(&session, &[1; WRITTEN]);
        let before = allocated_bytes(&file);
        assert!(!session.is_idle());
        assert!(session.is_idle());

        session.give_back_written();

        assert_eq!(allocated_bytes(&file), before);
        assert_eq!(read(&mut peer), [1; WRITTEN]);
        assert!(session.is_idle(), "it is asked again");
        session.end();
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn a_session_that_wrote_little_or_is_read_from_is_not_idle() {
        let (session, mut peer, _file) = session();
        write(&session, &[1; 100]);
        assert_eq!(read(&mut peer), [1; 100]);
        assert!(!session.is_idle());
        assert!(!session.is_idle(), "it has written little");

        write(&session, &[1; WRITTEN]);
        assert!(!session.is_idle());
        peer.producer.write(b"x").expect("sane");
        assert_eq!(session.read(&mut [0]), Ok(1));
        assert!(!session.is_idle(), "something was read");
        session.end();
    }
}
