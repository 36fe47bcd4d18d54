//! The socket on which a file descriptor comes beside a TCP connection.

use crate::sys;
use shm_fifo::fd_passing::{self, AbstractAddress};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;

/// What comes with the descriptor.
const LETTER: &[u8] = &[0];
/// How many datagrams are looked at. Anybody in this network namespace may send
/// some; what they carry is not used, because the token that the server's answer names they
/// cannot know.
const MAX_DATAGRAMS: usize = 16;

/// A datagram socket with a name that the kernel chose.
#[derive(Debug)]
pub struct FdSocket {
    socket: UnixDatagram,
    address: AbstractAddress,
}

impl FdSocket {
    /// Makes the socket.
    ///
    /// # Errors
    /// If no file descriptor is free, or abstract sockets are forbidden here.
    pub fn bind() -> io::Result<Self> {
        Self::on(UnixDatagram::unbound()?)
    }

    /// Uses this socket, which has no name yet.
    ///
    /// # Errors
    /// If abstract sockets are forbidden here.
    pub fn on(socket: UnixDatagram) -> io::Result<Self> {
        sys::autobind(&socket)?;
        let address = socket
            .local_addr()?
            .as_abstract_name()
            .and_then(AbstractAddress::from_digits)
            .ok_or_else(|| io::Error::other("the kernel chose a socket name of unknown form"))?;
        Ok(Self { socket, address })
    }

    /// The name, as `SHM.OPEN` wants it.
    #[must_use]
    pub fn name(&self) -> &str {
        // They are digits.
        std::str::from_utf8(self.address.digits()).unwrap_or_default()
    }

    /// The descriptor that has come, without waiting: it is sent before the
    /// answer on the connection.
    #[must_use]
    pub fn take_fd(&self) -> Option<OwnedFd> {
        (0..MAX_DATAGRAMS).find_map(|_| self.take_letter())
    }

    fn take_letter(&self) -> Option<OwnedFd> {
        // One byte more than a letter has, to tell it from a longer one.
        let mut bytes = [1; LETTER.len() + 1];
        let received = fd_passing::recv_with_fd(&self.socket, &mut bytes, libc::MSG_DONTWAIT);
        let (count, fd) = received.ok()?;
        fd.filter(|_| bytes[..count] == *LETTER)
    }
}

impl AsRawFd for FdSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
