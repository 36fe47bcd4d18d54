//! The same for tokio.

use super::client_without_tls;
use crate::aio::MultiplexedConnection;
use redis::aio::ConnectionLike;
use redis::cluster::ClusterClient;
use redis::cluster_async::{ClusterConnection, Connect};
use redis::{
    AsyncConnectionConfig, Cmd, IntoConnectionInfo, Pipeline, RedisFuture, RedisResult, Value,
};

/// Connects to a cluster, as [`ClusterClient::get_async_connection`] does.
///
/// Connecting to a node takes at most a second, whatever the client says: redis-rs
/// does not tell its setting.
///
/// # Errors
/// If no node answers.
///
/// # Panics
/// Outside a tokio runtime, or in one without IO or time.
pub async fn get_async_connection(
    client: &ClusterClient,
) -> RedisResult<ClusterConnection<AsyncNodeConnection>> {
    client.get_async_generic_connection().await
}

/// An asynchronous connection to one node.
#[derive(Debug, Clone)]
pub struct AsyncNodeConnection(Way);

#[derive(Debug, Clone)]
enum Way {
    /// By shared memory or TCP.
    Own(MultiplexedConnection),
    /// By TLS, which redis-rs has.
    Tls(redis::aio::MultiplexedConnection),
}

impl AsyncNodeConnection {
    fn any(&mut self) -> &mut redis::aio::MultiplexedConnection {
        match &mut self.0 {
            Way::Own(connection) => connection,
            Way::Tls(connection) => connection,
        }
    }
}

impl Connect for AsyncNodeConnection {
    fn connect_with_config<'a, T>(info: T, config: AsyncConnectionConfig) -> RedisFuture<'a, Self>
    where
        T: IntoConnectionInfo + Send + 'a,
    {
        Box::pin(async move {
            let info = info.into_connection_info()?;
            if let Some(client) = client_without_tls(&info)? {
                let made = client.get_multiplexed_async_connection_with_config(&config);
                return Ok(Self(Way::Own(made.await?)));
            }
            let made = redis::aio::MultiplexedConnection::connect_with_config(info, config);
            Ok(Self(Way::Tls(made.await?)))
        })
    }
}

impl ConnectionLike for AsyncNodeConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.any().req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.any().req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        match &self.0 {
            Way::Own(connection) => connection.get_db(),
            Way::Tls(connection) => connection.get_db(),
        }
    }
}
