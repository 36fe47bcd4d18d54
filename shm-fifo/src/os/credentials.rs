//! Who is at the other end of a channel.

use super::channel::Channel;
use super::sys;
use std::io;
use std::os::fd::AsFd;

/// Who the peer was when the socket was connected: the client when it called `connect`, the
/// server when it began to listen (`SO_PEERCRED`, unix(7)). The kernel says so, not the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// Its process; `None` if that is not to be seen from here, in another PID namespace. The
    /// number may be another process's by now.
    pub pid: Option<u32>,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

impl PeerCredentials {
    /// Those of the process behind a connected unix `socket`.
    ///
    /// # Errors
    /// What `getsockopt(2)` says: it is no socket.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let credentials = sys::peer_credentials(socket.as_fd())?;
        Ok(Self {
            pid: u32::try_from(credentials.pid).ok().filter(|&pid| pid != 0),
            uid: credentials.uid,
            gid: credentials.gid,
        })
    }
}

impl Channel {
    /// Who the peer is. (Of a [`for_child`](Channel::for_child) pair: who made it.)
    ///
    /// # Errors
    /// `ENOTSOCK` if the channel has no socket, but
    /// [eventfds](crate::doorbell::EventDoorbells).
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        PeerCredentials::of(self)
    }
}
