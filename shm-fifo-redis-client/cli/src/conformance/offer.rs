//! What a server sends in answer to `SHM.OPEN`: a region, and how it goes to the client.

use shm_fifo::Region;
use shm_fifo::doorbell::DOORBELL;
use shm_fifo::fd_passing::{AbstractAddress, send_with_fd_to};
use shm_fifo::region::Token;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

pub(crate) const OK: &[u8] = b"+OK\r\n";

/// Shared memory that a connection may move to.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) region: Region,
    pub(crate) fd: OwnedFd,
}

impl Offer {
    pub(crate) fn make(ring_bytes: usize) -> io::Result<Self> {
        let region = Region::create(ring_bytes)?;
        region.park_both_ends();
        let fd = region.fd()?;
        Ok(Self { region, fd })
    }

    /// What is said with it to a client that has named a socket for the descriptor, or none.
    pub(crate) fn answer(&self, fd_socket: Option<&[u8]>) -> Vec<u8> {
        answer(self.region.token(), fd_socket)
    }
}

/// What is said with the region that has this token: where the descriptor goes beside the
/// connection, which one it is.
pub(crate) fn answer(token: Token, fd_socket: Option<&[u8]>) -> Vec<u8> {
    match fd_socket {
        None => OK.to_vec(),
        Some(_) => format!("+OK {token}\r\n").into_bytes(),
    }
}

/// Sends a descriptor to the datagram socket that a client on TCP has named.
pub(crate) fn send_beside(fd_socket: &[u8], fd: impl AsFd) -> io::Result<()> {
    let address = AbstractAddress::from_digits(fd_socket).ok_or(io::ErrorKind::InvalidInput)?;
    let socket = UnixDatagram::unbound()?;
    send_with_fd_to(&socket, address, &[DOORBELL], fd.as_fd()).map(drop)
}
