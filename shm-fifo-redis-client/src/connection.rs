//! A connection with redis-rs' interface.

mod pubsub;
mod set_up;

use crate::deadline::Deadline;
use crate::error::Error;
use crate::handshake::Refusal;
use crate::messages::Messages;
use crate::stream::{Stream, Transport};
use redis::{
    Cmd, ConnectionLike, ErrorKind, PushInfo, PushKind, RedisConnectionInfo, RedisError,
    RedisResult, Value,
};
use shm_fifo::SpinPolicy;
use std::fmt;
use std::io;
use std::sync::mpsc;
use std::time::Duration;

pub use pubsub::PubSub;
#[cfg(feature = "tokio")]
pub(crate) use set_up::Greeting;

/// A connection to Redis, over shared memory or a socket.
///
/// It is a [`redis::ConnectionLike`]: [`redis::Commands`], pipelines,
/// transactions, scripts and scans work on it as on redis-rs' own connection.
pub struct Connection {
    messages: Messages,
    db: i64,
    open: bool,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    /// Replies that may still come although nobody waits for them any more.
    late_replies: usize,
    push_sender: Option<mpsc::Sender<PushInfo>>,
    refusal: Option<Refusal>,
}

impl Connection {
    /// Greets the server on `stream`: protocol, user, database, library name.
    pub(crate) fn set_up(
        stream: Stream,
        settings: &RedisConnectionInfo,
        deadline: Deadline,
    ) -> RedisResult<Self> {
        let mut connection = Self {
            messages: Messages::over(stream),
            db: settings.db(),
            open: true,
            read_timeout: None,
            write_timeout: None,
            late_replies: 0,
            push_sender: None,
            refusal: None,
        };
        set_up::greet(&mut connection, settings, deadline)?;
        Ok(connection)
    }

    /// The same connection, in shared memory unless that is refused.
    pub(crate) fn into_shared_memory(
        self,
        deadline: Deadline,
    ) -> Result<(Self, Option<Refusal>), Error> {
        let moved = self.messages.into_shared_memory(deadline).map_err(Error::SetUp)?;
        let (messages, refusal) = moved?;
        Ok((Self { messages, refusal: None, ..self }, refusal))
    }

    pub(crate) fn set_policy(&mut self, policy: SpinPolicy) {
        self.messages.stream_mut().set_policy(policy);
    }

    pub(crate) fn explain(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
    }

    pub(crate) fn use_timeout(&mut self, timeout: Option<Duration>) {
        (self.read_timeout, self.write_timeout) = (timeout, timeout);
    }

