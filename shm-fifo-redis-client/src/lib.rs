//! Redis client connections over shared memory.
//!
//! A connection begins as ever, on a unix socket or loopback TCP. Where the
//! server has the `shm` module, it then moves to shared memory and stays the
//! same client: same id, same user, same database. Where it has not, or runs on
//! another host, the connection stays on its socket and works all the same.
//!
//! * [`Client`] and [`Connection`] are what users of the `redis` crate know: the
//!   connection is a [`redis::ConnectionLike`].
//! * [`Stream`] is a connected byte stream over any of these transports, and
//!   [`move_to_shared_memory`] is what moves it. Both know no commands.
#![deny(unsafe_code)]

mod address;
mod client;
mod connection;
mod deadline;
mod error;
mod handshake;
mod messages;
mod reply;
mod stream;
mod sys;
#[cfg(any(test, feature = "test-utils"))]
#[doc(hidden)]
pub mod testing;

pub use address::{Address, AddressError, Sharing};
pub use client::Client;
pub use connection::Connection;
pub use error::Error;
pub use handshake::{Attempt, MoveError, Refusal, move_to_shared_memory};
pub use reply::ReplyError;
pub use shm_fifo::{Interest, SpinPolicy, WaitMode};
pub use stream::{Stream, Transport};
