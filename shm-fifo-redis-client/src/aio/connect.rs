//! Connecting without blocking the runtime, and without a thread.
//!
//! What is said, and what the answers mean, is the same as for a blocking connection:
//! [`Greeting`] and [`Moving`](crate::Moving) know it. Who stops waiting drops the socket,
//! and nothing is left behind.

use super::dial::dial;
use super::moving::move_to_shared_memory;
use super::{MultiplexedConnection, Stream};
use crate::address::Sharing;
use crate::client::Client;
use crate::connection::Greeting;
use crate::error::Error;
use crate::handshake::{Attempt, Refusal};
use crate::messages::{ended, not_understood};
use crate::reply::ReplyReader;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisResult, Value};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
        self.in_time(async {
            let (stream, refusal) = self.stream_for_redis_rs().await?;
            let settings = self.remaining_settings();
            let made = MultiplexedConnection::over(stream, refusal, &settings, config.clone());
            made.await.map_err(Error::SetUp)
        })
        .await
    }

    /// Connects for subscriptions.
    ///
    /// # Errors
    /// As [`Client::get_connection`].
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without IO or time.
    pub async fn get_async_pubsub(&self) -> RedisResult<redis::aio::PubSub> {
        let made = self.in_time(async {
            let (stream, _) = self.stream_for_redis_rs().await?;
            let settings = self.remaining_settings();
            redis::aio::PubSub::new(&settings, stream).await.map_err(Error::SetUp)
        });
        Ok(made.await?)
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
        self.in_time(self.stream(self.address().info().redis_settings())).await
    }

    /// What `connecting` makes within the time that connecting may take.
    async fn in_time<T>(
        &self,
        connecting: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let timeout = self.connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT);
        match tokio::time::timeout(timeout, connecting).await {
            Ok(made) => made,
            Err(_) => Err(self.cannot_connect(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn stream(
        &self,
        settings: &RedisConnectionInfo,
    ) -> Result<(Stream, Option<Refusal>), Error> {
        let address = self.address().info().addr();
        let stream = dial(address).await.map_err(|error| self.cannot_connect(error))?;
        let stream = greet(stream, settings).await.map_err(Error::SetUp)?;
        self.share_async(stream).await
    }

    /// On which nothing is pushed yet. redis-rs says `HELLO` itself, and takes whatever comes
    /// first for the answer.
    async fn stream_for_redis_rs(&self) -> Result<(Stream, Option<Refusal>), Error> {
        let settings = self.address().info().redis_settings().clone();
        self.stream(&settings.set_protocol(ProtocolVersion::RESP2)).await
    }

    async fn share_async(&self, stream: Stream) -> Result<(Stream, Option<Refusal>), Error> {
        if self.address().sharing() == Sharing::Never {
            return Ok((stream, None));
        }
        let stream = stream.into_std().map_err(|error| self.cannot_connect(error))?;
        let (stream, refusal) = match move_to_shared_memory(stream).await? {
            Attempt::Moved(mut stream) => {
                stream.set_policy(self.policy.clone().unwrap_or_default());
                (stream, None)
            }
            Attempt::Stayed(stream, refusal) => (stream, Some(self.accept(refusal)?)),
        };
        let stream = Stream::new(stream).map_err(|error| self.cannot_connect(error))?;
        Ok((stream, refusal))
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
}

/// The same stream, once the server has been greeted on it.
async fn greet(mut stream: Stream, settings: &RedisConnectionInfo) -> RedisResult<Stream> {
    let Greeting { commands, steps } = Greeting::of(settings);
    stream.write_all(&commands).await?;
    let mut replies = ReplyReader::default();
    for step in steps {
        step.judge(next_reply(&mut stream, &mut replies).await?)?;
    }
    stream.keep(replies.unread());
    Ok(stream)
}

/// The next reply. Push messages on the way are for nobody.
async fn next_reply(stream: &mut Stream, replies: &mut ReplyReader) -> RedisResult<Value> {
    loop {
        match replies.next().map_err(not_understood)? {
            Some(Value::Push { .. }) => {}
            Some(reply) => return Ok(reply),
            None => {
                let mut chunk = [0; 1024];
                let count = stream.read(&mut chunk).await?;
                let mut news = &chunk[..count];
                if news.is_empty() {
                    return Err(ended());
                }
                while !news.is_empty() {
                    replies.fill(|room| io::Read::read(&mut news, room))?;
                }
            }
        }
    }
}
