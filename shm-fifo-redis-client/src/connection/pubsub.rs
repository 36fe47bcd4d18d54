//! Subscriptions on a connection, in redis-rs' shape.

use super::Connection;
use crate::deadline::Deadline;
use redis::{
    Cmd, ControlFlow, FromRedisValue, Msg, PubSubCommands, RedisResult, ToRedisArgs, Value, cmd,
    from_redis_value,
};
use std::collections::VecDeque;
use std::time::Duration;

/// How long leaving takes at most where the connection has no timeout.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// What answers this is the end of everything that was asked before.
const LAST_WORD: &str = "shm-fifo: left";

/// A connection that receives messages, until it is dropped.
///
/// Dropping it leaves all channels; the connection can be used as before. Should
/// that not succeed in time, the connection is closed.
///
/// # Examples
/// ```no_run
/// # fn main() -> redis::RedisResult<()> {
/// # let client = shm_fifo_redis_client::Client::open("redis+shm://localhost")?;
/// let mut connection = client.get_connection()?;
/// let mut subscription = connection.as_pubsub();
/// subscription.subscribe(&["news", "weather"])?;
/// let message = subscription.get_message()?;
/// println!("{}: {}", message.get_channel_name(), message.get_payload::<String>()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PubSub<'a> {
    connection: &'a mut Connection,
    /// Messages that came while something else was waited for.
    waiting: VecDeque<Msg>,
    subscribed: bool,
}

impl Connection {
    /// This connection, for subscriptions.
    pub fn as_pubsub(&mut self) -> PubSub<'_> {
        PubSub { connection: self, waiting: VecDeque::new(), subscribed: false }
    }
}

impl PubSub<'_> {
    /// Subscribes to one or more channels.
    ///
    /// # Errors
    /// If the server refuses, does not confirm it in time, or has ended.
    pub fn subscribe<T: ToRedisArgs>(&mut self, channels: T) -> RedisResult<()> {
        self.change(cmd("SUBSCRIBE").arg(channels))
    }

    /// Subscribes to all channels that match one or more patterns.
    ///
    /// # Errors
    /// As [`PubSub::subscribe`].
    pub fn psubscribe<T: ToRedisArgs>(&mut self, patterns: T) -> RedisResult<()> {
        self.change(cmd("PSUBSCRIBE").arg(patterns))
    }

    /// Leaves one or more channels.
    ///
    /// # Errors
    /// As [`PubSub::subscribe`].
    pub fn unsubscribe<T: ToRedisArgs>(&mut self, channels: T) -> RedisResult<()> {
        self.change(cmd("UNSUBSCRIBE").arg(channels))
    }

    /// Leaves one or more patterns.
    ///
    /// # Errors
    /// As [`PubSub::subscribe`].
    pub fn punsubscribe<T: ToRedisArgs>(&mut self, patterns: T) -> RedisResult<()> {
        self.change(cmd("PUNSUBSCRIBE").arg(patterns))
    }

    /// Asks whether the server is there. As ever, a RESP2 server that has
    /// subscriptions answers with an array of two.
    ///
    /// # Errors
    /// If it does not answer in time, has ended, or the answer is no `T`.
    pub fn ping<T: FromRedisValue>(&mut self) -> RedisResult<T> {
        self.pong(&cmd("PING"))
    }

    /// As [`PubSub::ping`], with a message that comes back.
    ///
    /// # Errors
    /// As [`PubSub::ping`].
    pub fn ping_message<T: FromRedisValue>(&mut self, message: impl ToRedisArgs) -> RedisResult<T> {
        self.pong(cmd("PING").arg(message))
    }

    /// The next message, waited for as long as the read timeout says.
    ///
    /// # Errors
    /// A timeout, after which it can be called again and nothing is lost; or the
    /// end of the connection.
    pub fn get_message(&mut self) -> RedisResult<Msg> {
        if let Some(message) = self.waiting.pop_front() {
            return Ok(message);
        }
        let mut deadline = self.deadline();
        loop {
            let value = self.connection.message(&mut deadline)?.extract_error()?;
            if let Some(message) = Msg::from_owned_value(value) {
                return Ok(message);
            }
        }
    }

    /// Limits how long each message is waited for; `None` is not at all.
    ///
    /// # Errors
    /// If it is zero.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) -> RedisResult<()> {
        self.connection.set_read_timeout(timeout)
    }

    /// Sends a change of subscriptions and waits until the server has confirmed it,
    /// once for each channel.
    fn change(&mut self, change: &Cmd) -> RedisResult<()> {
        self.subscribed = true;
        let channels = change.args_iter().count().saturating_sub(1).max(1);
        self.connection.send(&change.get_packed_command())?;
        let mut deadline = self.deadline();
        for _ in 0..channels {
            let _: Value = self.answer(&mut deadline)?;
        }
        Ok(())
    }

    fn pong<T: FromRedisValue>(&mut self, ping: &Cmd) -> RedisResult<T> {
        self.connection.send(&ping.get_packed_command())?;
        let mut deadline = self.deadline();
        Ok(from_redis_value(self.answer(&mut deadline)?)?)
    }

    /// The next value that is no message. Messages are kept.
    fn answer(&mut self, deadline: &mut Deadline) -> RedisResult<Value> {
        loop {
            let value = self.connection.message(deadline)?.extract_error()?;
            match Msg::from_value(&value) {
                Some(message) => self.waiting.push_back(message),
                None => return Ok(value),
            }
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.connection.read_timeout)
    }

    /// Leaves everything, and reads up to the answer to a last word: how many
    /// confirmations come before it depends on the server.
    fn leave(&mut self) -> RedisResult<()> {
        let mut last_word = cmd("PING");
        last_word.arg(LAST_WORD);
        let goodbye = [cmd("UNSUBSCRIBE"), cmd("PUNSUBSCRIBE"), last_word];
        let goodbye: Vec<u8> = goodbye.iter().flat_map(Cmd::get_packed_command).collect();
        self.connection.send(&goodbye)?;
        let timeout = self.connection.read_timeout.unwrap_or(LEAVE_TIMEOUT);
        let mut deadline = Deadline::after(Some(timeout));
        // The clock runs from here: messages that never end do not stop it.
        let _: Option<std::time::Instant> = deadline.at();
        let answer = Value::BulkString(LAST_WORD.into());
        while self.connection.message(&mut deadline)? != answer {}
        Ok(())
    }
}

impl Drop for PubSub<'_> {
    fn drop(&mut self) {
        if self.subscribed && self.connection.open && self.leave().is_err() {
            // What would come next is the answer to something else.
            self.connection.close();
        }
    }
}

impl PubSubCommands for Connection {
    fn subscribe<C, F, U>(&mut self, channels: C, on_message: F) -> RedisResult<U>
    where
        F: FnMut(Msg) -> ControlFlow<U>,
        C: ToRedisArgs,
    {
        let mut subscription = self.as_pubsub();
        subscription.subscribe(channels)?;
        each_message(subscription, on_message)
    }

    fn psubscribe<P, F, U>(&mut self, patterns: P, on_message: F) -> RedisResult<U>
    where
        F: FnMut(Msg) -> ControlFlow<U>,
        P: ToRedisArgs,
    {
        let mut subscription = self.as_pubsub();
        subscription.psubscribe(patterns)?;
        each_message(subscription, on_message)
    }
}

fn each_message<U>(
    mut subscription: PubSub<'_>,
    mut on_message: impl FnMut(Msg) -> ControlFlow<U>,
) -> RedisResult<U> {
    loop {
        if let ControlFlow::Break(value) = on_message(subscription.get_message()?) {
            return Ok(value);
        }
    }
}
