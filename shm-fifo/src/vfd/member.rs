//! One session as the poller that watches it knows it.

use super::poller::{EPOLLIN, EPOLLOUT};
use super::session::Session;
use super::stats::COUNTERS;
use crate::interposer::pace::GRACE_NS;
use crate::os::doorbell;
use crate::os::wait::PublishedCpu;
use crate::{Interest, Positions, Watch};

/// So many doorbells in a row may stay on the socket. With the next they are six at most, for bytes
/// and for space: the smallest buffer that a socket may have holds as many, and loses none.
const UNREAD_DOORBELLS: usize = 2;
/// A doorbell is lost if it is still owed at so many sweeps after the first.
const SWEEPS_IN_A_ROW: u32 = 4;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) session: &'static Session,
    pub(super) watch: Watch<'static>,
    pub(super) interest: u32,
    pub(super) data: u64,
    pub(super) active_ns: u64,
    cpu: PublishedCpu,
    /// What the kernel says of the socket of one that is leaving, and was not reported yet.
    pub(super) on_socket: u32,
    /// The positions at which the last sweep found that it was owed a doorbell.
    pub(super) swept_at: Option<Positions>,
    /// At how many sweeps in a row before it was the same.
    sweeps: u32,
    /// The unread position at which it was last reported as readable, and when.
    reported: Option<(u64, u64)>,
}

impl Member {
    pub(super) fn new(session: &'static Session, watch: Watch<'static>) -> Self {
        Self {
            session,
            watch,
            interest: 0,
            data: 0,
            active_ns: 0,
            cpu: PublishedCpu::default(),
            on_socket: 0,
            swept_at: None,
            sweeps: 0,
            reported: None,
        }
    }

    /// What to report for it: `EPOLLIN`, `EPOLLOUT`, both or nothing.
    #[inline]
    pub(super) fn ready(&self) -> u32 {
        let gone = self.session.peer_is_gone();
        let Positions { head, tail } = self.session.positions();
        let interest = self.interest_in_rings();
        let mut ready = self.interest & self.on_socket;
        if interest & EPOLLIN != 0 && (gone || self.watch.data.is_ready(head)) {
            ready |= EPOLLIN;
        }
        if interest & EPOLLOUT != 0 && (gone || self.watch.space.is_ready(tail)) {
            ready |= EPOLLOUT;
        }
        ready
    }

    /// Whether the doorbell that was just told may stay on the socket: to take it is a system
    /// call, and it says nothing that the ring does not say as well.
    pub(super) fn leaves_doorbell_unread(&self) -> bool {
        let says_it_all = self.session.unread_doorbells() < UNREAD_DOORBELLS
            && self.ready() != 0
            && !self.watch.data.producer_leaves();
        if says_it_all {
            self.session.leave_doorbell_unread();
        }
        says_it_all
    }

    /// What of the program's interest the rings are to tell: of one that is leaving, its
    /// last bytes.
    #[inline]
    fn interest_in_rings(&self) -> u32 {
        let is_leaving = self.interest & EPOLLOUT != 0 && self.session.is_leaving();
        if is_leaving { self.interest & EPOLLIN } else { self.interest }
    }

    /// Whether bytes have come that the program is interested in.
    #[inline]
    pub(super) fn has_bytes(&self) -> bool {
        let Positions { head, .. } = self.session.positions();
        self.interest & EPOLLIN != 0 && self.watch.data.published() != head
    }

    /// Whether it is readable and was reported so a moment ago, and nobody has read. Where
    /// another thread owns the connection at that moment, as with Redis 8's io-threads, the
    /// loop could do nothing but hear of it again.
    pub(super) fn repeats_itself(&self, now_ns: u64) -> bool {
        self.reported.is_some_and(|(head, at_ns)| {
            head == self.session.positions().head && now_ns.saturating_sub(at_ns) < GRACE_NS
        })
    }

    /// Notes that `ready` is being reported.
    pub(super) fn note_report(&mut self, ready: u32, now_ns: u64) {
        // As long as it lasts, the kernel says so again.
        self.on_socket = 0;
        if ready & EPOLLIN != 0 {
            self.reported = Some((self.session.positions().head, now_ns));
        }
    }

    /// Something has happened: what was reported before is worth saying again.
    pub(super) fn forget_report(&mut self) {
        self.reported = None;
    }

    /// Whether its doorbell was lost. It counts as active then.
    ///
    /// That is when it was owed one at several sweeps in a row, a tick apart, at the
    /// same positions: a peer that is about to ring may have to wait for its CPU.
    pub(super) fn has_missed(&mut self, now_ns: u64) -> bool {
        let found_at = self.is_owed_a_doorbell().then(|| self.session.positions());
        let is_same = found_at.is_some() && self.swept_at == found_at;
        // A doorbell that was heard, by a loop that has not run yet, is not lost. Beside some
        // that were left unread it cannot be told whether there is such a one.
        let unread = self.session.unread_doorbells();
        let is_ringing = is_same && doorbell::pending(self.session.fd()) > unread;
        let again = is_same && !(is_ringing && unread == 0);
        self.sweeps = if again { self.sweeps + 1 } else { 0 };
        self.swept_at = found_at;
        let missed = self.sweeps >= SWEEPS_IN_A_ROW;
        if missed {
            COUNTERS.missed_doorbells.add((!is_ringing).into());
            self.sweeps = 0;
            self.active_ns = now_ns;
        }
        missed
    }

    /// Whether its peer must have rung, or is just about to. A reader need not ring
    /// as soon as there is space, only before it stops reading or has read all.
    fn is_owed_a_doorbell(&self) -> bool {
        let ready = self.ready();
        ready & EPOLLIN != 0
            || ready & EPOLLOUT != 0 && self.watch.space.has_read_all(self.session.positions().tail)
    }

    /// Announces it as asleep for what the program is interested in; `false`,
    /// and awake, if that came meanwhile.
    pub(super) fn park(&self) -> bool {
        let interest = self.interest_in_rings();
        let interest =
            Interest { readable: interest & EPOLLIN != 0, writable: interest & EPOLLOUT != 0 };
        self.watch.park(interest, self.session.positions())
    }

    pub(super) fn unpark(&self) {
        self.watch.unpark(Interest::BOTH);
    }

    pub(super) fn publish_cpu(&self, cpu: Option<u32>) {
        self.cpu.update(cpu, &self.watch);
    }
}
