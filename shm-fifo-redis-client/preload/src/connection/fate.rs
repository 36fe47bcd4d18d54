//! Why a connection is where it is, for the report.

use super::{Connection, lock};
use crate::report::{self, Reason};
use shm_fifo_redis_client::Refusal;

impl Connection {
    /// It stays on its socket, as far as can be told now. One that has moved counts as that.
    pub(super) fn stays(&self, reason: Reason) {
        if self.ring().is_some() {
            return;
        }
        let before = lock(&self.stays).replace(reason);
        if before != Some(reason) {
            report::stayed(reason);
            before.into_iter().for_each(report::forgive);
        }
    }

    /// It has moved.
    pub(super) fn has_moved(&self) {
        report::moved();
        lock(&self.stays).take().into_iter().for_each(report::forgive);
    }
}

pub(super) fn reason_of(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::NoModule => Reason::NoModule,
        Refusal::NoPermission => Reason::NoPermission,
        Refusal::NotLoggedIn => Reason::NotLoggedIn,
        Refusal::NoDescriptor => Reason::DescriptorStripped,
        Refusal::Attach(_) | Refusal::NotTheServers => Reason::NotAttached,
        _ => Reason::Refused,
    }
}
