//! Asynchronous connections, on tokio.
//!
//! [`Client`](crate::Client) makes them, with redis-rs' names:
//! [`get_multiplexed_async_connection`](crate::Client::get_multiplexed_async_connection),
//! [`get_async_pubsub`](crate::Client::get_async_pubsub).
//! What they stand on is [`Stream`], an `AsyncRead + AsyncWrite` for any other use.
//!
//! Waiting is the runtime's: a task that waits for shared memory sleeps until its
//! doorbell rings on the socket, so one thread serves any number of connections.
//! Spinning would hold that thread up; a connection does it only if
//! [`Client::wait_policy`](crate::Client::wait_policy) says so.

mod connect;
mod dial;
mod moving;
mod multiplexed;
#[cfg(feature = "reconnect")]
mod reconnect;
mod shared;
mod stream;

pub use multiplexed::MultiplexedConnection;
#[cfg(feature = "reconnect")]
pub use reconnect::ConnectionManager;
pub use stream::Stream;
