//! Connecting without blocking the runtime.
//!
//! The runtime connects. The few commands that follow, once in a connection's
//! life, are the blocking code's own, on one of the runtime's threads for that: a
//! second version of a conversation with file descriptors and bytes to keep in
//! order would only be a second chance to get it wrong. Who stops waiting hangs up,
//! so no thread is left behind.

use super::{MultiplexedConnection, Stream};
use crate::client::Client;
use crate::error::Error;
use crate::handshake::Refusal;
use crate::sys;
use redis::{AsyncConnectionConfig, ConnectionAddr, RedisConnectionInfo, RedisResult};
use shm_fifo::{SpinPolicy, WaitMode};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::spawn_blocking;

/// redis-rs' own limit for asynchronous connections.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

impl Client {
    /// Connects for any number of tasks at a time: clones share the connection.
    ///
    /// Where the client has no timeouts of its own, redis-rs' defaults for
    /// asynchronous connections hold: a second to connect, half a second for a
    /// reply.
    ///
    /// # Errors
    /// As [`Client::get_connection`].
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without IO or time.
    ///
    /// # Examples
    /// ```no_run
    /// use redis::AsyncCommands;
    /// use shm_fifo_redis_client::Client;
    ///
    /// # async fn example() -> redis::RedisResult<()> {
    /// let client = Client::open("redis+shm://localhost")?;
    /// let mut connection = client.get_multiplexed_async_connection().await?;
    /// let _: () = connection.set("greeting", "hello").await?;
    /// let greeting: String = connection.get("greeting").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_multiplexed_async_connection(&self) -> Result<MultiplexedConnection, Error> {
        let mut config = AsyncConnectionConfig::new();
        if let Some(timeout) = self.response_timeout {
            config = config.set_response_timeout(Some(timeout));
        }
        self.get_multiplexed_async_connection_with_config(&config).await
    }

    /// As [`Client::get_multiplexed_async_connection`], with redis-rs' settings.
    ///
    /// Of these the timeout for connecting and the name resolver have no effect:
    /// [`Client::connect_timeout`] and the runtime have their place.
    ///
    /// # Errors
    /// As [`Client::get_connection`].
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without IO or time.
    pub async fn get_multiplexed_async_connection_with_config(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, Error> {
        let (stream, refusal) = self.get_async_stream().await?;
        let settings = self.remaining_settings();
        let made = MultiplexedConnection::over(stream, refusal, &settings, config.clone());
        made.await.map_err(Error::SetUp)
    }

    /// Connects for subscriptions.
    ///
    /// # Errors
    /// As [`Client::get_connection`].
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without IO or time.
    pub async fn get_async_pubsub(&self) -> RedisResult<redis::aio::PubSub> {
        let (stream, _) = self.get_async_stream().await?;
        redis::aio::PubSub::new(&self.remaining_settings(), stream).await
    }

    /// Connects, authenticates, selects the database and moves to shared memory if
    /// the address asks for it; or why it did not move.
    ///
    /// The stream is for anything that speaks RESP.
    ///
    /// # Errors
    /// As [`Client::get_connection`].
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without IO or time.
    pub async fn get_async_stream(&self) -> Result<(Stream, Option<Refusal>), Error> {
        let timeout = self.connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT);
        match tokio::time::timeout(timeout, self.stream()).await {
            Ok(stream) => stream,
            Err(_) => Err(self.cannot_connect(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn stream(&self) -> Result<(Stream, Option<Refusal>), Error> {
        let stream = self.dial_async().await.map_err(|error| self.cannot_connect(error))?;
        let hang_up = HangUp::of(&stream).map_err(|error| self.cannot_connect(error))?;
        let client = self.clone().for_event_loops();
        let welcomed = spawn_blocking(move || client.welcome(stream)).await;
        hang_up.forget();
        // The thread was not started because the runtime ends.
        let welcomed = welcomed.map_err(|error| self.cannot_connect(io::Error::other(error)))?;
        let (stream, refusal) = welcomed?.into_stream();
        let stream = Stream::new(stream).map_err(|error| self.cannot_connect(error))?;
        Ok((stream, refusal))
    }

    async fn dial_async(&self) -> io::Result<crate::Stream> {
        match self.address().info().addr() {
            ConnectionAddr::Tcp(host, port) => {
                let socket = TcpStream::connect((host.as_str(), *port)).await?.into_std()?;
                socket.set_nonblocking(false)?;
                socket.set_nodelay(true)?;
                Ok(socket.into())
            }
            ConnectionAddr::Unix(path) => {
                let socket = UnixStream::connect(path).await?.into_std()?;
                socket.set_nonblocking(false)?;
                Ok(socket.into())
            }
            // `Address` lets no other pass.
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// What is still to be said to a server that has greeted us: the protocol,
    /// because redis-rs wants to know it, and nothing else.
    fn remaining_settings(&self) -> RedisConnectionInfo {
        let settings = self.address().info().redis_settings();
        RedisConnectionInfo::default()
            .set_db(settings.db())
            .set_protocol(settings.protocol())
            .set_skip_set_lib_name()
    }

    /// Without spinning, unless that was asked for.
    fn for_event_loops(self) -> Self {
        let policy = self.policy.clone();
        self.wait_policy(policy.unwrap_or(SpinPolicy::new(WaitMode::Park, 0)))
    }
}

/// Ends a connection, unless it is told to forget it: whoever uses it elsewhere
/// fails at once.
#[derive(Debug)]
struct HangUp(Option<OwnedFd>);

impl HangUp {
    fn of(stream: &crate::Stream) -> io::Result<Self> {
        stream.as_fd().try_clone_to_owned().map(Some).map(Self)
    }

    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            sys::shut_down(socket.as_raw_fd());
        }
    }
}
