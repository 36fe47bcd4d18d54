//! The bytes of a connection: reading and writing.

use super::waiting::Wait;
use super::{Connection, Manner, Phase, Served, lock};
use crate::errno::Errno;
use crate::spans::{Spans, first_of, without_first};
use crate::{signals, sys};
use shm_fifo::{Interest, duplex::Duplex};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read as _};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Another thread is bringing it back to its socket at this moment.
const HAS_LEFT: Errno = Errno(libc::ENOTCONN);

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
        // A read that waits, waits for so many.
        let enough =
            if manner.wait_all { wanted } else { wanted.min(self.least_bytes.load(Relaxed)) };
        let mut filled = 0;
        let mut is_past_kept = false;
        let mut wait = Wait::new(Interest::READABLE);
        loop {
            match self.read_now(spans, filled, manner.peek, is_past_kept) {
                Found::ByKernel if filled == 0 => return Served::ByKernel,
                Found::ByKernel if manner.peek => {
                    filled += self.peek_rest(spans, filled);
                    return Served::Done(Ok(filled));
                }
                Found::ByKernel => match self.read_rest(spans, filled, manner) {
                    Some(rest) => return Served::Done(Ok(filled + rest)),
                    None => continue,
                },
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
                    if !wait.has_begun() {
                        self.note_no_wait();
                    }
                    // What is peeked at stays: waiting for more would find it again.
                    if manner.peek || filled >= enough {
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
            if let Err(errno) = self.wait_alone(&mut wait, manner.dont_wait, filled > 0) {
                return Served::Done(if filled > 0 { Ok(filled) } else { Err(errno) });
            }
        }
    }

    /// Fills the rest from the socket: the beginning was kept, and the connection is
    /// there again. How many bytes that were; `None` if it begins to move at this moment.
    fn read_rest(self: &Arc<Self>, spans: Spans<'_>, skip: usize, manner: Manner) -> Option<usize> {
        if !self.enter() {
            return None;
        }
        let dont_wait = manner.dont_wait || self.is_nonblocking();
        let filled = spans.fill(skip, |target| {
            let received = signals::let_in(|| sys::receive_all(self.fd(), target, dont_wait));
            let count = received.unwrap_or(Err(Errno(libc::EINTR)))?;
            self.note(|tracker| tracker.received(&target[..count], self.may_be_early()));
            Ok::<_, Errno>(count)
        });
        self.leave();
        Some(filled.unwrap_or(0))
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
                    self.after_read();
                    return Found::Kept(count);
                }
            }
            match self.phase() {
                Phase::Socket => return Found::ByKernel,
                Phase::Returning if is_past_kept => return Found::ByKernel,
                Phase::Returning => self.settle(),
                before @ (Phase::Opening | Phase::Starting | Phase::Leaving) => {
                    self.attend(None);
                    let is_kept = self.kept_bytes.load(Relaxed) > 0 && !is_past_kept;
                    if self.phase() == before && !is_kept {
                        let at_end = self.read_shut.load(Relaxed);
                        return Found::Done(if at_end { Ok(0) } else { Err(Errno::AGAIN) });
                    }
                }
                // It may have moved since the look at what is kept, and kept something before.
                Phase::Shared if self.has_kept() && !is_past_kept => {}
                Phase::Shared => {
                    let result = self.read_ring(spans, skip, peek);
                    if result == Err(HAS_LEFT) {
                        self.wait_until_asked();
                        continue;
                    }
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
        let result = if peek {
            peek_ring(ring, fd, spans, skip)
        } else {
            spans.fill(skip, |target| ring.read(fd, target))
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
        if kept.is_empty() {
            // It may have been much, and what comes now comes by the ring.
            *kept = VecDeque::new();
        }
        self.kept_bytes.store(kept.len(), Relaxed);
        // Reading memory does not fail.
        count.unwrap_or(0)
    }

    /// There is nothing to read in the ring: whether the socket says that nothing comes any
    /// more. Who is going to wait on it need not ask.
    fn hears_of_the_end(self: &Arc<Self>, manner: Manner) -> bool {
        if self.may_wait(manner) || self.phase() != Phase::Shared {
            return false;
        }
        // It may have been heard since the ring was looked into.
        self.has_ended()
            || self.is_time_to_look() && {
                self.attend(None);
                self.has_ended()
            }
    }

    /// Something is about to be written, which a socket would refuse whose peer has ended.
    #[inline]
    fn look_before_writing(&self) {
        if self.is_time_to_look() && sys::has_hung_up(self.fd()) {
            self.hear_the_end();
        }
    }

    /// Whether the socket is to be asked, which rings do not tell of their peer's end: once
    /// in each tick of the clock.
    #[inline]
    fn is_time_to_look(&self) -> bool {
        let tick_ns = sys::tick_ns();
        let is_time = self.looked_ns.load(Relaxed) != tick_ns;
        if is_time {
            self.looked_ns.store(tick_ns, Relaxed);
        }
        is_time
    }

    /// Bytes that can be read without waiting; `None` if the kernel knows.
    pub(crate) fn available_bytes(self: &Arc<Self>) -> Option<usize> {
        if self.is_being_asked() {
            self.attend(None);
        }
        self.settle();
        let kept = self.kept_bytes.load(Relaxed);
        match self.phase() {
            Phase::Socket => None,
            Phase::Shared => Some(kept + self.ring().map_or(0, Duplex::available_bytes)),
            Phase::Opening | Phase::Starting | Phase::Leaving => Some(kept),
            Phase::Returning => Some(kept + sys::unread_bytes(self.fd())),
        }
    }

    // Writing.

    /// Writes all of `spans`, as long as it may wait.
    pub(crate) fn write(self: &Arc<Self>, spans: Spans<'_>, dont_wait: bool) -> Served {
        let sources = &*spans.sources();
        let total = spans.total_bytes();
        if total == 0 {
            return Served::Done(Ok(0));
        }
        let mut written = 0;
        let mut wait = Wait::new(Interest::WRITABLE);
        loop {
            let result = match self.phase() {
                Phase::Shared => {
                    self.look_before_writing();
                    self.write_ring(sources, written)
                }
                // What the server has said meanwhile may be its end.
                before @ (Phase::Starting | Phase::Leaving)
                    if {
                        self.attend(None);
                        self.phase() != before
                    } =>
                {
                    continue;
                }
                Phase::Leaving => Err(Errno::AGAIN),
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
                Err(HAS_LEFT) => {
                    self.wait_until_asked();
                    continue;
                }
                Err(Errno::PIPE) if written == 0 && self.accepts_a_last_write() => {
                    return Served::Done(Ok(total));
                }
                Err(errno) => {
                    return Served::Done(if written > 0 { Ok(written) } else { Err(errno) });
                }
            }
            self.want_space();
            if let Err(errno) = self.wait_alone(&mut wait, dont_wait, written > 0) {
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
    fn write_ring(&self, sources: &[IoSlice<'_>], skip: usize) -> Result<usize, Errno> {
        let Some(ring) = self.ring() else { return Err(Errno::AGAIN) };
        if skip == 0 {
            return ring.write(self.fd(), sources).map_err(Errno::from);
        }
        let rest = without_first(sources, skip);
        ring.write(self.fd(), &rest).map_err(Errno::from)
    }

    /// Writes into the ring that the server has been told to start; `None` if it has answered
    /// meanwhile.
    fn write_early(&self, sources: &[IoSlice<'_>], skip: usize) -> Option<Result<usize, Errno>> {
        let place = lock(&self.mover);
        let ring = place.as_ref().filter(|_| self.phase() == Phase::Starting)?.ring()?;
        if self.write_shut.load(Relaxed) {
            return Some(Err(Errno::PIPE));
        }
        let rest = without_first(sources, skip);
        let first = first_of(&rest, self.early_room());
        if first.is_empty() {
            return Some(Err(Errno::AGAIN));
        }
        let written = ring.write(self.fd(), &first).map_err(Errno::from);
        self.early_bytes.fetch_add(written.unwrap_or(0), Relaxed);
        Some(written)
    }

    /// How much more may be written before the server has answered: if it refuses, all of it
    /// has to go into its socket at once.
    pub(super) fn early_room(&self) -> usize {
        const MAX_BYTES: usize = 16 << 10;
        MAX_BYTES.saturating_sub(self.early_bytes.load(Relaxed))
    }
}

/// What is peeked at is the beginning, always: several buffers get their parts of it.
fn peek_ring(ring: &Duplex, fd: RawFd, spans: Spans<'_>, skip: usize) -> io::Result<usize> {
    if spans.is_one() {
        return spans.fill(skip, |target| ring.peek(fd, target));
    }
    let wanted = spans.total_bytes() - skip;
    // At least one byte, where there is none: then the ring says why.
    let mut beginning = vec![0; wanted.min(ring.available_bytes().max(1))];
    let count = ring.peek(fd, &mut beginning)?;
    let mut rest = &beginning[..count];
    spans.fill(skip, |target| rest.read(target))
}
