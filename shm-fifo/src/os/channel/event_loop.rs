//! What an event loop does in a channel's place: it spins, announces that it sleeps, and
//! hears doorbells.

use super::Channel;
use crate::Interest;
use crate::os::doorbell::{self, Heard};
use crate::os::wait::SpinEnd;
use std::os::fd::BorrowedFd;

impl Channel {
    /// Spins for what `interest` names if the policy says that this pays, at most
    /// for the policy's budget. Returns whether it is there.
    ///
    /// [`Channel::wait`] does this before it sleeps; an event loop may do it before
    /// [`Channel::park`].
    pub fn spin(&mut self, interest: Interest) -> bool {
        if self.is_ready(interest) {
            return true;
        }
        let may_spin = self.may_spin();
        if let Some(endpoint) = self.endpoint.get().filter(|_| may_spin) {
            let (watch, at) = (endpoint.watch(), endpoint.positions());
            let end = self.policy.spin(|| watch.is_ready(interest, at), |_| false);
            self.count_spin(end);
        }
        self.is_ready(interest)
    }

    /// A slice, from `now_ns` to `end_ns`, of a spin that began at `started_ns`: that of who
    /// lets others run in between. `Interrupted` says that it may go on.
    pub(crate) fn spin_slice(
        &mut self,
        interest: Interest,
        started_ns: u64,
        [now_ns, end_ns]: [u64; 2],
    ) -> SpinEnd {
        let Some(endpoint) = self.endpoint.get() else { return SpinEnd::Won };
        let (watch, at) = (endpoint.watch(), endpoint.positions());
        let is_ready = || watch.is_ready(interest, at);
        let end = self.policy.spin_on(started_ns, now_ns, is_ready, |now_ns| now_ns >= end_ns);
        self.count_spin(end);
        end
    }

    fn count_spin(&mut self, end: SpinEnd) {
        match end {
            SpinEnd::Won => self.stats.spins_won += 1,
            SpinEnd::Interrupted => {}
            SpinEnd::Expired | SpinEnd::Preempted => self.stats.spins_lost += 1,
        }
    }

    /// Whether [`Channel::spin`] would spin, by the policy. Tells the peer on which CPU
    /// this thread waits.
    #[must_use]
    pub fn may_spin(&mut self) -> bool {
        self.endpoint
            .get()
            .is_some_and(|endpoint| self.policy.may_spin_beside(&endpoint.watch(), &self.cpu))
    }

    /// Announces to the peer that this side sleeps until what `interest` names is
    /// there; the peer then rings. Returns whether it may sleep: `false`, with
    /// nothing announced, if it is there already.
    ///
    /// For event loops. Where they watch the doorbell for reading (the channel's
    /// [`AsFd`](std::os::fd::AsFd), and [`Channel::life_fd`] if there is one), the order is:
    /// [`Channel::listen`], then read or write until `WouldBlock`, then `park`; on
    /// `false` from the beginning. A doorbell that rings after `park` is still there
    /// when the event loop looks at it.
    ///
    /// # Examples
    ///
    /// ```
    /// use rustix::event::{PollFd, PollFlags, poll};
    /// use shm_fifo::{Channel, Interest};
    /// use std::io::ErrorKind;
    ///
    /// fn receive(channel: &mut Channel, target: &mut [u8]) -> std::io::Result<usize> {
    ///     loop {
    ///         channel.listen();
    ///         match channel.try_read(target) {
    ///             Err(error) if error.kind() == ErrorKind::WouldBlock => {}
    ///             result => return result,
    ///         }
    ///         if channel.park(Interest::READABLE) {
    ///             // Among whatever else the loop waits for.
    ///             poll(&mut [PollFd::new(channel, PollFlags::IN)], None)?;
    ///             channel.unpark(Interest::READABLE);
    ///         }
    ///     }
    /// }
    ///
    /// let (mut here, mut there) = Channel::pair(4096)?;
    /// let writing = std::thread::spawn(move || there.try_write(b"hello"));
    /// assert_eq!(receive(&mut here, &mut [0; 8])?, 5);
    /// writing.join().expect("the writer ended")?;
    /// assert_eq!(receive(&mut here, &mut [0; 8])?, 0, "the writer was dropped");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use = "on false it is there: do not sleep"]
    pub fn park(&mut self, interest: Interest) -> bool {
        if self.is_ready(interest) {
            return false;
        }
        self.notify_before_sleep();
        let parked = self.endpoint.get().is_some_and(|endpoint| endpoint.park(interest));
        self.stats.parks += u64::from(parked);
        parked
    }

    /// Takes back what [`Channel::park`] announced: awake again, no doorbell is
    /// needed.
    pub fn unpark(&mut self, interest: Interest) {
        if let Some(endpoint) = self.endpoint.get() {
            endpoint.watch().unpark(interest);
        }
    }

    /// Takes pending doorbells, without waiting, and notes the peer's end if that
    /// is what is there; the next read or write tells it. Returns whether more may
    /// be pending, after a look at a bounded part.
    pub fn listen(&mut self) -> bool {
        if self.endpoint.get().is_none() {
            // The doorbells are the parent's.
            return false;
        }
        let heard = self.notifier.listen();
        self.note(heard);
        heard == Heard::Rung(doorbell::LOOK_BYTES)
    }

    /// What becomes readable when the peer has ended, where the doorbell does not
    /// say so: that of [`EventDoorbells`](crate::doorbell::EventDoorbells). A socket does.
    #[must_use]
    pub fn life_fd(&self) -> Option<BorrowedFd<'_>> {
        self.notifier.life_fd()
    }

    /// A producer that sleeps is looked for before this end sleeps itself.
    pub(super) fn notify_before_sleep(&mut self) {
        let endpoint = self.endpoint.get_mut();
        if endpoint.is_some_and(|endpoint| endpoint.consumer.needs_notify_now()) {
            self.notify();
        }
    }
}
