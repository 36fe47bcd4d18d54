//! The bytes of a connection: reading, writing, and waiting to.

use super::{
    Connection, MODE_BLOCKING, MODE_NONBLOCKING, MODE_UNKNOWN, Manner, Phase, Served, lock,
};
use crate::errno::Errno;
use crate::spans::{Spans, without_first};
use crate::{signals, spin, sys};
use shm_fifo::{Duplex, Interest, SpinPolicy};
use std::io::Read as _;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard};

/// What a read finds now.
enum Found {
    /// So many bytes that were kept.
    Kept(usize),
    Done(Result<usize, Errno>),
    ByKernel,
}

impl Connection {
    // Reading.

    /// Reads into `spans`, waiting as the file descriptor's mode and `manner` say.
    pub(crate) fn read(self: &Arc<Self>, spans: Spans<'_>, mut manner: Manner) -> Served {
        let wanted = spans.total_bytes();
        if wanted == 0 && self.is_moved() {
            return Served::Done(Ok(0));
        }
        let mut filled = 0;
        let mut is_past_kept = false;
        let mut has_waited = false;
        loop {
            match self.read_now(spans, filled, manner.peek, is_past_kept) {
                Found::ByKernel if filled == 0 => return Served::ByKernel,
                Found::ByKernel if manner.peek => {
                    filled += self.peek_rest(spans, filled);
                    return Served::Done(Ok(filled));
                }
                Found::ByKernel => {
                    filled += self.read_rest(spans, filled, manner);
                    return Served::Done(Ok(filled));
                }
                Found::Kept(count) => {
                    filled += count;
                    if filled >= wanted {
                        return Served::Done(Ok(filled));
                    }
                    // Where the bytes came from is no boundary: what is there behind them is
                    // read, too. But nothing is waited for.
                    is_past_kept = manner.peek;
                    manner.dont_wait |= !manner.wait_all;
                    continue;
                }
                Found::Done(Ok(0)) => return Served::Done(Ok(filled)),
                Found::Done(Ok(count)) => {
                    filled += count;
                    if !has_waited {
                        self.note_no_wait();
                    }
                    // What is peeked at stays: waiting for more would find it again.
                    if manner.peek || !manner.wait_all || filled >= wanted {
                        return Served::Done(Ok(filled));
                    }
                }
                Found::Done(Err(Errno::AGAIN)) if filled > 0 && manner.dont_wait => {
                    return Served::Done(Ok(filled));
                }
                Found::Done(Err(Errno::AGAIN)) if self.hears_of_the_end(manner) => continue,
                Found::Done(Err(Errno::AGAIN)) => {}
                Found::Done(Err(errno)) if filled == 0 => return Served::Done(Err(errno)),
                Found::Done(Err(_)) => return Served::Done(Ok(filled)),
            }
            if let Err(errno) = self.wait_alone(Interest::READABLE, manner.dont_wait) {
                return Served::Done(if filled > 0 { Ok(filled) } else { Err(errno) });
            }
            has_waited = true;
        }
    }

    /// Fills the rest from the socket: the beginning was kept, and the connection is
    /// there again. How many bytes that were.
    fn read_rest(self: &Arc<Self>, spans: Spans<'_>, skip: usize, manner: Manner) -> usize {
        if !self.enter() {
            return 0;
        }
        let dont_wait = manner.dont_wait || self.is_nonblocking();
        let filled = spans.fill(skip, |target| {
            let received = signals::let_in(|| sys::receive_all(self.fd(), target, dont_wait));
            let count = received.unwrap_or(Err(Errno(libc::EINTR)))?;
            self.note(|tracker| tracker.received(&target[..count], self.may_be_early()));
            Ok::<_, Errno>(count)
        });
        self.leave();
        filled.unwrap_or(0)
    }

    /// The same for a peek, which waits for nothing.
    fn peek_rest(&self, spans: Spans<'_>, skip: usize) -> usize {
        let wanted = spans.total_bytes().saturating_sub(skip);
        let mut seen = vec![0; wanted.min(sys::unread_bytes(self.fd()))];
        let count = sys::peek(self.fd(), &mut seen).unwrap_or(0);
        let mut rest = &seen[..count];
        // Reading memory does not fail.
        spans.fill(skip, |target| rest.read(target)).unwrap_or(0)
    }

    fn read_now(
        self: &Arc<Self>,
        spans: Spans<'_>,
        skip: usize,
        peek: bool,
        is_past_kept: bool,
    ) -> Found {
        loop {
            if self.kept_bytes.load(Relaxed) > 0 && !is_past_kept {
                let count = self.read_kept(spans, skip, peek);
                if count > 0 {
                    self.settle();
                    return Found::Kept(count);
                }
            }
            match self.phase() {
                Phase::Socket => return Found::ByKernel,
                Phase::Returning if is_past_kept => return Found::ByKernel,
                Phase::Returning => self.settle(),
                before @ (Phase::Opening | Phase::Starting) => {
                    self.attend(None);
                    let is_kept = self.kept_bytes.load(Relaxed) > 0 && !is_past_kept;
                    if self.phase() == before && !is_kept {
                        let at_end = self.read_shut.load(Relaxed);
                        return Found::Done(if at_end { Ok(0) } else { Err(Errno::AGAIN) });
                    }
                }
                Phase::Shared => {
                    let result = self.read_ring(spans, skip, peek);
                    self.rearm_alerts();
                    self.after_read();
                    return Found::Done(result);
                }
            }
        }
    }

