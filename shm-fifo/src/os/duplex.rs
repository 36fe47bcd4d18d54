//! A channel whose two directions are used by different threads.

mod entering;
mod leaving;

use super::doorbell::{self, Heard};
use super::endpoint::{Endpoint, Refusal};
use super::fork::NotInherited;
use super::halves::Halves;
use super::region::FIRST_POSITION;
use super::sys;
use super::wait::{PublishedCpu, SpinPolicy};
use crate::{Consumer, Corrupt, Interest, Positions, Producer, PublishFence, Watch};
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// How often the socket is read for what is on it now. A peer that floods it is not
/// listened to for longer.
const LOOKS: usize = 4;

/// Both ends of a region's rings, for any number of threads, none of which waits
/// in here.
///
/// It is what an interposer puts behind a file descriptor: reading never blocks
/// writing, and the waiting is done by whoever calls, on whatever else it waits
/// for too. The doorbell socket is the caller's and passed to each call, because
/// a program may duplicate it and close the original.
///
/// A parked word stands for all threads of a side. So the caller counts those
/// that sleep: it calls [`Duplex::park`] for each of them, [`Duplex::unpark`] when
/// the last has woken, and [`Duplex::listen`] while none sleeps.
///
/// # Before the peer enters
///
/// A side that has asked its peer to go on in the rings, on their socket, may write at
/// once ([`Duplex::new_unstarted`]): the peer finds it when it enters. Meanwhile the
/// socket still carries the bytes of both, so nobody is rung, and the caller reads it.
/// It ends with the peer's first doorbell, where the caller calls [`Duplex::enter`]; or
/// the peer refuses, and [`Duplex::take_back`] has what it has not read.
///
/// # The way back
///
/// [`Duplex::leave`] brings both directions back to the socket, where the peer serves that.
#[derive(Debug)]
pub struct Duplex {
    own: NotInherited<Own>,
}

/// What a forked child does not have.
#[derive(Debug)]
struct Own {
    watch: Watch<'static>,
    /// What is written was ended by this side.
    write_closed: AtomicBool,
    /// The socket carries doorbells and nothing else, in both directions.
    entered: AtomicBool,
    /// This side goes on over the socket. Changed while reading and writing.
    left: AtomicBool,
    /// Up to where the bytes were taken back. Changed while writing.
    taken_back: AtomicU64,
    cpu: PublishedCpu,
    // The last field, so that it drops after what looks into it.
    halves: Halves,
}

