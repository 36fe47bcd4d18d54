//! Which process is behind a unix socket.
//!
//! Invariant: the descriptor is only used, never closed or kept.
#![allow(unsafe_code)]

use rustix::process::Pid;
use std::mem::size_of_val;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// The one that listened; `None` if it cannot be seen from this PID namespace.
///
/// rustix has the call, and no place for the 0 that the kernel then says.
pub(super) fn process(socket: &UnixStream) -> Option<Pid> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of_val(&peer)).ok()?;
    // SAFETY: the kernel writes at most `length` bytes to `peer`, a live C struct for
    // which any bytes are valid, and the new length to a live integer.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Pid::from_raw(peer.pid) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (socket, _other) = UnixStream::pair().expect("sockets");
        assert_eq!(process(&socket), Some(rustix::process::getpid()));
    }
}
