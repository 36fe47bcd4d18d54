//! Doorbells that are left to an event loop's next wait: one fence then for all of them.

use super::member::Member;
use super::settings::Packed;
use crate::PublishFence;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// What a poller knows of the doorbells that were left to its next wait.
#[derive(Debug)]
pub(super) struct Deferred {
    /// The one thread that ever waited here, [`NOBODY`] before and [`MANY`] after that.
    waiter: AtomicUsize,
    /// Members have published and not looked whether their peers sleep.
    some: AtomicBool,
}

/// No thread has waited yet.
const NOBODY: usize = 0;
/// Several threads wait, in turns: none may leave a doorbell to another's next wait.
const MANY: usize = usize::MAX;

impl Deferred {
    pub(super) const fn new() -> Self {
        Self { waiter: AtomicUsize::new(NOBODY), some: AtomicBool::new(false) }
    }

    /// Whether the calling thread may leave it to its next wait to look whether a
    /// peer sleeps. Only where no other thread waits: one that is waiting has looked
    /// already, and may go to sleep.
    pub(super) fn is_allowed(&self) -> bool {
        // ORDERING, Relaxed: a session's writer is locked here, see `note_waiter`.
        Packed::now().notify_at_next_wait() && self.waiter.load(Relaxed) == this_thread()
    }

    /// Has the next wait look at the sessions that say they are deferred.
    pub(super) fn note(&self) {
        // ORDERING, Release: pairs with the Acquire swap in `ring`, in case it is another
        // thread that waits next.
        self.some.store(true, Release);
    }

    /// Notes which thread waits, beside these `hot` members. Once a second one does, the
    /// first may be about to leave a doorbell to a wait that is over: all are rung now, and
    /// none is left to a wait from then on.
    pub(super) fn note_waiter(&self, hot: &[Member]) {
        let here = this_thread();
        match self.waiter.load(Relaxed) {
            known if known == here || known == MANY => {}
            NOBODY => self.waiter.store(here, Relaxed),
            _ => {
                // ORDERING, Relaxed: each lock below is taken after a write that may not
                // know, which is rung for here, or before one that does know.
                self.waiter.store(MANY, Relaxed);
                hot.iter().for_each(|member| member.session.notify_now());
            }
        }
    }

    /// Rings the peers of `hot` members that sleep over what was written since the last
    /// wait: one fence for all of them, when the stores have long left the CPU.
    pub(super) fn ring(&self, hot: &[Member]) {
        // ORDERING, Acquire: see `note`.
        if self.some.swap(false, Acquire) {
            let fence = PublishFence::execute();
            for member in hot {
                member.session.notify_if_deferred(&member.watch.space, &fence);
            }
        }
    }
}

/// A number that no other living thread has.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}