    #[inline]
    fn read_ring(&self, spans: Spans<'_>, skip: usize, peek: bool) -> Result<usize, Errno> {
        let Some(ring) = self.ring() else { return Err(Errno::AGAIN) };
        let fd = self.fd();
        let result = match peek {
            true => peek_ring(ring, fd, spans, skip),
            false => spans.fill(skip, |target| ring.read(fd, target)),
        };
        match result {
            Err(error) if self.read_shut.load(Relaxed) => match Errno::from(error) {
                Errno::AGAIN => Ok(0),
                other => Err(other),
            },
            other => other.map_err(Errno::from),
        }
    }

    fn read_kept(&self, spans: Spans<'_>, skip: usize, peek: bool) -> usize {
        let mut kept = lock(&self.kept);
        let count = if peek {
            let mut rest = &*kept.make_contiguous();
            spans.fill(skip, |target| rest.read(target))
        } else {
            spans.fill(skip, |target| kept.read(target))
        };
        self.kept_bytes.store(kept.len(), Relaxed);
        // Reading memory does not fail.
        count.unwrap_or(0)
    }

    /// There is nothing to read in the ring: whether the socket says that nothing comes any
    /// more. It is asked a thousand times a second at most, and not by who is going to wait
    /// on it.
    fn hears_of_the_end(self: &Arc<Self>, manner: Manner) -> bool {
        const INTERVAL_NS: u64 = 1_000_000;
        if self.may_wait(manner) || self.phase() != Phase::Shared {
            return false;
        }
        // It may have been heard since the ring was looked into.
        if self.has_ended() {
            return true;
        }
        let now_ns = sys::monotonic_ns();
        if now_ns.saturating_sub(self.looked_ns.load(Relaxed)) < INTERVAL_NS {
            return false;
        }
        self.looked_ns.store(now_ns, Relaxed);
        self.attend(None);
        self.has_ended()
    }

    /// Bytes that can be read without waiting; `None` if the kernel knows.
    pub(crate) fn available_bytes(self: &Arc<Self>) -> Option<usize> {
        if matches!(self.phase(), Phase::Opening | Phase::Starting) {
            self.attend(None);
        }
        self.settle();
        let kept = self.kept_bytes.load(Relaxed);
        match self.phase() {
            Phase::Socket => None,
            Phase::Shared => Some(kept + self.ring().map_or(0, Duplex::available_bytes)),
            Phase::Opening | Phase::Starting => Some(kept),
            Phase::Returning => Some(kept + sys::unread_bytes(self.fd())),
        }
    }

    // Writing.

    /// Writes all of `spans`, as long as it may wait.
    pub(crate) fn write(self: &Arc<Self>, spans: Spans<'_>, dont_wait: bool) -> Served {
        let sources = spans.sources();
        let total = spans.total_bytes();
        if total == 0 {
            return Served::Done(Ok(0));
        }
        let mut written = 0;
        loop {
            let result = match self.phase() {
                Phase::Shared => self.write_ring(sources, written),
                // What the server has said meanwhile may be its end.
                Phase::Starting
                    if {
                        self.attend(None);
                        self.phase() != Phase::Starting
                    } =>
                {
                    continue;
                }
                Phase::Starting => match self.write_early(sources, written) {
                    Some(result) => result,
                    None => continue,
                },
                Phase::Socket | Phase::Opening | Phase::Returning => {
                    self.settle();
                    let by_kernel = written == 0;
                    return if by_kernel { Served::ByKernel } else { Served::Done(Ok(written)) };
                }
            };
            match result {
                Ok(count) => {
                    written += count;
                    if written >= total {
                        return Served::Done(Ok(written));
                    }
                }
                Err(Errno::AGAIN) => {}
                Err(Errno::PIPE) if written == 0 && self.accepts_a_last_write() => {
                    return Served::Done(Ok(total));
                }
                Err(errno) => {
                    return Served::Done(if written > 0 { Ok(written) } else { Err(errno) });
                }
            }
            self.want_space();
            if let Err(errno) = self.wait_alone(Interest::WRITABLE, dont_wait) {
                return Served::Done(if written > 0 { Ok(written) } else { Err(errno) });
            }
        }
    }

    /// TCP takes one write after its peer has ended, and loses it: the answer to that one is
    /// what tells it.
    fn accepts_a_last_write(&self) -> bool {
        self.is_tcp
            && !self.write_shut.load(Relaxed)
            && self.has_ended()
            && !self.lost_a_write.swap(true, Relaxed)
    }

