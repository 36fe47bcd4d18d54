//! redis-rs' multiplexed connection, and what carries it.

use super::Stream;
use super::prompt::Prompt;
use crate::handshake::Refusal;
use crate::stream::Transport;
use redis::aio::ConnectionLike;
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, RedisFuture, RedisResult, Value,
};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// An asynchronous connection; clones share it, from any number of tasks.
///
/// It is a [`redis::aio::ConnectionLike`]: [`redis::AsyncCommands`], pipelines and
/// scripts work on it. What else redis-rs' own type can do, it can do too: it
/// dereferences to that.
#[derive(Debug, Clone)]
pub struct MultiplexedConnection {
    inner: redis::aio::MultiplexedConnection,
    line: Arc<Line>,
}

/// What all clones of a connection have in common.
#[derive(Debug)]
struct Line {
    transport: Transport,
    refusal: Option<Refusal>,
    driver: JoinHandle<()>,
}

impl MultiplexedConnection {
    pub(super) async fn over(
        stream: Stream,
        refusal: Option<Refusal>,
        settings: &RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> RedisResult<Self> {
        let transport = stream.transport();
        let made = redis::aio::MultiplexedConnection::new_with_config(settings, stream, config);
        let (inner, driver) = made.await?;
        let line = Line { transport, refusal, driver: tokio::spawn(Prompt::new(driver)) };
        Ok(Self { inner, line: Arc::new(line) })
    }

    /// What carries this connection.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.line.transport
    }

    /// Why this connection is on a socket, if it was to move to shared memory.
    #[must_use]
    pub fn not_moved(&self) -> Option<&Refusal> {
        self.line.refusal.as_ref()
    }

    /// Whether it has ended, as far as is known: commands can only fail then.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.line.driver.is_finished()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Nobody is left to wait for a reply, however late it is.
        self.driver.abort();
    }
}

impl Deref for MultiplexedConnection {
    type Target = redis::aio::MultiplexedConnection;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl DerefMut for MultiplexedConnection {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.inner
    }
}

impl ConnectionLike for MultiplexedConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.inner.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.inner.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.inner.get_db()
    }
}
