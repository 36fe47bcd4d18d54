//! A server's address and how to be connected to it.

use crate::address::{Address, Sharing};
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::handshake::Refusal;
use crate::stream::Stream;
use redis::ConnectionAddr;
use shm_fifo::SpinPolicy;
use std::io;
use std::time::Duration;

/// Makes connections to one server.
///
/// # Examples
/// ```no_run
/// use redis::Commands;
/// use shm_fifo_redis_client::Client;
///
/// # fn main() -> redis::RedisResult<()> {
/// let client = Client::open("redis+shm://localhost")?;
/// let mut connection = client.get_connection()?;
/// let _: () = connection.set("greeting", "hello")?;
/// let greeting: String = connection.get("greeting")?;
/// assert_eq!(greeting, "hello");
/// if let Some(reason) = connection.not_moved() {
///     eprintln!("on a socket: {reason}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    address: Address,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) response_timeout: Option<Duration>,
    /// `None` is the default of each kind of connection.
    pub(crate) policy: Option<SpinPolicy>,
}

impl Client {
    /// A client for the server at `address`: an [`Address`], a text as
    /// described there, or a [`redis::ConnectionInfo`]. Connects nowhere yet.
    ///
    /// # Errors
    /// If the text is no address.
    pub fn open<A>(address: A) -> Result<Self, Error>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        Ok(Self {
            address: address.try_into()?,
            connect_timeout: None,
            response_timeout: None,
            policy: None,
        })
    }

    /// Limits how long connecting takes, with authentication and the move to
    /// shared memory. By default it is not limited. Zero is at once: it fails.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self { connect_timeout: Some(timeout), ..self }
    }

    /// Limits how long connections wait for a reply, and for space to send. By
    /// default that is not limited; [`Connection::set_response_timeout`] changes
    /// it later.
    #[must_use]
    pub fn response_timeout(self, timeout: Duration) -> Self {
        Self { response_timeout: Some(timeout), ..self }
    }

    /// How connections wait for replies in shared memory. By default they spin while that
    /// pays, asynchronous ones letting other tasks run in between. With
    /// `SpinPolicy::new(WaitMode::Park, 0)` they never do.
    #[must_use]
    pub fn wait_policy(self, policy: SpinPolicy) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// Whether a connection that cannot move to shared memory is an error.
    ///
    /// `true` also asks for shared memory where the address does not.
    #[must_use]
    pub fn require_shared_memory(self, required: bool) -> Self {
        let sharing = match (required, self.address.sharing()) {
            (true, _) => Sharing::Required,
            (false, Sharing::Required) => Sharing::Preferred,
            (false, other) => other,
        };
        self.with_sharing(sharing)
    }

    pub(crate) fn with_sharing(self, sharing: Sharing) -> Self {
        Self { address: self.address.with_sharing(sharing), ..self }
    }

    /// Where connections go.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Connects, authenticates, selects the database, and moves to shared memory
    /// if the address asks for it.
    ///
    /// # Errors
    /// [`Error`] says at which of these steps it failed. That the server cannot
    /// share memory is an error only if that was required.
    pub fn get_connection(&self) -> Result<Connection, Error> {
        self.connect(self.connect_timeout)
    }

    /// As [`Client::get_connection`], within `timeout`.
    ///
    /// # Errors
    /// As [`Client::get_connection`].
    pub fn get_connection_with_timeout(&self, timeout: Duration) -> Result<Connection, Error> {
        self.connect(Some(timeout))
    }

    fn connect(&self, timeout: Option<Duration>) -> Result<Connection, Error> {
        let mut deadline = Deadline::after(timeout);
        // The clock runs from here, not from the first wait.
        let _: Option<std::time::Instant> = deadline.at();
        let stream = self.dial(&mut deadline).map_err(|error| self.cannot_connect(error))?;
        let settings = self.address.info().redis_settings();
        let connection = Connection::set_up(stream, settings, deadline).map_err(Error::SetUp)?;
        let mut connection = self.share(connection, deadline)?;
        connection.use_timeout(self.response_timeout);
        Ok(connection)
    }

    fn dial(&self, deadline: &mut Deadline) -> io::Result<Stream> {
        match self.address.info().addr() {
            ConnectionAddr::Tcp(host, port) => Stream::connect_tcp(host, *port, deadline.left()),
            ConnectionAddr::Unix(path) => Stream::connect_unix(path, deadline.left()),
            // `Address` lets no other pass.
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(crate) fn cannot_connect(&self, source: io::Error) -> Error {
        Error::Connect { address: self.address.to_string(), source }
    }

    /// Moves a connection, on which no reply is outstanding, now.
    pub(crate) fn share_now(&self, connection: Connection) -> Result<Connection, Error> {
        self.share(connection, Deadline::after(self.connect_timeout))
    }

    fn share(&self, connection: Connection, deadline: Deadline) -> Result<Connection, Error> {
        if self.address.sharing() == Sharing::Never {
            return Ok(connection);
        }
        let (mut connection, refusal) = connection.into_shared_memory(deadline)?;
        match refusal {
            None => connection.set_policy(self.policy.clone().unwrap_or_default()),
            Some(refusal) => connection.explain(self.accept(refusal)?),
        }
        Ok(connection)
    }

    /// A refusal, if that is no error to this client.
    pub(crate) fn accept(&self, refusal: Refusal) -> Result<Refusal, Error> {
        match self.address.sharing() {
            Sharing::Required => Err(Error::NotShared(refusal)),
            Sharing::Never | Sharing::Preferred => Ok(refusal),
        }
    }
}