    /// What carries this connection.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.messages.stream().transport()
    }

    /// Why this connection is on a socket, if it was to move to shared memory.
    #[must_use]
    pub fn not_moved(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Limits how long a request waits, for its reply and for space to send;
    /// `None` is not at all.
    ///
    /// # Errors
    /// If it is zero.
    pub fn set_response_timeout(&mut self, timeout: Option<Duration>) -> RedisResult<()> {
        self.set_read_timeout(timeout)?;
        self.set_write_timeout(timeout)
    }

    /// Limits how long each reply is waited for; `None` is not at all. After a
    /// timeout the connection can be used: the reply, should it come, is dropped.
    ///
    /// # Errors
    /// If it is zero.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) -> RedisResult<()> {
        refuse_zero(timeout)?;
        self.read_timeout = timeout;
        Ok(())
    }

    /// Limits how long sending waits for space without getting any; `None` is not
    /// at all. A timeout in the middle of a command closes the connection.
    ///
    /// # Errors
    /// If it is zero.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) -> RedisResult<()> {
        refuse_zero(timeout)?;
        self.write_timeout = timeout;
        Ok(())
    }

    /// Where push messages go (RESP3). Without it, those that come while a reply
    /// is waited for are dropped.
    pub fn set_push_sender(&mut self, sender: mpsc::Sender<PushInfo>) {
        self.push_sender = Some(sender);
    }

    /// Sends packed commands and waits for no reply.
    ///
    /// For `SUBSCRIBE`, `MONITOR` and the like; read with
    /// [`Connection::recv_message`] or [`Connection::recv_response`].
    ///
    /// # Errors
    /// If there are no bytes, or they cannot be sent.
    pub fn send_packed_command(&mut self, commands: &[u8]) -> RedisResult<()> {
        self.send(commands)
    }

    /// The next reply or push message, as a reply: after a timeout it counts as
    /// late and is dropped when it comes.
    ///
    /// # Errors
    /// A timeout, or the end of the connection. An error reply is a value.
    pub fn recv_response(&mut self) -> RedisResult<Value> {
        let result = self.recv_message();
        if result.as_ref().is_err_and(RedisError::is_timeout) {
            self.late_replies += 1;
        }
        result
    }

    /// The next message of a subscription or `MONITOR`, or push message. After a
    /// timeout it can be waited for again; nothing is lost.
    ///
    /// # Errors
    /// A timeout, or the end of the connection.
    pub fn recv_message(&mut self) -> RedisResult<Value> {
        self.message(&mut Deadline::after(self.read_timeout))
    }

    fn message(&mut self, deadline: &mut Deadline) -> RedisResult<Value> {
        loop {
            let value = self.receive(deadline)?;
            if let Some(value) = self.unless_late(value) {
                return Ok(value);
            }
        }
    }

    /// The reply to a command. Push messages on the way are passed to the sender.
    #[inline]
    fn reply(&mut self) -> RedisResult<Value> {
        let mut deadline = Deadline::after(self.read_timeout);
        loop {
            match self.receive(&mut deadline)? {
                Value::Push { .. } => {}
                value => {
                    if let Some(value) = self.unless_late(value) {
                        return Ok(value);
                    }
                }
            }
        }
    }

    /// The reply to each of `count` commands. Error replies are values.
    fn replies(&mut self, count: usize) -> RedisResult<Vec<Value>> {
        // A count is the caller's own word, but memory is taken as replies come.
        let mut replies = Vec::with_capacity(count.min(1024));
        while replies.len() < count {
            match self.reply() {
                Ok(reply) => replies.push(reply),
                Err(error) => {
                    self.give_up(count - replies.len(), &error);
                    return Err(error);
                }
            }
        }
        Ok(replies)
    }

    /// After `error`, nobody waits for `count` replies any more.
    fn give_up(&mut self, count: usize, error: &RedisError) {
        if error.is_timeout() {
            self.late_replies += count;
        }
    }

    fn unless_late(&mut self, value: Value) -> Option<Value> {
        let is_late = self.late_replies > 0 && !matches!(value, Value::Push { .. });
        if is_late {
            self.late_replies -= 1;
            return None;
        }
        Some(value)
    }

    #[inline]
    fn receive(&mut self, deadline: &mut Deadline) -> RedisResult<Value> {
        self.refuse_if_closed()?;
        match self.messages.receive(deadline) {
            Ok(value) => {
                self.pass_on(&value);
                Ok(value)
            }
            Err(error) => {
                if !error.is_timeout() {
                    self.close();
                }
                Err(error)
            }
        }
    }

    fn pass_on(&mut self, value: &Value) {
        let Value::Push { kind, data } = value else { return };
        self.push(kind.clone(), data.clone());
    }

    fn push(&mut self, kind: PushKind, data: Vec<Value>) {
        let Some(sender) = &self.push_sender else { return };
        if sender.send(PushInfo { kind, data }).is_err() {
            // Nobody listens any more.
            self.push_sender = None;
        }
    }

    #[inline]
    fn send(&mut self, commands: &[u8]) -> RedisResult<()> {
        self.refuse_if_closed()?;
        if commands.is_empty() {
            return Err((ErrorKind::Client, "there is no command to send").into());
        }
        let sent = self.messages.send(commands, self.write_timeout);
        sent.map_err(|(error, in_the_middle)| {
            if in_the_middle || !error.is_timeout() {
                self.close();
            }
            error
        })
    }

    fn refuse_if_closed(&self) -> RedisResult<()> {
        if self.open {
            return Ok(());
        }
        let message = "the connection is closed; get a new one from the client";
        Err(io::Error::new(io::ErrorKind::BrokenPipe, message).into())
    }

    fn close(&mut self) {
        self.open = false;
        self.messages.stream_mut().shut_down();
        self.push(PushKind::Disconnection, Vec::new());
    }
}

/// A connection may be passed to another thread, as a pool does.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Connection>();
};

impl fmt::Debug for Connection {
    /// Without what was received: that is the user's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("stream", self.messages.stream())
            .field("db", &self.db)
            .field("open", &self.open)
            .field("refusal", &self.refusal)
            .finish_non_exhaustive()
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        self.send(command)?;
        self.reply().inspect_err(|error| self.give_up(1, error))
    }

    fn req_packed_commands(
        &mut self,
        commands: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        self.send(commands)?;
        let mut replies = self.replies(offset.saturating_add(count))?;
        let wanted = replies.split_off(offset);
        // In a transaction: a command that could not even be queued.
        let is_error = |reply: &Value| matches!(reply, Value::ServerError(_));
        match replies.into_iter().find(is_error) {
            Some(Value::ServerError(error)) => Err(error.into()),
            _ => Ok(wanted),
        }
    }

    fn req_command(&mut self, command: &Cmd) -> RedisResult<Value> {
        let packed = command.get_packed_command();
        if command.is_no_response() {
            return self.send(&packed).map(|()| Value::Nil);
        }
        self.req_packed_command(&packed)
    }

    fn get_db(&self) -> i64 {
        self.db
    }

    fn check_connection(&mut self) -> bool {
        redis::cmd("PING").query::<String>(self).is_ok()
    }

    fn is_open(&self) -> bool {
        self.open
    }
}

fn refuse_zero(timeout: Option<Duration>) -> RedisResult<()> {
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        let message = "a timeout is more than zero; None is no timeout";
        return Err((ErrorKind::InvalidClientConfig, message).into());
    }
    Ok(())
}
