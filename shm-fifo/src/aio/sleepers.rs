//! Who waits on one channel.

use crate::Interest;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// The tasks that wait on one channel: one for each direction, since both may be
/// in use by tasks of their own, while the doorbell is one for both.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    reader: Sleeper,
    writer: Sleeper,
}

/// A task that waits, if one does.
#[derive(Debug, Default)]
pub(super) struct Sleeper(Mutex<Option<Waker>>);

impl Sleepers {
    pub(super) fn of(&self, interest: Interest) -> &Sleeper {
        if interest.readable { &self.reader } else { &self.writer }
    }
}

impl Wake for Sleepers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

impl Sleeper {
    pub(super) fn set(&self, waker: &Waker) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    pub(super) fn take(&self) -> Option<Waker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn wake(&self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }
}
