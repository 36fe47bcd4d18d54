//! The first commands of a connection: who we are and what we want.

use super::Connection;
use crate::deadline::Deadline;
use redis::{
    Cmd, ErrorKind, RedisConnectionInfo, RedisError, RedisResult, ServerError, Value, cmd,
};

/// What `CLIENT LIST` shows as our name.
const LIBRARY_NAME: &str = "shm-fifo";
const LIBRARY_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A command and what its failure means; `None` if nothing.
type Step = (Cmd, Option<fn(ServerError) -> RedisError>);

/// Sends everything in one go, then looks at the answers.
pub(super) fn greet(
    connection: &mut Connection,
    settings: &RedisConnectionInfo,
    mut deadline: Deadline,
) -> RedisResult<()> {
    let steps = steps(settings);
    let packed = steps.iter().flat_map(|(command, _)| command.get_packed_command());
    let packed: Vec<u8> = packed.collect();
    if packed.is_empty() {
        return Ok(());
    }
    connection.use_timeout(deadline.left());
    connection.send(&packed)?;
    for (_, meaning) in steps {
        connection.use_timeout(deadline.left());
        if let (Value::ServerError(error), Some(meaning)) = (connection.reply()?, meaning) {
            return Err(meaning(error));
        }
    }
    Ok(())
}

fn steps(settings: &RedisConnectionInfo) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    if settings.protocol().supports_resp3() {
        steps.push((hello(settings), Some(hello_failed)));
    } else if let Some(auth) = auth(settings) {
        steps.push((auth, Some(auth_failed)));
    }
    if settings.db() != 0 {
        let mut select = cmd("SELECT");
        select.arg(settings.db());
        steps.push((select, Some(select_failed)));
    }
    if !settings.skip_set_lib_name() {
        // Before 7.2 Redis does not know these.
        let name = settings.lib_name().unwrap_or(LIBRARY_NAME);
        let version = settings.lib_ver().unwrap_or(LIBRARY_VERSION);
        steps.push((set_info("LIB-NAME", name), None));
        steps.push((set_info("LIB-VER", version), None));
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
