//! Why a command failed. Each text says what is wrong and what to do.

use crate::client::Unsuitable;
use redis_module::RedisError;
use std::io;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("wrong number of arguments; use SHM.OPEN 2 [FDSOCKET name]")]
    OpenArguments,
    #[error("wrong number of arguments; use SHM.START token")]
    StartArguments,
    #[error("wrong number of arguments; SHM.LIST takes none")]
    ListArguments,
    #[error("protocol version 1 is no longer spoken; this server speaks version 2")]
    ObsoleteVersion,
    #[error("unknown protocol version; this server speaks version 2")]
    UnknownVersion,
    #[error("{0}")]
    Unsuitable(#[from] Unsuitable),
    #[error("this connection is on shared memory already")]
    AlreadyStarted,
    #[error("over TCP the file descriptor needs a way of its own; use SHM.OPEN 2 FDSOCKET name")]
    FdSocketNeeded,
    #[error("FDSOCKET is for TCP connections; over a unix socket use SHM.OPEN 2")]
    FdSocketNotNeeded,
    #[error("FDSOCKET takes the five hexadecimal digits of an autobound abstract socket")]
    FdSocketName,
    #[error("shared memory is switched off (shm.max-sessions is 0); stay on the socket")]
    SwitchedOff,
    #[error(
        "{limit} connections are on shared memory already (shm.max-sessions); stay on the socket"
    )]
    TooManySessions { limit: u64 },
    #[error("the rings would exceed {limit} bytes in all (shm.max-memory); stay on the socket")]
    TooMuchMemory { limit: u64 },
    #[error("the answer to an earlier SHM.OPEN is still unread; read it first")]
    UnreadAnswer,
    #[error("cannot make the shared memory: {0}; stay on the socket")]
    Region(String),
    #[error("cannot send the file descriptor: {0}; stay on the socket")]
    Send(io::Error),
    #[error("the token is 32 hexadecimal digits, read from the region that SHM.OPEN sent")]
    TokenFormat,
    #[error("this is not the token of the offered region; read it from there")]
    WrongToken,
    #[error("nothing is offered to this connection, or no longer; send SHM.OPEN first")]
    NoOffer,
    #[error("cannot move the connection: {0}; stay on the socket")]
    Start(io::Error),
}

impl Refusal {
    /// What the client reads that has sent `command`.
    pub(crate) fn reply_to(&self, command: &str) -> RedisError {
        RedisError::String(format!("ERR {command}: {self}"))
    }
}
