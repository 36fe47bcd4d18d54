//! What can go wrong before there is a connection.

use crate::address::AddressError;
use crate::handshake::{MoveError, Refusal};
use redis::{ErrorKind, RedisError};
use std::convert::Infallible;
use std::io;

/// Why there is no connection.
///
/// It converts into a [`RedisError`], so that `?` works in functions that
/// return a [`redis::RedisResult`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody answers at the address.
    #[error("cannot connect to {address}: {source}; is the server running there?")]
    Connect {
        /// Host and port, or path.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server refused the user, the database or the protocol.
    #[error("the server did not accept the connection: {0}")]
    SetUp(#[source] RedisError),
    /// The connection was lost while it moved to shared memory.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// The connection could not move to shared memory, which was required.
    #[error("shared memory was required and is not possible: {0}")]
    NotShared(#[source] Refusal),
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<Error> for RedisError {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::SetUp(error) => return error,
            Error::Address(error) => return invalid_address(&error),
            Error::NotShared(refusal) => return not_shared(&refusal),
            Error::Connect { ref source, .. } => source.kind(),
            Error::Move(ref error) => kind_of_move(error),
        };
        // With the kind kept, redis-rs' `is_timeout` and the like are right.
        io::Error::new(kind, error).into()
    }
}

impl From<AddressError> for RedisError {
    fn from(error: AddressError) -> Self {
        invalid_address(&error)
    }
}

fn invalid_address(error: &AddressError) -> RedisError {
    (ErrorKind::InvalidClientConfig, "not an address", error.to_string()).into()
}

fn not_shared(refusal: &Refusal) -> RedisError {
    let message = "shared memory was required and is not possible";
    (ErrorKind::Client, message, refusal.to_string()).into()
}

fn kind_of_move(error: &MoveError) -> io::ErrorKind {
    match error {
        MoveError::Ended => io::ErrorKind::UnexpectedEof,
        MoveError::TimedOut => io::ErrorKind::TimedOut,
        MoveError::Violation(_) | MoveError::Reply(_) => io::ErrorKind::InvalidData,
        MoveError::Io(error) => error.kind(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_stays_a_timeout_for_redis() {
        assert!(RedisError::from(Error::Move(MoveError::TimedOut)).is_timeout());
    }

    #[test]
    fn a_lost_connection_stays_one_for_redis() {
        assert!(RedisError::from(Error::Move(MoveError::Ended)).is_connection_dropped());
    }

    #[test]
    fn a_refused_connection_stays_one_and_keeps_its_address() {
        let source = io::ErrorKind::ConnectionRefused.into();
        let error = RedisError::from(Error::Connect { address: "here:1".into(), source });
        assert!(error.is_connection_refusal());
        assert!(error.to_string().contains("here:1"));
    }

    #[test]
    fn a_missing_module_is_named_with_its_remedy() {
        let error = RedisError::from(Error::NotShared(Refusal::NoModule));
        assert!(error.to_string().contains("MODULE LOAD"));
    }
}
