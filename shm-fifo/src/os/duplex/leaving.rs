//! The way back to the socket.

use super::{Duplex, Own};
use crate::os::doorbell::{DOORBELL, LEAVE};
use crate::os::sys;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;

impl Duplex {
    /// Leaves the rings, which nobody reads or writes here any more: whoever does gets
    /// `NotConnected`. What was written is read by the peer first; what was not read comes by
    /// the socket, as all that follows. [`Duplex::has_peer_left`] says from when on that is so.
    ///
    /// The peer has to be one that knows of this: a session of `vfd`. Others end.
    ///
    /// # Errors
    /// `WouldBlock` if the socket is full of doorbells, `BrokenPipe` if a direction has ended,
    /// the peer has not entered, or this is a forked child. Nothing has changed then.
    pub fn leave(&self, socket: RawFd) -> io::Result<()> {
        let own = self.own()?;
        let has_ended = || {
            own.write_closed.load(Relaxed)
                || own.halves.peer.is_gone()
                || own.watch.peer_has_closed()
        };
        // Whoever rings the peer has one of the two locks: no doorbell follows.
        let left = own.halves.reading(|_reader| {
            own.writing(|writer| {
                if has_ended() || !own.has_entered() || own.has_left() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                // Before the byte: a peer may leave that unread as long as it has requests.
                writer.announce_leave(true);
                let sent = sys::send(socket, &[LEAVE], libc::MSG_DONTWAIT);
                writer.announce_leave(sent.is_ok());
                own.left.store(sent.is_ok(), Relaxed);
                sent.map(drop)
            })
        });
        left.unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))
    }

    /// Whether the peer has left, too: takes its last doorbells off the socket, and nothing
    /// else. From then on that is a socket as any other.
    ///
    /// # Errors
    /// If the peer has not left but ended: `UnexpectedEof` at the socket's end, `InvalidData` if it
    /// sends anything else, otherwise what `recv(2)` says. This side has not left then, either:
    /// what was unread can be read here, and behind it is the end.
    pub fn has_peer_left(&self, socket: RawFd) -> io::Result<bool> {
        let own = self.own()?;
        loop {
            let mut byte = [0];
            let ended = match sys::recv(socket, &mut byte, libc::MSG_DONTWAIT) {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(_) if byte == [DOORBELL] => continue,
                Ok(_) if byte == [LEAVE] => return Ok(true),
                Ok(_) => {
                    own.break_off(socket);
                    io::ErrorKind::InvalidData.into()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            own.stay();
            return Err(ended);
        }
    }
}

impl Own {
    /// The peer has ended, and its last words are in the ring.
    fn stay(&self) {
        self.halves.peer.note_end();
        self.halves.reading(|_reader| {
            self.halves.writing(|_writer| self.left.store(false, Relaxed));
        });
    }

    pub(super) fn has_left(&self) -> bool {
        // ORDERING, Relaxed: changed with both halves locked, one of which the caller has.
        self.left.load(Relaxed)
    }
}
