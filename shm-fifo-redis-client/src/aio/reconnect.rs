//! An asynchronous connection that makes itself anew when it was lost, or could do better.

use super::MultiplexedConnection;
use crate::again::Countdown;
use crate::client::Client;
use crate::error::Error;
use crate::handshake::Refusal;
use crate::reconnect::{Backoff, default_backoff, may_pass};
use backon::{BackoffBuilder as _, ExponentialBackoff};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisFuture, RedisResult, Value};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A connection on its way, for all who wait for it.
type Attempt = Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>;

/// A connection that connects again, with growing pauses, when it was lost; clones
/// share it.
///
/// The commands that notice the loss fail: whether they were executed nobody knows,
/// so they are not repeated. The next ones wait for the same new connection.
/// Subscriptions are not renewed.
///
/// Where the server has no shared memory for it at that moment, it asks again later, by
/// another connection. If that moves, it takes the first one's place once no request is on its
/// way: unless a request has changed what only that connection knows, as `SELECT`,
/// `CLIENT` or `WATCH` do.
#[derive(Clone)]
pub struct ConnectionManager(Arc<Inner>);

struct Inner {
    client: Client,
    backoff: Backoff,
    line: Mutex<Line>,
    /// Requests that are not answered yet. ORDERING, Relaxed: it grows under the lock, where
    /// it is looked at; to see one too many puts off what is done at 0.
    in_flight: AtomicUsize,
}

/// What requests go over.
struct Line {
    current: Attempt,
    /// Requests until another one is tried, where that need not stay on its socket.
    left: Countdown,
    successor: Option<Attempt>,
    /// The current one has a state that another would not have.
    is_special: bool,
}

/// A request until it has ended, however it does.
struct InFlight<'i>(&'i AtomicUsize);

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
        let line = Mutex::new(Line::new(attempt(self, &backoff)));
        let in_flight = AtomicUsize::new(0);
        let manager =
            ConnectionManager(Arc::new(Inner { client: self.clone(), backoff, line, in_flight }));
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
        let attempt = self.line().current.clone();
        attempt.await
    }

    /// What to send the next request over, which is on its way until the second is dropped.
    fn begin<'c>(&self, commands: impl Iterator<Item = &'c Cmd>) -> (Attempt, InFlight<'_>) {
        let Inner { client, in_flight, .. } = &*self.0;
        let mut line = self.line();
        if line.may_do_better() {
            line.look_for_better(client, in_flight.load(Relaxed));
        }
        line.is_special |= commands.into_iter().any(is_special);
        in_flight.fetch_add(1, Relaxed);
        (line.current.clone(), InFlight(in_flight))
    }

    /// The line, with a new attempt if the last has failed or its connection has ended.
    fn line(&self) -> MutexGuard<'_, Line> {
        let mut line = self.0.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.is_over() {
            *line = Line::new(attempt(&self.0.client, &self.0.backoff));
        }
        line
    }

    /// Looks at how a command ended: after some errors its connection is of no use.
    fn judge<T>(&self, used: &Attempt, result: &RedisResult<T>) {
        if result.as_ref().is_err_and(redis::RedisError::is_unrecoverable_error) {
            let mut line = self.line();
            if line.current.ptr_eq(used) {
                *line = Line::new(attempt(&self.0.client, &self.0.backoff));
            }
        }
    }
}

impl Line {
    fn new(current: Attempt) -> Self {
        Self { current, left: Countdown::default(), successor: None, is_special: false }
    }

    fn is_over(&self) -> bool {
        match self.current.peek() {
            None => false,
            Some(Ok(connection)) => connection.is_closed(),
            Some(Err(_)) => true,
        }
    }

    /// Whether the current connection is on a socket for a reason that may pass.
    fn may_do_better(&self) -> bool {
        let connection = self.current.peek().and_then(|done| done.as_ref().ok());
        let refusal = connection.and_then(MultiplexedConnection::not_moved);
        !self.is_special && refusal.is_some_and(Refusal::may_pass)
    }

    /// Tries another connection if it is time, and goes on over that once it has moved and no
    /// request is on its way over the current one.
    fn look_for_better(&mut self, client: &Client, in_flight: usize) {
        match self.successor.as_ref().map(Attempt::peek) {
            None if self.left.is_over() => {
                let successor = once(client);
                // It gets on although nobody waits for it.
                tokio::spawn(successor.clone());
                self.successor = Some(successor);
            }
            None => self.left.count(),
            Some(None) => {}
            Some(Some(Ok(better))) if better.not_moved().is_none() => {
                if let Some(better) = self.successor.take_if(|_| in_flight == 0) {
                    *self = Self::new(better);
                }
            }
            Some(Some(_)) => {
                self.successor = None;
                self.left = self.left.put_off();
            }
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Whether a command changes what only its connection knows, or asks for it.
fn is_special(command: &Cmd) -> bool {
    const SPECIAL: [&str; 15] = [
        "ASKING",
        "AUTH",
        "CLIENT",
        "HELLO",
        "MONITOR",
        "MULTI",
        "PSUBSCRIBE",
        "QUIT",
        "READONLY",
        "RESET",
        "SCRIPT",
        "SELECT",
        "SSUBSCRIBE",
        "SUBSCRIBE",
        "WATCH",
    ];
    let Some(redis::Arg::Simple(name)) = command.args_iter().next() else { return false };
    SPECIAL.iter().any(|special| name.eq_ignore_ascii_case(special.as_bytes()))
}

impl ConnectionLike for ConnectionManager {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        async move {
            let (attempt, _in_flight) = self.begin([command].into_iter());
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
            let (attempt, _in_flight) = self.begin(pipeline.cmd_iter());
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

/// A single attempt.
fn once(client: &Client) -> Attempt {
    let client = client.clone();
    async move { Ok(client.get_multiplexed_async_connection().await?) }.boxed().shared()
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
