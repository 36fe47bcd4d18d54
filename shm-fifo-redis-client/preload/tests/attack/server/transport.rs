//! Where a connection's bytes travel: its socket, and later the rings.

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use shm_fifo::{Duplex, Interest, Region, fd_passing};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

#[derive(Debug)]
pub(super) struct Transport {
    socket: OwnedFd,
    ring: Option<Duplex>,
}

/// What a look for bytes found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Some,
    Nothing,
    End,
}

impl Transport {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, ring: None }
    }

    pub(super) fn has_moved(&self) -> bool {
        self.ring.is_some()
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn enter(&mut self, region: Region) {
        self.ring = Some(Duplex::new(region.into_endpoint()));
    }

    pub(super) fn receive(&self, into: &mut Vec<u8>) -> Received {
        let mut chunk = [0; 16 * 1024];
        let received = match &self.ring {
            None => recv(&self.socket, &mut chunk, RecvFlags::DONTWAIT)
                .map(|(count, _)| count)
                .map_err(io::Error::from),
            Some(ring) => {
                // What it rings for is in the ring before.
                ring.listen(self.socket.as_raw_fd());
                ring.read(self.socket.as_raw_fd(), &mut chunk)
            }
        };
        match received {
            Ok(0) => Received::End,
            Ok(count) => {
                into.extend_from_slice(&chunk[..count]);
                Received::Some
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Received::Nothing,
            Err(_) => Received::End,
        }
    }

    /// What has come on the socket and is not taken.
    pub(super) fn peek_socket(&self) -> Vec<u8> {
        let mut chunk = [0; 256];
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let count = recv(&self.socket, &mut chunk, flags).map_or(0, |(count, _)| count);
        chunk[..count].to_vec()
    }

    /// Sends what there is room for.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.ring {
            None => Ok(send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?),
            Some(ring) => ring.write(self.socket.as_raw_fd(), &[IoSlice::new(bytes)]),
        }
    }

    /// Sends bytes with a descriptor, on the socket.
    pub(super) fn send_with(&self, bytes: &[u8], fd: &OwnedFd) -> io::Result<usize> {
        fd_passing::send_with_fd(self.socket.as_raw_fd(), bytes, fd.as_fd())
    }

    /// Announces a sleep. `false` if there is something to do already.
    pub(super) fn park(&self, interest: Interest) -> bool {
        let Some(ring) = &self.ring else { return true };
        !ring.is_ready(interest) && ring.park(self.socket.as_raw_fd(), interest, None)
    }

    pub(super) fn unpark(&self) {
        if let Some(ring) = &self.ring {
            ring.unpark(Interest { readable: true, writable: true });
        }
    }

    /// Nothing more will be sent.
    pub(super) fn end_sending(&self) {
        match &self.ring {
            None => drop::<Result<(), Errno>>(shutdown(&self.socket, Shutdown::Write)),
            Some(ring) => ring.close_writing(self.socket.as_raw_fd()),
        }
    }

    pub(super) fn close(self) {
        if let Some(ring) = &self.ring {
            ring.close(self.socket.as_raw_fd());
        }
    }
}
