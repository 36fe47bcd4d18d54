//! Redis Cluster: nodes on this host by shared memory, all others by TCP or TLS.
//!
//! redis-rs' cluster connection does everything but connecting: it finds the nodes,
//! follows redirections and routes commands.
//!
//! # Examples
//! ```no_run
//! use redis::Commands;
//! use redis::cluster::ClusterClient;
//! use shm_fifo_redis_client::cluster;
//!
//! # fn main() -> redis::RedisResult<()> {
//! let client = ClusterClient::new(["redis://127.0.0.1:7000", "redis://192.0.2.7:7000"])?;
//! let mut connection = cluster::get_connection(&client)?;
//! let _: () = connection.set("greeting", "hello")?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "cluster-async")]
mod asynchronous;

use crate::address::Address;
use crate::client::Client;
use crate::connection::Connection;
use redis::cluster::{ClusterClient, ClusterConnection, Connect};
use redis::{Cmd, ConnectionInfo, ConnectionLike, IntoConnectionInfo, RedisResult, Value};
use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

#[cfg(feature = "cluster-async")]
pub use asynchronous::{AsyncNodeConnection, get_async_connection};

/// Connects to a cluster, as [`ClusterClient::get_connection`] does.
///
/// # Errors
/// If no node answers.
pub fn get_connection(client: &ClusterClient) -> RedisResult<ClusterConnection<NodeConnection>> {
    client.get_generic_connection()
}

/// A connection to one node.
pub struct NodeConnection(Way);

enum Way {
    /// By shared memory or TCP. redis-rs sets timeouts through `&self`.
    Own(Box<RefCell<Connection>>),
    /// By TLS, which redis-rs has.
    Tls(Box<redis::Connection>),
}

impl NodeConnection {
    fn any(&mut self) -> &mut dyn ConnectionLike {
        match &mut self.0 {
            Way::Own(connection) => connection.get_mut(),
            Way::Tls(connection) => connection.as_mut(),
        }
    }
}

/// The client for a node, if that is reached without TLS.
fn client_without_tls(info: &ConnectionInfo) -> RedisResult<Option<Client>> {
    match Address::try_from(info.clone()) {
        Ok(address) => Ok(Some(Client::open(address)?)),
        Err(_) => Ok(None),
    }
}

impl Connect for NodeConnection {
    fn connect<T: IntoConnectionInfo>(info: T, timeout: Option<Duration>) -> RedisResult<Self> {
        let info = info.into_connection_info()?;
        if let Some(client) = client_without_tls(&info)? {
            let connection = match timeout {
                Some(timeout) => client.get_connection_with_timeout(timeout)?,
                None => client.get_connection()?,
            };
            return Ok(Self(Way::Own(Box::new(RefCell::new(connection)))));
        }
        let connection = <redis::Connection as Connect>::connect(info, timeout)?;
        Ok(Self(Way::Tls(Box::new(connection))))
    }

    fn send_packed_command(&mut self, command: &[u8]) -> RedisResult<()> {
        match &mut self.0 {
            Way::Own(connection) => connection.get_mut().send_packed_command(command),
            Way::Tls(connection) => connection.send_packed_command(command),
        }
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> RedisResult<()> {
        match &self.0 {
            Way::Own(connection) => connection.borrow_mut().set_write_timeout(timeout),
            Way::Tls(connection) => connection.set_write_timeout(timeout),
        }
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> RedisResult<()> {
        match &self.0 {
            Way::Own(connection) => connection.borrow_mut().set_read_timeout(timeout),
            Way::Tls(connection) => connection.set_read_timeout(timeout),
        }
    }

    fn recv_response(&mut self) -> RedisResult<Value> {
        match &mut self.0 {
            Way::Own(connection) => connection.get_mut().recv_response(),
            Way::Tls(connection) => connection.recv_response(),
        }
    }
}

impl ConnectionLike for NodeConnection {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        self.any().req_packed_command(command)
    }

    fn req_packed_commands(
        &mut self,
        commands: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        self.any().req_packed_commands(commands, offset, count)
    }

    fn req_command(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.any().req_command(command)
    }

    fn get_db(&self) -> i64 {
        match &self.0 {
            Way::Own(connection) => connection.borrow().get_db(),
            Way::Tls(connection) => connection.get_db(),
        }
    }

    fn check_connection(&mut self) -> bool {
        self.any().check_connection()
    }

    fn is_open(&self) -> bool {
        match &self.0 {
            Way::Own(connection) => connection.borrow().is_open(),
            Way::Tls(connection) => connection.is_open(),
        }
    }
}

impl fmt::Debug for NodeConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Way::Own(connection) => f.debug_tuple("NodeConnection").field(connection).finish(),
            Way::Tls(_) => f.write_str("NodeConnection(TLS)"),
        }
    }
}
