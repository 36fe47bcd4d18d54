//! Redis client connections over shared memory.
//!
//! A connection begins as ever, on a unix socket or loopback TCP. Where the
//! server has the `shm` module, it then moves to shared memory and stays the
//! same client: same id, same user, same database. Where it has not, or runs on
//! another host, the connection stays on its socket and works all the same.
//!
//! * [`Client`] and [`Connection`] are what users of the `redis` crate know: the
//!   connection is a [`redis::ConnectionLike`].
//! * With feature `tokio`, `aio` has them for asynchronous programs; with
//!   `cluster` and `cluster-async`, `cluster` reaches each node of a Redis Cluster
//!   as well as can be. `r2d2` and `bb8` make [`Client`] a manager for those pools,
//!   and `reconnect` brings `ConnectionManager`.
//! * [`LazyConnection`] moves only if it lives long.
//! * [`Stream`] is a connected byte stream over any of these transports, and
//!   [`move_to_shared_memory`] is what moves it, [`Moving`] without waiting. They know
//!   no commands.
#![deny(unsafe_code)]

mod address;
mod again;
#[cfg(feature = "tokio")]
pub mod aio;
mod client;
#[cfg(feature = "cluster")]
pub mod cluster;
mod connection;
mod deadline;
mod error;
mod handshake;
mod lazy;
mod messages;
#[cfg(any(feature = "r2d2", feature = "bb8"))]
mod pool;
#[cfg(feature = "reconnect")]
mod reconnect;
mod reply;
mod stream;
mod sys;
/// The handshake without a connection, for this project's preloaded library and its
/// tool, which have one of their own. Not a stable interface.
#[doc(hidden)]
pub mod wire {
    pub use crate::handshake::{
        Command, Event, FdSocket, Handshake, PROTOCOL_VERSION, RingAnswer, Violation, open_command,
        words,
    };
    pub use crate::reply::{ReplyScanner, Scanned};
}
#[cfg(any(test, feature = "test-utils"))]
#[doc(hidden)]
pub mod testing;

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use address::{Address, AddressError, Sharing};
pub use client::Client;
pub use connection::{Connection, PubSub};
pub use error::Error;
pub use handshake::{Attempt, MoveError, Moving, Progress, Refusal, move_to_shared_memory};
pub use lazy::LazyConnection;
#[cfg(feature = "reconnect")]
pub use reconnect::{Backoff, ConnectionManager};
pub use reply::ReplyError;
pub use shm_fifo::{Interest, SpinPolicy, WaitMode};
pub use stream::{Stream, Transport};
