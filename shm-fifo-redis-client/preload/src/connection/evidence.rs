//! Whether the program was seen waiting for a connection by calls that are served. What
//! waits in some other way stays on its socket: nothing would wake it.

use super::watchers::Watcher;
use super::{Connection, lock};
use std::sync::atomic::Ordering::Relaxed;

/// Nothing is known; or the last read found nothing, and how the program waits then was not
/// seen.
const NONE: u8 = 0;
/// It was seen before, or reads in blocking mode. A reply that is there at once says nothing.
const EARLIER: u8 = 1;
/// It waited for the last reply by a call that is served.
const SURE: u8 = 2;

impl Connection {
    /// Whether it was seen how the program waits.
    ///
    /// That is each epoll instance that watches it, made in our sight and waited in since it
    /// does; or else a blocking call, or `poll` and its like.
    pub(super) fn is_seen_waiting(&self) -> bool {
        let watchers = lock(&self.watchers);
        let evidence = self.evidence.load(Relaxed);
        let mut telling = watchers.iter().filter(|watcher| watcher.tells()).peekable();
        let is_watched = telling.peek().is_some();
        let is_served = telling.all(Watcher::is_served);
        let is_sure = if is_watched { is_served } else { evidence == SURE };
        self.waits_unseen.store(!is_sure, Relaxed);
        is_served && (is_sure || evidence > NONE)
    }

    /// The program waits for it by a call that is served.
    pub(crate) fn note_waited(&self) {
        self.evidence.store(SURE, Relaxed);
    }

    /// It reads in blocking mode: it would wait, where there is nothing to read.
    pub(crate) fn note_blocking_read(&self) {
        self.evidence.fetch_max(EARLIER, Relaxed);
    }

    /// It wrote something, whose reply is another matter.
    pub(super) fn note_written(&self) {
        self.evidence.fetch_min(EARLIER, Relaxed);
    }

    /// It read nothing, or changed the mode of reading: from now on it waits in a way that is
    /// to be seen again.
    pub(crate) fn forget_waiting(&self) {
        self.evidence.store(NONE, Relaxed);
    }
}
