//! A connection that makes itself anew when it was lost.
//!
//! redis-rs has such a type too, but it makes connections of its own only.

use crate::client::Client;
use crate::connection::Connection;
use crate::error::Error;
use crate::lazy::LazyConnection;
use redis::{Cmd, ConnectionLike, ErrorKind, RedisResult, ServerErrorKind, Value};
use std::time::Duration;

/// How long to wait between attempts to connect, and how many there are.
pub use backon::ExponentialBuilder as Backoff;
use backon::{BackoffBuilder as _, ExponentialBackoff};

/// A connection that connects again, with growing pauses, when it was lost.
///
/// The command that notices the loss fails: whether it was executed nobody knows,
/// so it is not repeated. The next one connects first. Where the server has no shared memory
/// for it at that moment, it asks again later, between requests.
///
/// # Examples
/// ```no_run
/// use redis::Commands;
/// use shm_fifo_redis_client::Client;
///
/// # fn main() -> redis::RedisResult<()> {
/// let mut connection = Client::open("redis+shm://localhost")?.get_connection_manager()?;
/// let _: () = connection.set("greeting", "hello")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ConnectionManager {
    client: Client,
    backoff: Backoff,
    connection: LazyConnection,
}

impl Client {
    /// Connects, as often as it will take from now on. The first pause is a tenth
    /// of a second, the next is twice as long, and so on; after the sixth the last
    /// error is returned.
    ///
    /// # Errors
    /// As [`Client::get_connection`], after the last attempt.
    pub fn get_connection_manager(&self) -> Result<ConnectionManager, Error> {
        self.get_connection_manager_with_backoff(default_backoff())
    }

    /// As [`Client::get_connection_manager`], with other pauses.
    ///
    /// # Errors
    /// As [`Client::get_connection`], after the last attempt.
    pub fn get_connection_manager_with_backoff(
        &self,
        backoff: Backoff,
    ) -> Result<ConnectionManager, Error> {
        let connection = connect(self, backoff.build())?;
        Ok(ConnectionManager { client: self.clone(), backoff, connection })
    }
}

impl ConnectionManager {
    /// The connection, made anew if it was lost.
    ///
    /// # Errors
    /// As [`Client::get_connection`], after the last attempt.
    pub fn connection(&mut self) -> Result<&mut Connection, Error> {
        self.open()?.connection().map_err(Error::SetUp)
    }

    fn open(&mut self) -> Result<&mut LazyConnection, Error> {
        if !self.connection.is_open() {
            self.connection = connect(&self.client, self.backoff.build())?;
        }
        Ok(&mut self.connection)
    }
}

impl ConnectionLike for ConnectionManager {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        self.open()?.req_packed_command(command)
    }

    fn req_packed_commands(
        &mut self,
        commands: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        self.open()?.req_packed_commands(commands, offset, count)
    }

    fn req_command(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.open()?.req_command(command)
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }

    fn check_connection(&mut self) -> bool {
        self.open().is_ok_and(ConnectionLike::check_connection)
    }

    /// Always: what was lost comes back.
    fn is_open(&self) -> bool {
        true
    }
}

/// As redis-rs: from a tenth of a second to six seconds, twelve in all.
pub(crate) fn default_backoff() -> Backoff {
    Backoff::default().with_min_delay(Duration::from_millis(100)).with_max_times(6).with_jitter()
}

fn connect(client: &Client, mut pauses: ExponentialBackoff) -> Result<LazyConnection, Error> {
    loop {
        let error = match LazyConnection::of(client) {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        match pauses.next().filter(|_| may_pass(&error)) {
            Some(pause) => std::thread::sleep(pause),
            None => return Err(error),
        }
    }
}

/// Whether trying again may help.
pub(crate) fn may_pass(error: &Error) -> bool {
    match error {
        Error::Connect { .. } | Error::Move(_) => true,
        Error::SetUp(error) => {
            let loading = ErrorKind::Server(ServerErrorKind::BusyLoading);
            error.is_io_error() || error.kind() == loading
        }
        Error::Address(_) | Error::NotShared(_) => false,
    }
}
