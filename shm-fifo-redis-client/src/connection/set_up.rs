//! The first commands of a connection: who we are and what we want.

use super::Connection;
use crate::deadline::Deadline;
use redis::{
    Cmd, ErrorKind, RedisConnectionInfo, RedisError, RedisResult, ServerError, Value, cmd,
};

/// What `CLIENT LIST` shows as our name.
const LIBRARY_NAME: &str = "shm-fifo";
const LIBRARY_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is sent in one go, and what is to be made of each of the answers.
pub(crate) struct Greeting {
    pub(crate) commands: Vec<u8>,
    pub(crate) steps: Vec<Step>,
}

/// What a command's failure means; `None` if nothing.
pub(crate) struct Step(Option<fn(ServerError) -> RedisError>);

impl Greeting {
    pub(crate) fn of(settings: &RedisConnectionInfo) -> Self {
        let (commands, steps): (Vec<Cmd>, Vec<_>) = steps(settings).into_iter().unzip();
        let commands = commands.iter().flat_map(Cmd::get_packed_command).collect();
        Self { commands, steps }
    }
}

impl Step {
    /// Looks at its answer.
    pub(crate) fn judge(&self, answer: Value) -> RedisResult<()> {
        match (answer, self.0) {
            (Value::ServerError(error), Some(meaning)) => Err(meaning(error)),
            _ => Ok(()),
        }
    }
}

/// Sends everything, then looks at the answers.
pub(super) fn greet(
    connection: &mut Connection,
    settings: &RedisConnectionInfo,
    mut deadline: Deadline,
) -> RedisResult<()> {
    let Greeting { commands, steps } = Greeting::of(settings);
    if commands.is_empty() {
        return Ok(());
    }
    connection.use_timeout(deadline.left());
    connection.send(&commands)?;
    for step in steps {
        connection.use_timeout(deadline.left());
        step.judge(connection.reply()?)?;
    }
    Ok(())
}

fn steps(settings: &RedisConnectionInfo) -> Vec<(Cmd, Step)> {
    let mut steps = Vec::new();
    if settings.protocol().supports_resp3() {
        steps.push((hello(settings), Step(Some(hello_failed))));
    } else if let Some(auth) = auth(settings) {
        steps.push((auth, Step(Some(auth_failed))));
    }
    if settings.db() != 0 {
        let mut select = cmd("SELECT");
        select.arg(settings.db());
        steps.push((select, Step(Some(select_failed))));
    }
    if !settings.skip_set_lib_name() {
        // Before 7.2 Redis does not know these.
        let name = settings.lib_name().unwrap_or(LIBRARY_NAME);
        let version = settings.lib_ver().unwrap_or(LIBRARY_VERSION);
        steps.push((set_info("LIB-NAME", name), Step(None)));
        steps.push((set_info("LIB-VER", version), Step(None)));
    }
    steps
}

fn hello(settings: &RedisConnectionInfo) -> Cmd {
    let mut hello = cmd("HELLO");
    hello.arg(3);
    if let Some(password) = settings.password() {
        hello.arg("AUTH").arg(settings.username().unwrap_or("default")).arg(password);
    }
    hello
}

fn auth(settings: &RedisConnectionInfo) -> Option<Cmd> {
    let password = settings.password()?;
    let mut auth = cmd("AUTH");
    if let Some(username) = settings.username() {
        auth.arg(username);
    }
    auth.arg(password);
    Some(auth)
}

fn set_info(attribute: &str, value: &str) -> Cmd {
    let mut set_info = cmd("CLIENT");
    set_info.arg("SETINFO").arg(attribute).arg(value);
    set_info
}

fn hello_failed(error: ServerError) -> RedisError {
    let details = error.details().unwrap_or_default();
    if error.code() == "NOPROTO" || details.to_ascii_lowercase().contains("unknown command") {
        let message = "the server does not speak RESP3; leave out protocol=resp3";
        return (ErrorKind::RESP3NotSupported, message, details.to_owned()).into();
    }
    auth_failed(error)
}

fn auth_failed(error: ServerError) -> RedisError {
    let message = "the server refused the user name or password";
    (ErrorKind::AuthenticationFailed, message, text_of(&error)).into()
}

fn select_failed(error: ServerError) -> RedisError {
    let message = "the server refused to switch to the database";
    (ErrorKind::InvalidClientConfig, message, text_of(&error)).into()
}

fn text_of(error: &ServerError) -> String {
    format!("{} {}", error.code(), error.details().unwrap_or_default())
}
