//! The bytes of a session, as `read(2)` and `write(2)` have them, and the peer's doorbells.

use super::super::Errno;
use super::super::poller::Poller;
use super::super::stats::COUNTERS;
use super::{AGAIN, Session};
use crate::os::doorbell::{self, Heard};
use crate::os::endpoint::Refusal;
use crate::os::sys;
use crate::{Producer, PublishFence, SpaceWatch};
use std::io::IoSlice;
use std::sync::atomic::Ordering::Relaxed;

const BROKEN_PIPE: Errno = Errno(libc::EPIPE);

impl Session {
    /// Publishes what the peer is to read first.
    ///
    /// To be called before a poller looks at the ring. A peer that writes before it was
    /// greeted rings nobody: whoever goes to sleep over the ring has to look at it
    /// behind the greeting. The peer is rung by [`Session::notify_after_greeting`].
    pub(in super::super) fn greet(&self, greeting: &[u8]) {
        // ORDERING E6: the Release store of the position, and the fence of whoever
        // announces a sleep later (`announce`). Joining a poller orders the two.
        //
        // A peer that has scribbled on its words already is ended by the next write.
        self.halves.writing(|producer| producer.write(greeting).ok());
    }

    /// Rings the peer for its greeting: now, or at the event loop's next wait.
    pub(in super::super) fn notify_after_greeting(&self) {
        self.halves.writing(|producer| self.notify(producer, false));
    }

    /// Reads what there is. A descriptor in blocking mode waits for it.
    #[inline]
    pub(in super::super) fn read(&self, target: &mut [u8]) -> Result<usize, Errno> {
        loop {
            if self.is_leaving() {
                return self.read_last(target);
            }
            match self.try_read(target) {
                Err(AGAIN) if !sys::is_nonblocking(self.fd) => self.wait_for_bytes()?,
                result => return result,
            }
        }
    }

    /// Writes what there is space for. A descriptor in blocking mode waits for more.
    #[inline]
    pub(in super::super) fn write(&self, sources: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let length = length_of(sources);
        match self.try_write(sources, length) {
            result @ (Ok(_) | Err(AGAIN)) if result != Ok(length) => {
                let written = result.unwrap_or(0);
                if sys::is_nonblocking(self.fd) {
                    result
                } else {
                    self.write_rest(sources, written)
                }
            }
            result => result,
        }
    }

    pub(super) fn try_read(&self, target: &mut [u8]) -> Result<usize, Errno> {
        let wanted = !target.is_empty();
        let read = self.halves.reading(|consumer| {
            let read = self.halves.peer.read(consumer, wanted, |consumer| consumer.read(target));
            if consumer.needs_notify() {
                self.ring();
            }
            read
        });
        let Some(read) = read else {
            self.check_whether_returned()?;
            return self.read_socket(target);
        };
        match read {
            Ok(count) => Ok(count),
            Err(Refusal::NotYet) => Err(AGAIN),
            Err(refusal) => {
                self.end_if_broken(refusal);
                Ok(0)
            }
        }
    }

    fn try_write(&self, sources: &[IoSlice<'_>], length: usize) -> Result<usize, Errno> {
        let write = |producer: &mut Producer<'static>| {
            let written = self.halves.peer.write(producer, length > 0, |producer| match sources {
                [source] => producer.write(source),
                _ => producer.write_vectored(sources),
            });
            let count = written.unwrap_or(0);
            let unfinished = count < length;
            // The parts of what the ring cannot hold are written as there is space, not
            // just before a wait.
            let in_parts = self.unfinished.load(Relaxed) || unfinished;
            self.unfinished.store(unfinished, Relaxed);
            if count > 0 {
                self.notify(producer, in_parts);
            }
            written
        };
        let in_ring = |producer: &mut _| (!self.is_leaving()).then(|| write(producer));
        let Some(written) = self.halves.writing(in_ring) else {
            self.check_whether_returned()?;
            return self.write_socket(sources);
        };
        match written {
            None => self.write_socket(sources),
            Some(Ok(count)) => Ok(count),
            Some(Err(Refusal::NotYet)) => Err(AGAIN),
            Some(Err(refusal)) => {
                self.end_if_broken(refusal);
                Err(BROKEN_PIPE)
            }
        }
    }