impl Duplex {
    /// Takes an endpoint into use whose peer has entered.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        let duplex = Self::new_unstarted(endpoint);
        duplex.enter();
        duplex
    }

    /// Takes an endpoint into use whose peer may not have entered yet.
    #[must_use]
    pub fn new_unstarted(endpoint: Endpoint) -> Self {
        let made_by = endpoint.mapping.mapped_by();
        let own = Own {
            watch: endpoint.watch(),
            write_closed: AtomicBool::new(false),
            entered: AtomicBool::new(false),
            left: AtomicBool::new(false),
            taken_back: AtomicU64::new(FIRST_POSITION),
            cpu: PublishedCpu::default(),
            halves: Halves::default(),
        };
        own.halves.hold().put(endpoint);
        Self { own: NotInherited::new(own, made_by) }
    }

    /// Reads what there is. `Ok(0)` is the end of the stream, or an empty `target`.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing yet, `BrokenPipe` in a forked child, `NotConnected`
    /// after [`Duplex::leave`]. A peer that breaks the protocol has ended.
    pub fn read(&self, socket: RawFd, target: &mut [u8]) -> io::Result<usize> {
        self.own()?.read(socket, !target.is_empty(), |consumer| consumer.read(target))
    }

    /// As [`Duplex::read`], leaving the bytes where they are.
    ///
    /// # Errors
    /// As [`Duplex::read`].
    pub fn peek(&self, socket: RawFd, target: &mut [u8]) -> io::Result<usize> {
        self.own()?.read(socket, !target.is_empty(), |consumer| consumer.peek(target))
    }

    /// Writes what there is space for and publishes it at once.
    ///
    /// # Errors
    /// `WouldBlock` if there is no space, `BrokenPipe` if nobody will read it or
    /// this is a forked child, `NotConnected` after [`Duplex::leave`].
    pub fn write(&self, socket: RawFd, sources: &[IoSlice<'_>]) -> io::Result<usize> {
        let own = self.own()?;
        let wanted = sources.iter().any(|source| !source.is_empty());
        own.writing(|producer| {
            if own.has_left() {
                return Err(io::ErrorKind::NotConnected.into());
            }
            if own.write_closed.load(Relaxed) || own.watch.peer_has_closed() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let put = |producer: &mut Producer<'_>| producer.write_vectored(sources);
            let written = own.halves.peer.write(producer, wanted, put);
            if written.is_ok_and(|count| count > 0) && own.needs_notify(producer) {
                doorbell::ring(socket);
            }
            written.map_err(|refusal| own.refused(refusal, socket))
        })
    }

    /// Bytes that can be read without waiting.
    #[must_use]
    pub fn available_bytes(&self) -> usize {
        self.own.get().map_or(0, Own::available_bytes)
    }

    /// Whether what `interest` names is there. The peer's end counts as both.
    #[must_use]
    #[inline]
    pub fn is_ready(&self, interest: Interest) -> bool {
        self.own.get().is_none_or(|own| {
            own.halves.peer.is_gone() || own.watch.is_ready(interest, own.halves.positions())
        })
    }

    /// Whether the peer has ended and nothing of it is left to be read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.own.get().is_some_and(|own| {
            let ended = own.halves.peer.is_gone() || own.watch.data.producer_closed();
            ended && own.available_bytes() == 0
        })
    }

    /// Whether the peer has said that it ended; what it published before can still
    /// be read.
    #[must_use]
    pub fn peer_closed(&self) -> bool {
        self.own.get().is_some_and(|own| own.watch.data.producer_closed())
    }

    /// A number that differs from what it was whenever bytes have come since.
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        self.own.get().map_or(0, |own| own.watch.data.published())
    }

    /// Whether spinning for the peer may pay, by `policy`. Tells the peer on which
    /// CPU this thread waits.
    #[must_use]
    pub fn may_spin(&self, policy: &SpinPolicy) -> bool {
        self.own.get().is_some_and(|own| policy.may_spin_beside(&own.watch, &own.cpu))
    }

    /// Announces that a thread is about to sleep on the socket for what `interest`
    /// names. Returns whether it may: `false` if that has come. What was announced stays
    /// so, for other threads that sleep, until [`Duplex::unpark`].
    ///
    /// What there is to read counts from what has been read; or, for somebody who
    /// has noticed more and left it, from the [`arrivals`](Duplex::arrivals) then.
    #[must_use = "on false it has come: do not sleep"]
    pub fn park(&self, socket: RawFd, interest: Interest, noticed: Option<u64>) -> bool {
        let Some(own) = self.own.get() else { return false };
        own.halves.reading(|consumer| {
            if consumer.needs_notify_now() {
                own.ring(socket);
            }
        });
        let Positions { head, tail } = own.halves.positions();
        own.watch.announce(interest, Positions { head: noticed.unwrap_or(head), tail })
    }

    /// Takes back what [`Duplex::park`] announced, for the part of `interest` that
    /// no thread sleeps for any more.
    pub fn unpark(&self, interest: Interest) {
        if let Some(own) = self.own.get() {
            // The first doorbell is what ends the peer's stream on the socket: it has to
            // come.
            let readable = interest.readable && own.has_entered();
            own.watch.unpark(Interest { readable, ..interest });
        }
    }

    /// Takes doorbells off the socket, once [`Duplex::enter`] was called. Returns
    /// whether the peer's end was heard.
    pub fn listen(&self, socket: RawFd) -> bool {
        // In a forked child the doorbells are the parent's.
        let Some(own) = self.own.get() else { return false };
        // The end is behind the last doorbells: who asks for one is told of the other.
        for _ in 0..LOOKS {
            let heard = doorbell::listen(socket);
            if own.halves.peer.note(heard) {
                sys::shutdown(socket);
            }
            if !matches!(heard, Heard::Rung(_)) {
                break;
            }
        }
        own.halves.peer.is_gone()
    }

    /// Ends what is written: the peer reads what is there, and then the end. After
    /// [`Duplex::leave`] that is the socket's business.
    pub fn close_writing(&self, socket: RawFd) {
        if let Some(own) = self.own.get() {
            own.halves.writing(|producer| {
                own.end_writing(producer);
                // As after a write: a peer that has not entered looks before it sleeps.
                let _before_the_look = PublishFence::execute();
                own.ring(socket);
            });
        }
    }

    /// Ends both directions and the socket. In a forked child it does nothing: the
    /// parent's connection goes on.
    pub fn close(&self, socket: RawFd) {
        if let Some(own) = self.own.get() {
            own.halves.writing(|producer| own.end_writing(producer));
            own.halves.reading(|consumer| {
                if !own.has_left() {
                    consumer.close();
                }
            });
            sys::shutdown(socket);
        }
    }

    fn own(&self) -> io::Result<&Own> {
        self.own.get().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Own {
    fn read(
        &self,
        socket: RawFd,
        wanted: bool,
        take: impl FnMut(&mut Consumer<'static>) -> Result<usize, Corrupt>,
    ) -> io::Result<usize> {
        let read = self.halves.reading(|consumer| {
            let read = (!self.has_left()).then(|| self.halves.peer.read(consumer, wanted, take))?;
            if consumer.needs_notify() {
                self.ring(socket);
            }
            Some(read)
        });
        match read.unwrap_or(Some(Ok(0))).ok_or(io::ErrorKind::NotConnected)? {
            Ok(count) => Ok(count),
            Err(Refusal::NotYet) => Err(io::ErrorKind::WouldBlock.into()),
            // Such a peer has ended.
            Err(refusal) => {
                self.refused(refusal, socket);
                Ok(0)
            }
        }
    }

    fn writing<T>(
        &self,
        work: impl FnOnce(&mut Producer<'static>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.halves.writing(work).unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn available_bytes(&self) -> usize {
        self.halves.reading(|consumer| consumer.available_bytes().unwrap_or(0)).unwrap_or(0)
    }

    fn end_writing(&self, producer: &Producer<'_>) {
        if !self.has_left() {
            self.write_closed.store(true, Relaxed);
            producer.close();
        }
    }

    fn refused(&self, refusal: Refusal, socket: RawFd) -> io::Error {
        match refusal {
            Refusal::NotYet => io::ErrorKind::WouldBlock.into(),
            Refusal::NobodyReads | Refusal::Broken(None) => io::ErrorKind::BrokenPipe.into(),
            Refusal::Broken(Some(_)) => {
                self.break_off(socket);
                io::ErrorKind::BrokenPipe.into()
            }
        }
    }

    /// The peer broke the protocol: it is told by the end of the socket.
    fn break_off(&self, socket: RawFd) {
        self.halves.peer.note_breach();
        sys::shutdown(socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Region;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn who_finds_something_before_it_sleeps_does_not_take_back_that_another_sleeps() {
        let region = Region::create(4096).expect("memory");
        let attached = Region::attach(region.fd().expect("its file")).expect("a region");
        let mut peer = attached.into_endpoint();
        let (socket, _there) = UnixStream::pair().expect("a socket pair");
        let duplex = Duplex::new(region.into_endpoint());
        assert!(duplex.park(socket.as_raw_fd(), Interest::READABLE, None), "one sleeps");

        // The peer has published, and not yet looked for sleepers.
        peer.producer.write(b"x").expect("sane");
        assert!(!duplex.park(socket.as_raw_fd(), Interest::READABLE, None), "another need not");

        assert!(peer.producer.needs_notify());
    }
}
