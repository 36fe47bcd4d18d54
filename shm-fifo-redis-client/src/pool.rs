//! Pools of connections: what redis-rs' client is to them, this client is.

use crate::client::Client;
use redis::{ErrorKind, RedisError, RedisResult, cmd};

#[cfg(feature = "r2d2")]
impl r2d2::ManageConnection for Client {
    type Connection = crate::connection::Connection;
    type Error = RedisError;

    fn connect(&self) -> Result<Self::Connection, RedisError> {
        Ok(self.get_connection()?)
    }

    fn is_valid(&self, connection: &mut Self::Connection) -> Result<(), RedisError> {
        is_pong(cmd("PING").query(connection)?)
    }

    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        !redis::ConnectionLike::is_open(connection)
    }
}

#[cfg(feature = "bb8")]
impl bb8::ManageConnection for Client {
    type Connection = crate::aio::MultiplexedConnection;
    type Error = RedisError;

    async fn connect(&self) -> Result<Self::Connection, RedisError> {
        Ok(self.get_multiplexed_async_connection().await?)
    }

    async fn is_valid(&self, connection: &mut Self::Connection) -> Result<(), RedisError> {
        is_pong(cmd("PING").query_async(connection).await?)
    }

    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        connection.is_closed()
    }
}

fn is_pong(answer: String) -> RedisResult<()> {
    match answer.as_str() {
        "PONG" => Ok(()),
        _ => Err((ErrorKind::UnexpectedReturnType, "PING was answered with", answer).into()),
    }
}
