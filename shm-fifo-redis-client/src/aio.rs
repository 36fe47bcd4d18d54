//! Asynchronous connections, on tokio.
//!
//! [`Client`](crate::Client) makes them, with redis-rs' names:
//! [`get_multiplexed_async_connection`](crate::Client::get_multiplexed_async_connection),
//! [`get_async_pubsub`](crate::Client::get_async_pubsub).
//! What they stand on is [`Stream`], an `AsyncRead + AsyncWrite` for any other use.
//!
//! A task that waits for shared memory spins, where that has been paying, for some
//! microseconds at a time: other tasks run in between, and none is held up for longer.
//! Then it sleeps until its doorbell rings on the socket, so one thread serves any number of
//! connections. [`Client::wait_policy`](crate::Client::wait_policy) says how long it spins, or
//! that it never does.

mod connect;
mod dial;
mod moving;
mod multiplexed;
mod prompt;
#[cfg(feature = "reconnect")]
mod reconnect;
mod stream;

pub use multiplexed::MultiplexedConnection;
#[cfg(feature = "reconnect")]
pub use reconnect::ConnectionManager;
pub use stream::Stream;
