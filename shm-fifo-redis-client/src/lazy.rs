//! A connection that moves to shared memory when that begins to pay.

use crate::address::Sharing;
use crate::again::Countdown;
use crate::client::Client;
use crate::connection::Connection;
use crate::error::Error;
use crate::handshake::Refusal;
use redis::{Cmd, ConnectionLike, RedisResult, Value};
use std::io;

/// A connection that stays on its socket until it has shown to be long-lived.
///
/// For programs that connect, say a few words and close: to them moving would cost
/// more than it saves. After 25 requests, as soon as no transaction can be open,
/// it moves; if it cannot for a reason that may pass, it tries again, after twice as many
/// requests each time.
///
/// # Examples
/// ```no_run
/// use redis::Commands;
/// use shm_fifo_redis_client::Client;
///
/// # fn main() -> redis::RedisResult<()> {
/// let mut connection = Client::open("redis+shm://localhost")?.get_lazy_connection()?;
/// let _: () = connection.set("greeting", "hello")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LazyConnection {
    client: Client,
    /// `None` if it was lost while it moved.
    connection: Option<Connection>,
    /// Requests until it moves; `None` if it has moved, or is not to.
    left: Option<Countdown>,
    /// A transaction may be open: a command more could spoil it.
    in_transaction: bool,
}

impl Client {
    /// As [`Client::get_connection`], but the connection moves to shared memory
    /// later, if it lives so long. Where shared memory is required, it moves at once.
    ///
    /// # Errors
    /// As [`Client::get_connection`].
    pub fn get_lazy_connection(&self) -> Result<LazyConnection, Error> {
        let on_socket = match self.address().sharing() {
            Sharing::Preferred => Some(self.clone().with_sharing(Sharing::Never)),
            Sharing::Never | Sharing::Required => None,
        };
        Ok(LazyConnection {
            left: on_socket.is_some().then(Countdown::default),
            connection: Some(on_socket.as_ref().unwrap_or(self).get_connection()?),
            client: self.clone(),
            in_transaction: false,
        })
    }
}

impl LazyConnection {
    /// One that has tried to move at once, and may try again.
    #[cfg(feature = "reconnect")]
    pub(crate) fn of(client: &Client) -> Result<Self, Error> {
        let connection = client.get_connection()?;
        let may_move = connection.not_moved().is_some_and(Refusal::may_pass);
        Ok(Self {
            client: client.clone(),
            connection: Some(connection),
            left: may_move.then(Countdown::default),
            in_transaction: false,
        })
    }

    /// The connection as it is now, for what only [`Connection`] has.
    ///
    /// # Errors
    /// `BrokenPipe` if it was lost while it moved.
    pub fn connection(&mut self) -> RedisResult<&mut Connection> {
        self.connection.as_mut().ok_or_else(|| {
            let message = "the connection was lost; get a new one from the client";
            io::Error::new(io::ErrorKind::BrokenPipe, message).into()
        })
    }

    /// The connection for a request, moved if it is time.
    fn ready(&mut self) -> RedisResult<&mut Connection> {
        self.move_if_due()?;
        self.connection()
    }

    /// Learns from a request and its last reply. Without one nothing is known.
    fn note(&mut self, command: &[u8], reply: Option<&Value>) {
        if self.left.is_some() {
            self.in_transaction = reply.is_none_or(|reply| may_leave_open(command, reply));
        }
    }

    fn move_if_due(&mut self) -> RedisResult<()> {
        let Some(left) = &mut self.left else { return Ok(()) };
        if !left.is_over() || self.in_transaction {
            left.count();
            return Ok(());
        }
        let put_off = left.put_off();
        self.left = None;
        if let Some(connection) = self.connection.take() {
            let connection = self.client.share_now(connection)?;
            let may_move = connection.not_moved().is_some_and(Refusal::may_pass);
            self.left = may_move.then_some(put_off);
            self.connection = Some(connection);
        }
        Ok(())
    }
}

/// Whether a transaction may be open after `command` was answered by `reply`.
fn may_leave_open(command: &[u8], reply: &Value) -> bool {
    const MULTI: &[u8] = b"MULTI";
    match reply {
        Value::SimpleString(text) => text == "QUEUED",
        // The word may be anybody's data: then the connection moves a little later.
        Value::Okay => command.windows(MULTI.len()).any(|word| word.eq_ignore_ascii_case(MULTI)),
        Value::ServerError(_) => true,
        _ => false,
    }
}

impl ConnectionLike for LazyConnection {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        let result = self.ready()?.req_packed_command(command);
        self.note(command, result.as_ref().ok());
        result
    }

    fn req_packed_commands(
        &mut self,
        commands: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        let result = self.ready()?.req_packed_commands(commands, offset, count);
        self.note(commands, result.as_ref().ok().and_then(|replies| replies.last()));
        result
    }

    fn req_command(&mut self, command: &Cmd) -> RedisResult<Value> {
        let packed = command.get_packed_command();
        if command.is_no_response() {
            self.note(&packed, None);
            return self.ready()?.req_command(command);
        }
        self.req_packed_command(&packed)
    }

    fn get_db(&self) -> i64 {
        self.connection.as_ref().map_or(0, ConnectionLike::get_db)
    }

    fn check_connection(&mut self) -> bool {
        self.connection.as_mut().is_some_and(ConnectionLike::check_connection)
    }

    fn is_open(&self) -> bool {
        self.connection.as_ref().is_some_and(ConnectionLike::is_open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_may_be_open_after_multi_what_was_queued_and_errors() {
        let queued = Value::SimpleString("QUEUED".to_owned());
        assert!(may_leave_open(b"*1\r\n$5\r\nmulti\r\n", &Value::Okay));
        assert!(may_leave_open(b"*1\r\n$4\r\nPING\r\n", &queued));
        assert!(!may_leave_open(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n", &Value::Okay));
        // A whole transaction ends with the reply to EXEC.
        assert!(!may_leave_open(b"MULTI ... EXEC", &Value::Array(Vec::new())));
        assert!(!may_leave_open(b"MULTI ... EXEC", &Value::Nil));
    }
}
