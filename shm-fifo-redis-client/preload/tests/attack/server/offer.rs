//! What `SHM.OPEN` sends: a region, or something that is none.

use super::script::Another;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use shm_fifo::fd_passing::{AbstractAddress, send_with_fd_to};
use shm_fifo::{Region, doorbell::DOORBELL, region::Token};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

pub(super) fn region(ring_bytes: usize) -> io::Result<(Region, OwnedFd)> {
    let region = Region::create(ring_bytes)?;
    region.park_both_ends();
    let fd = region.fd()?;
    Ok((region, fd))
}

pub(super) fn no_region(another: Another) -> OwnedFd {
    match another {
        Another::File => std::fs::File::open("/proc/self/status").map(OwnedFd::from),
        Another::Pipe => io::pipe().map(|(reader, _)| reader.into()),
        Another::Unsealed | Another::TwoRegions => unsealed(),
    }
    .expect("a descriptor of any kind")
}

fn unsealed() -> io::Result<OwnedFd> {
    let file = memfd_create("no-region", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, Region::bytes_with_rings_of(4096) as u64)?;
    Ok(file)
}

/// What is said with it: where it goes beside the connection, which region is the server's.
pub(super) fn answer(is_beside: bool, fd: &OwnedFd) -> Vec<u8> {
    if !is_beside {
        return b"+OK\r\n".to_vec();
    }
    let region = fd.try_clone().ok().and_then(|fd| Region::attach(fd).ok());
    let token = region.map_or(Token::from_bytes([0; 16]), |region| region.token());
    format!("+OK {token}\r\n").into_bytes()
}

/// To the datagram socket that a client on TCP has bound.
pub(super) fn send_beside(name: &[u8], fd: &OwnedFd) -> io::Result<()> {
    let address = AbstractAddress::from_digits(name).ok_or(io::ErrorKind::InvalidInput)?;
    let socket = UnixDatagram::unbound()?;
    send_with_fd_to(&socket, address, &[DOORBELL], fd.as_fd())?;
    Ok(())
}
