//! Why a connection did not move. Each text says what is wrong and what to do; none quotes what
//! a client has sent, for it is logged.

use crate::client::Unsuitable;
use crate::refused;
use redis_module::RedisError;
use std::io;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("wrong number of arguments; use SHM.OPEN 2 [FDSOCKET name]")]
    OpenArguments,
    #[error("wrong number of arguments; use SHM.START token")]
    StartArguments,
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

/// What operators are told of refusals, of which several come to the same. `INFO` has a counter
/// for each, `shm_refused_` and its name.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumCount, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Reason {
    /// `shm.max-sessions` is 0.
    SwitchedOff,
    MaxSessions,
    MaxMemory,
    /// The system gave no memory, no file descriptor, or did not send it.
    System,
    /// The server does not say who asks.
    ClientList,
    /// The client is on another machine, or in another network namespace.
    Remote,
    Encrypted,
    /// The client is in a transaction, a replica, on shared memory already, or no connection.
    State,
    /// The client has not read what it was sent.
    Unread,
    /// Too late for the offer, or for none.
    Offer,
    Version,
    Arguments,
}

impl Refusal {
    /// What the client reads that has sent `command`. Every refusal is counted here.
    pub(crate) fn reply_to(&self, command: &str) -> RedisError {
        refused::count(self);
        RedisError::String(format!("ERR {command}: {self}"))
    }

    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::SwitchedOff => Reason::SwitchedOff,
            Self::TooManySessions { .. } => Reason::MaxSessions,
            Self::TooMuchMemory { .. } => Reason::MaxMemory,
            Self::Region(_) | Self::Send(_) | Self::Start(_) => Reason::System,
            Self::Unsuitable(unsuitable) => unsuitable.reason(),
            Self::AlreadyStarted => Reason::State,
            Self::UnreadAnswer => Reason::Unread,
            Self::WrongToken | Self::NoOffer => Reason::Offer,
            Self::ObsoleteVersion | Self::UnknownVersion => Reason::Version,
            Self::OpenArguments
            | Self::StartArguments
            | Self::FdSocketNeeded
            | Self::FdSocketNotNeeded
            | Self::FdSocketName
            | Self::TokenFormat => Reason::Arguments,
        }
    }
}

impl Unsuitable {
    fn reason(self) -> Reason {
        match self {
            Self::NoClientList => Reason::ClientList,
            Self::Remote => Reason::Remote,
            Self::Encrypted => Reason::Encrypted,
            Self::UnsentReplies => Reason::Unread,
            Self::InTransaction | Self::NoClient | Self::ReplicaOrMonitor => Reason::State,
        }
    }
}
