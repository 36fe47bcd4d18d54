//! Where a connection's bytes travel: its socket, and later the rings.

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use shm_fifo::doorbell::{DOORBELL, LEAVE};
use shm_fifo::{Interest, Region, duplex::Duplex, fd_passing};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt as _;

#[derive(Debug)]
pub(super) struct Transport {
    socket: OwnedFd,
    moved: Option<Moved>,
    /// What goes on the socket before anything else.
    behind: Vec<u8>,
}

/// The rings, and what is needed to leave them.
#[derive(Debug)]
struct Moved {
    ring: Duplex,
    file: File,
    /// What was written last, as much as may be in the ring; and how much in all.
    last: Vec<u8>,
    written: u64,
}

/// Where the position is up to which the driver has read (docs/layout.md).
const HEAD_OFFSET: u64 = 1536 + 128;

/// What a look for bytes found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Some,
    Nothing,
    End,
}

impl Transport {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, moved: None, behind: Vec::new() }
    }

    pub(super) fn has_moved(&self) -> bool {
        self.moved.is_some()
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn enter(&mut self, region: Region) -> io::Result<()> {
        let file = File::from(region.fd()?);
        let ring = Duplex::new(region.into_endpoint());
        self.moved = Some(Moved { ring, file, last: Vec::new(), written: 0 });
        Ok(())
    }

    pub(super) fn receive(&mut self, into: &mut Vec<u8>) -> Received {
        if self.moved.is_some() && self.hears_leave() {
            self.leave(into);
        }
        self.send_behind().ok();
        let mut chunk = [0; 16 * 1024];
        let received = match &self.moved {
            None => recv(&self.socket, &mut chunk, RecvFlags::DONTWAIT)
                .map(|(count, _)| count)
                .map_err(io::Error::from),
            Some(Moved { ring, .. }) => ring.read(self.socket.as_raw_fd(), &mut chunk),
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

    /// Takes doorbells; what they ring for is in the ring before. Whether the driver has left.
    fn hears_leave(&self) -> bool {
        let mut byte = [0];
        loop {
            match recv(&self.socket, &mut byte, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
                Ok((1, _)) if byte == [DOORBELL] || byte == [LEAVE] => {
                    recv(&self.socket, &mut byte, RecvFlags::DONTWAIT).ok();
                    if byte == [LEAVE] {
                        return true;
                    }
                }
                Err(Errno::AGAIN) => return false,
                // The end, or what breaks the protocol.
                _ => {
                    if let Some(moved) = &self.moved {
                        moved.ring.listen(self.socket.as_raw_fd());
                    }
                    return false;
                }
            }
        }
    }

    /// The way back: what is in the rings comes first in both directions.
    fn leave(&mut self, into: &mut Vec<u8>) {
        let Some(moved) = self.moved.take() else { return };
        let mut chunk = [0; 16 * 1024];
        while let Ok(count @ 1..) = moved.ring.read(self.socket.as_raw_fd(), &mut chunk) {
            into.extend_from_slice(&chunk[..count]);
        }
        let mut head = [0; 8];
        moved.file.read_exact_at(&mut head, HEAD_OFFSET).expect("it has a header");
        let unread = moved.written.wrapping_sub(u64::from_ne_bytes(head));
        let unread = usize::try_from(unread).expect("no more than the ring");
        self.behind.push(LEAVE);
        self.behind.extend_from_slice(&moved.last[moved.last.len() - unread..]);
    }

    fn send_behind(&mut self) -> io::Result<()> {
        while !self.behind.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let sent = send(&self.socket, &self.behind, flags)?;
            self.behind.drain(..sent);
        }
        Ok(())
    }

    /// What has come on the socket and is not taken.
    pub(super) fn peek_socket(&self) -> Vec<u8> {
        let mut chunk = [0; 256];
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let count = recv(&self.socket, &mut chunk, flags).map_or(0, |(count, _)| count);
        chunk[..count].to_vec()
    }

    /// Sends what there is room for.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send_behind()?;
        match &mut self.moved {
            None => Ok(send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?),
            Some(moved) => moved.send(self.socket.as_raw_fd(), bytes),
        }
    }

    /// Sends bytes with a descriptor, on the socket.
    pub(super) fn send_with(&self, bytes: &[u8], fd: &OwnedFd) -> io::Result<usize> {
        fd_passing::send_with_fd(&self.socket, bytes, fd.as_fd())
    }

    /// Announces a sleep. `false` if there is something to do already.
    pub(super) fn park(&self, interest: Interest) -> bool {
        let Some(Moved { ring, .. }) = &self.moved else { return true };
        !ring.is_ready(interest) && ring.park(self.socket.as_raw_fd(), interest, None)
    }

    pub(super) fn unpark(&self) {
        if let Some(Moved { ring, .. }) = &self.moved {
            ring.unpark(Interest { readable: true, writable: true });
        }
    }

    /// Nothing more will be sent.
    pub(super) fn end_sending(&self) {
        match &self.moved {
            None => drop::<Result<(), Errno>>(shutdown(&self.socket, Shutdown::Write)),
            Some(Moved { ring, .. }) => ring.close_writing(self.socket.as_raw_fd()),
        }
    }

    pub(super) fn close(self) {
        if let Some(Moved { ring, .. }) = &self.moved {
            ring.close(self.socket.as_raw_fd());
        }
    }
}

impl Moved {
    fn send(&mut self, socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
        let count = self.ring.write(socket, &[IoSlice::new(bytes)])?;
        self.written += count as u64;
        self.last.extend_from_slice(&bytes[..count]);
        let ring_bytes = usize::try_from(self.file.metadata()?.len()).unwrap_or(0) / 2;
        let surplus = self.last.len().saturating_sub(ring_bytes);
        self.last.drain(..surplus);
        Ok(count)
    }
}
