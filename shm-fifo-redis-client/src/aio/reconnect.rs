//! An asynchronous connection that makes itself anew when it was lost.

use super::MultiplexedConnection;
use crate::client::Client;
use crate::error::Error;
use crate::reconnect::{Backoff, default_backoff, may_pass};
use backon::{BackoffBuilder as _, ExponentialBackoff};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisFuture, RedisResult, Value};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A connection on its way, for all who wait for it.
type Attempt = Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>;

/// A connection that connects again, with growing pauses, when it was lost; clones
/// share it.
///
/// The commands that notice the loss fail: whether they were executed nobody knows,
/// so they are not repeated. The next ones wait for the same new connection.
/// Subscriptions are not renewed.
#[derive(Clone)]
pub struct ConnectionManager(Arc<Inner>);

struct Inner {
    client: Client,
    backoff: Backoff,
    current: Mutex<Attempt>,
}

impl Client {
    /// Connects, as often as it will take from now on. The first pause is a tenth
    /// of a second, the next is twice as long, and so on; after the sixth the last
    /// error is returned.
    ///
    /// # Errors
    /// As [`Client::get_multiplexed_async_connection`], after the last attempt.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without IO or time.
    pub async fn get_async_connection_manager(&self) -> RedisResult<ConnectionManager> {
        self.get_async_connection_manager_with_backoff(default_backoff()).await
    }

    /// As [`Client::get_async_connection_manager`], with other pauses.
    ///
    /// # Errors
    /// As [`Client::get_multiplexed_async_connection`], after the last attempt.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without IO or time.
    pub async fn get_async_connection_manager_with_backoff(
        &self,
        backoff: Backoff,
    ) -> RedisResult<ConnectionManager> {
        let current = Mutex::new(attempt(self, &backoff));
        let manager = ConnectionManager(Arc::new(Inner { client: self.clone(), backoff, current }));
        manager.connection().await?;
        Ok(manager)
    }
}

impl ConnectionManager {
    /// The connection, made anew if it was lost.
    ///
    /// # Errors
    /// As [`Client::get_multiplexed_async_connection`], after the last attempt.
    pub async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        self.attempt().await
    }

    /// The attempt to wait for: a new one if the last has failed or its connection
    /// has ended.
    fn attempt(&self) -> Attempt {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = match current.peek() {
            None => false,
            Some(Ok(connection)) => connection.is_closed(),
            Some(Err(_)) => true,
        };
        if is_over {
            *current = attempt(&self.0.client, &self.0.backoff);
        }
        current.clone()
    }

    /// Looks at how a command ended: after some errors its connection is of no use.
    fn judge<T>(&self, used: &Attempt, result: &RedisResult<T>) {
        if result.as_ref().is_err_and(redis::RedisError::is_unrecoverable_error) {
            let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
            if current.ptr_eq(used) {
                *current = attempt(&self.0.client, &self.0.backoff);
            }
        }
    }
}

impl ConnectionLike for ConnectionManager {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        async move {
            let attempt = self.attempt();
            let result = attempt.clone().await?.req_packed_command(command).await;
            self.judge(&attempt, &result);
            result
        }
        .boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        async move {
            let attempt = self.attempt();
            let result = attempt.clone().await?.req_packed_commands(pipeline, offset, count).await;
            self.judge(&attempt, &result);
            result
        }
        .boxed()
    }

    fn get_db(&self) -> i64 {
        self.0.client.address().info().redis_settings().db()
    }
}

impl fmt::Debug for ConnectionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionManager").field("client", &self.0.client).finish_non_exhaustive()
    }
}

fn attempt(client: &Client, backoff: &Backoff) -> Attempt {
    let (client, pauses) = (client.clone(), backoff.build());
    async move { Ok(connect(&client, pauses).await?) }.boxed().shared()
}

async fn connect(
    client: &Client,
    mut pauses: ExponentialBackoff,
) -> Result<MultiplexedConnection, Error> {
    loop {
        let error = match client.get_multiplexed_async_connection().await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        match pauses.next().filter(|_| may_pass(&error)) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(error),
        }
    }
}
