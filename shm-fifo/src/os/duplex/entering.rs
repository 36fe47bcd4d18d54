//! Before the peer enters: what is written then, whom to ring, and what to do if it refuses.

use super::{Duplex, Own};
use crate::Producer;
use crate::os::doorbell;
use crate::os::published::send_published;
use crate::os::region::FIRST_POSITION;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;

impl Duplex {
    /// Whether the peer has entered: its first bytes are here. What it said on the socket
    /// before may still be on its way there.
    #[must_use]
    pub fn has_peer_entered(&self) -> bool {
        self.own.get().is_some_and(Own::has_peer_entered)
    }

    /// To be called when the peer's first doorbell was heard on the socket: all that it
    /// had said there was read before.
    pub fn enter(&self) {
        if let Some(own) = self.own.get() {
            // ORDERING, Relaxed: says less than the peer's first bytes do, which are looked
            // for until then.
            own.entered.store(true, Relaxed);
        }
    }

    /// Gives `send` what was written, piece by piece and in order, for a peer that
    /// refused to enter and so read none of it. Nothing can be written here any more.
    ///
    /// `send` says how many bytes it took. Where it fails, as with `WouldBlock`, the next
    /// call goes on with the first byte that it did not take. Others that write wait for it.
    ///
    /// # Errors
    /// That of `send`, `WriteZero` if it takes nothing; `InvalidData` if the peer has
    /// entered after all, or says that it has read some; `BrokenPipe` in a forked child.
    pub fn take_back(&self, send: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        let own = self.own()?;
        own.writing(|producer| own.take_back(producer, send))
    }
}

impl Own {
    pub(super) fn has_entered(&self) -> bool {
        self.entered.load(Relaxed)
    }

    pub(super) fn has_peer_entered(&self) -> bool {
        self.has_entered() || self.watch.has_peer_entered(FIRST_POSITION)
    }

    /// After publishing: whether the peer sleeps and must be rung.
    pub(super) fn needs_notify(&self, producer: &Producer<'_>) -> bool {
        if self.has_entered() {
            producer.needs_notify()
        } else {
            self.watch.needs_notify_if_entered(FIRST_POSITION)
        }
    }

    /// Rings the peer, unless the socket is not there for that yet, or any more. To be called
    /// with one of the halves.
    pub(super) fn ring(&self, socket: RawFd) {
        if self.has_peer_entered() && !self.has_left() {
            doorbell::ring(socket);
        }
    }

    fn take_back(
        &self,
        producer: &Producer<'_>,
        send: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.write_closed.store(true, Relaxed);
        // More than the ring was written only if the peer gave space back.
        let written = producer.position().wrapping_sub(FIRST_POSITION);
        if self.has_peer_entered() || written > producer.capacity() as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        send_published(producer, &self.taken_back, send)
    }
}
