//! What `SHM.OPEN` sends: a region, or something that is none.

#[allow(dead_code, reason = "each user has its part")]
#[path = "../../../../cli/src/conformance/offer.rs"]
mod good;

use super::script::Another;
pub(super) use good::{Offer, send_beside};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use shm_fifo::{Region, region::Token};
use std::io;
use std::os::fd::OwnedFd;

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

/// What is said with it to a client that has named a socket for it, or none.
pub(super) fn answer(fd: &OwnedFd, fd_socket: Option<&[u8]>) -> Vec<u8> {
    let region = fd.try_clone().ok().and_then(|fd| Region::attach(fd).ok());
    let token = region.map_or(Token::from_bytes([0; 16]), |region| region.token());
    good::answer(token, fd_socket)
}
