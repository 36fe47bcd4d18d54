//! Waiting on a channel: spinning, then sleeping, until something is there.

use super::{Channel, own};
use crate::Interest;
use crate::os::endpoint::Refusal;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::time::{Duration, Instant};

impl Channel {
    /// Waits until what `interest` names is there, or the peer ended.
    ///
    /// It spins while the policy says that this pays, then sleeps on the doorbell.
    ///
    /// # Errors
    /// `TimedOut` after `deadline`; `InvalidData` if the peer broke the protocol.
    pub fn wait(&mut self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        if !self.spin(interest) {
            while !self.is_ready(interest) {
                self.sleep(interest, deadline)?;
            }
        }
        if own(&mut self.endpoint)?.peer.is_broken() {
            return Err(self.refused(Refusal::Broken(None)));
        }
        Ok(())
    }

    /// Sleeps until a doorbell, having announced it.
    fn sleep(&mut self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        let timeout = time_left(deadline)?;
        self.notify_before_sleep();
        let endpoint = own(&mut self.endpoint)?;
        let (watch, at) = (endpoint.watch(), endpoint.positions());
        if let Some(heard) = watch.sleep(interest, at, || self.notifier.wait(timeout)) {
            self.stats.parks += 1;
            self.note(heard?);
        }
        Ok(())
    }

    /// Repeats `attempt` until it has something to say, waiting in between.
    pub(super) fn block_on<T>(
        &mut self,
        interest: Interest,
        mut attempt: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        let would_block = |result: &io::Result<T>| {
            result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        };
        let result = attempt(self);
        if !would_block(&result) {
            return result;
        }
        let deadline = self.deadline();
        loop {
            self.wait(interest, deadline)?;
            let result = attempt(self);
            if !would_block(&result) {
                return result;
            }
            // A peer that changes its words all the time could make every wait end
            // and every attempt fail: the deadline holds all the same.
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// When a call that begins now is to end.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let of_this_call = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        of_this_call.into_iter().chain(self.deadline).min()
    }
}

impl Read for Channel {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.block_on(Interest::READABLE, |channel| channel.try_read(target))
    }

    fn read_vectored(&mut self, targets: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.block_on(Interest::READABLE, |channel| channel.try_read_vectored(targets))
    }
}

impl Write for Channel {
    fn write(&mut self, source: &[u8]) -> io::Result<usize> {
        self.block_on(Interest::WRITABLE, |channel| channel.try_write(source))
    }

    fn write_vectored(&mut self, sources: &[IoSlice<'_>]) -> io::Result<usize> {
        self.block_on(Interest::WRITABLE, |channel| channel.try_write_vectored(sources))
    }

    /// Does nothing: every write is published at once.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How long a sleep may last that is to end by `deadline`: not zero.
pub(in crate::os) fn time_left(deadline: Option<Instant>) -> io::Result<Option<Duration>> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if left.is_some_and(|left| left.is_zero()) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}