    /// Writes what comes after the first `written` bytes of `sources`, waiting as
    /// often as need be. Returns how many bytes were written in all.
    #[cold]
    fn write_rest(&self, sources: &[IoSlice<'_>], mut written: usize) -> Result<usize, Errno> {
        let mut pieces = sources.to_vec();
        let mut rest = &mut pieces[..];
        IoSlice::advance_slices(&mut rest, written);
        while !rest.is_empty() {
            let result = match self.try_write(rest, length_of(rest)) {
                Err(AGAIN) => self.wait_for_space().map(|()| 0),
                result => result,
            };
            match result {
                Ok(more) => {
                    IoSlice::advance_slices(&mut rest, more);
                    written += more;
                }
                Err(error) if written == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(written)
    }

    #[cold]
    fn wait_for_bytes(&self) -> Result<(), Errno> {
        // While the lock is held: without it another thread's close may unmap the words.
        // Stays announced: one doorbell too many, and no poller finds it unannounced.
        let parked = self.halves.reading(|own| own.watch().announce(own.position()));
        if parked == Some(true) { self.wait_for_peer(libc::SO_RCVTIMEO) } else { Ok(()) }
    }

    #[cold]
    fn wait_for_space(&self) -> Result<(), Errno> {
        let parked = self.halves.writing(|own| own.watch().announce(own.position()));
        if parked == Some(true) { self.wait_for_peer(libc::SO_SNDTIMEO) } else { Ok(()) }
    }

    /// Waits until the peer rings or ends, as long as the socket's `timeout` allows.
    fn wait_for_peer(&self, timeout: libc::c_int) -> Result<(), Errno> {
        // The event loop's next wait may be long in coming.
        self.notify_now();
        if !sys::wait_readable(self.fd, sys::timeout(self.fd, timeout))? {
            return Err(AGAIN);
        }
        self.listen();
        self.see_off();
        Ok(())
    }

    /// How many doorbells were heard and are still on the socket.
    pub(in super::super) fn unread_doorbells(&self) -> usize {
        self.unread_doorbells.load(Relaxed)
    }

    /// One was heard, and stays on the socket.
    pub(in super::super) fn leave_doorbell_unread(&self) {
        self.unread_doorbells.fetch_add(1, Relaxed);
        COUNTERS.doorbells_received.add(1);
    }

    /// Takes doorbells off the socket.
    pub(in super::super) fn listen(&self) -> Heard {
        // With the reader locked, and only if there is one: behind a leave that another thread
        // takes off the socket comes the stream itself.
        let hear = |_own: &mut _| if self.is_leaving() { Heard::Nothing } else { self.hear() };
        self.halves.reading(hear).unwrap_or(Heard::Nothing)
    }

    /// Takes what there is off the socket, with the reader locked.
    fn hear(&self) -> Heard {
        let known = self.unread_doorbells.swap(0, Relaxed);
        let heard = doorbell::listen(self.fd);
        match heard {
            Heard::Leave => self.note_leave(),
            Heard::Rung(count) => {
                COUNTERS.doorbells_received.add(count.saturating_sub(known) as u64);
            }
            _ if self.halves.peer.note(heard) => self.end_broken(),
            _ => {}
        }
        heard
    }

    /// Wakes the peer if it sleeps: `at_once`, or at the event loop's next wait.
    fn notify(&self, producer: &Producer<'_>, at_once: bool) {
        // A parked session is not among those that the loop looks at.
        let may_wait = !at_once && self.is_hot();
        let poller = may_wait.then(|| self.watched_by.load(Relaxed));
        match poller.and_then(Poller::existing).filter(|poller| poller.deferred.is_allowed()) {
            Some(poller) => {
                self.deferred.store(true, Relaxed);
                poller.deferred.note();
            }
            None if producer.needs_notify() => self.ring(),
            None => {}
        }
    }

    /// Does now what was left to the event loop's next wait, after a write that is
    /// under way.
    pub(in super::super) fn notify_now(&self) {
        self.halves.writing(|producer| {
            self.notify_if_deferred(&producer.watch(), &PublishFence::execute());
        });
    }

    /// Rings the peer if it sleeps over what was published before `fence` and
    /// nobody has looked since.
    pub(in super::super) fn notify_if_deferred(
        &self,
        space: &SpaceWatch<'_>,
        fence: &PublishFence,
    ) {
        if self.deferred.load(Relaxed) {
            self.deferred.store(false, Relaxed);
            if space.needs_notify(fence) {
                self.ring();
            }
        }
    }

    fn ring(&self) {
        // Who is leaving is awake, and may hear no doorbell behind the answer.
        if self.is_leaving() {
            return;
        }
        COUNTERS.doorbells_sent.add(doorbell::ring(self.fd).into());
    }

    #[cold]
    fn end_if_broken(&self, refusal: Refusal) {
        if let Refusal::Broken(Some(_)) = refusal {
            self.end_broken();
        }
    }

    /// Ends a session whose peer has just broken the protocol: the program sees the end of
    /// its stream, the peer that of the socket.
    fn end_broken(&self) {
        COUNTERS.protocol_violations.add(1);
        sys::shutdown(self.fd);
    }
}

fn length_of(sources: &[IoSlice<'_>]) -> usize {
    sources.iter().map(|source| source.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Region;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn who_finds_bytes_before_it_blocks_does_not_take_back_that_a_poller_sleeps() {
        let region = Region::create(4096).expect("memory");
        let attached = Region::attach(region.fd().expect("its file")).expect("a region");
        let mut peer = attached.into_endpoint();
        let session = Session::new(-1);
        session.begin(region.into_endpoint(), 0).expect("its first");
        let parks = session.halves.reading(|own| own.watch().park(own.position()));
        assert_eq!(parks, Some(true), "as a poller does");

        // The peer has published, and not yet looked for sleepers.
        peer.producer.write(b"x").expect("sane");
        session.wait_for_bytes().expect("something is there");

        assert!(peer.producer.needs_notify());
        session.end();
    }
}