    /// A write found too little space: whoever waits for space is told when it comes, also
    /// who is asleep already.
    fn want_space(self: &Arc<Self>) {
        self.short_writes.fetch_add(1, Relaxed);
        self.tell_watchers(None);
    }

    #[inline]
    fn write_ring(&self, sources: &[std::io::IoSlice<'_>], skip: usize) -> Result<usize, Errno> {
        let Some(ring) = self.ring() else { return Err(Errno::AGAIN) };
        if skip == 0 {
            return ring.write(self.fd(), sources).map_err(Errno::from);
        }
        let rest = without_first(sources, skip);
        ring.write(self.fd(), &rest).map_err(Errno::from)
    }

    /// Writes into the ring that the server has been told to start; `None` if it has answered
    /// meanwhile.
    fn write_early(
        &self,
        sources: &[std::io::IoSlice<'_>],
        skip: usize,
    ) -> Option<Result<usize, Errno>> {
        let place = lock(&self.mover);
        let ring = place.as_ref().filter(|_| self.phase() == Phase::Starting)?.ring()?;
        if self.write_shut.load(Relaxed) {
            return Some(Err(Errno::PIPE));
        }
        Some(ring.write(self.fd(), &without_first(sources, skip)).map_err(Errno::from))
    }

    // Waiting.

    /// Waits for `interest` in a call on this file descriptor alone.
    fn wait_alone(self: &Arc<Self>, interest: Interest, dont_wait: bool) -> Result<(), Errno> {
        if dont_wait || self.is_nonblocking() {
            return Err(Errno::AGAIN);
        }
        self.note_blocking_wait();
        if self.spin(interest) || !self.join(interest) {
            return Ok(());
        }
        let woken = signals::let_in(|| match interest.writable {
            true => self.sleep_for_space(),
            false => sys::wait_for_byte(self.fd()),
        });
        let woken = woken.unwrap_or_else(|interrupted| match interrupted.restarts {
            true => Err(Errno(libc::ERESTART)),
            false => Err(Errno(libc::EINTR)),
        });
        // Whatever else it is, it is to be heard on the socket.
        let is_over = matches!(woken, Err(Errno(libc::EINTR | libc::EAGAIN)));
        self.part(interest, woken.is_ok());
        if is_over { woken } else { Ok(()) }
    }

    /// Whether a read that is the kernel's waits, where there is nothing to read.
    pub(crate) fn may_wait(&self, manner: Manner) -> bool {
        !manner.dont_wait && !self.is_nonblocking()
    }

    fn sleep_for_space(&self) -> Result<(), Errno> {
        let fd = self.fd();
        let Some(timeout) = sys::send_timeout(fd) else {
            // Signals restart this one, as they do a write that may wait for ever. The
            // time that reading may take is none of it.
            return match sys::wait_for_byte(fd) {
                Err(Errno::AGAIN) => Ok(()),
                woken => woken,
            };
        };
        let mut entry = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
        match sys::ppoll(&mut entry, Some(timeout), std::ptr::null())? {
            0 => Err(Errno::AGAIN),
            _ => Ok(()),
        }
    }

    /// Spins for `interest`, if that may pay. Returns whether it came.
    fn spin(&self, interest: Interest) -> bool {
        let Some(mut policy) = self.spinning() else { return false };
        spin::until(&mut policy, || self.is_ready(interest), |_| signals::is_waiting())
    }

    /// The policy, if spinning for this connection may pay.
    pub(crate) fn spinning(&self) -> Option<MutexGuard<'_, SpinPolicy>> {
        // One thread spins at a time; another sleeps.
        let policy = self.policy.try_lock().ok()?;
        self.ring()?.may_spin(&policy).then_some(policy)
    }

    pub(crate) fn forget_mode(&self) {
        let before = self.blocking.swap(MODE_UNKNOWN, Relaxed);
        let is_changed = (before == MODE_NONBLOCKING) != self.is_nonblocking();
        if before != MODE_UNKNOWN && is_changed {
            self.forget_waiting();
        }
    }

    /// Whether the file descriptor is in non-blocking mode.
    pub(crate) fn is_nonblocking(&self) -> bool {
        match self.blocking.load(Relaxed) {
            MODE_BLOCKING => false,
            MODE_NONBLOCKING => true,
            _ => {
                let nonblocking = sys::is_nonblocking(self.fd());
                let mode = if nonblocking { MODE_NONBLOCKING } else { MODE_BLOCKING };
                self.blocking.store(mode, Relaxed);
                nonblocking
            }
        }
    }
}

/// What is peeked at is always the same: it goes to the buffers from one place.
fn peek_ring(ring: &Duplex, fd: RawFd, spans: Spans<'_>, skip: usize) -> std::io::Result<usize> {
    let wanted = spans.total_bytes().saturating_sub(skip);
    let mut seen = vec![0; wanted.min(ring.available_bytes().max(1))];
    let count = ring.peek(fd, &mut seen)?;
    let mut rest = &seen[..count];
    spans.fill(skip, |target| rest.read(target))
}
