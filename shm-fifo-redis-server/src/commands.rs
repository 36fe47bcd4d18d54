//! `SHM.OPEN`, `SHM.START` and `SHM.LIST`, as `docs/protocol.md` has them.

use crate::{offers, open, start};
use redis_module::{Context, RedisError, RedisResult, RedisString, RedisValue};
use shm_fifo::vfd;

pub(crate) const OPEN: &str = "SHM.OPEN";
pub(crate) const START: &str = "SHM.START";
/// What both are answered by.
pub(crate) const ANSWER: &[u8] = b"+OK\r\n";

// The first two are answered by the module itself, now or later; by the server only where
// they are refused.

/// `SHM.OPEN version [FDSOCKET name]`
pub(crate) fn open(context: &Context, args: &[RedisString]) -> RedisResult {
    match open::open(context, args) {
        Ok(()) => Ok(RedisValue::NoReply),
        Err(refusal) => Err(refusal.reply_to(OPEN)),
    }
}

/// `SHM.START token`
pub(crate) fn start(context: &Context, args: &[RedisString]) -> RedisResult {
    match start::start(context, args) {
        Ok(()) => Ok(RedisValue::NoReply),
        Err(refusal) => Err(refusal.reply_to(START)),
    }
}

/// `SHM.LIST`
pub(crate) fn list(_context: &Context, args: &[RedisString]) -> RedisResult {
    if args.len() != 1 {
        let text = "ERR SHM.LIST: wrong number of arguments; SHM.LIST takes none";
        return Err(RedisError::Str(text));
    }
    offers::drop_old();
    let offered = offers::list()
        .into_iter()
        .map(|(client_id, region_bytes)| entry(client_id, "offered", 0, 0, region_bytes));
    let started = vfd::sessions().into_iter().map(|session| {
        let state = if session.hot { "hot" } else { "parked" };
        entry(session.owner, state, session.bytes_in, session.bytes_out, session.region_bytes)
    });
    Ok(RedisValue::Array(offered.chain(started).collect()))
}

fn entry(id: u64, state: &str, bytes_in: u64, bytes_out: u64, region_bytes: usize) -> RedisValue {
    let number = |value: u64| RedisValue::Integer(i64::try_from(value).unwrap_or(i64::MAX));
    let text = |value: &str| RedisValue::BulkString(value.to_owned());
    RedisValue::Array(vec![
        text("id"),
        number(id),
        text("state"),
        text(state),
        text("bytes-in"),
        number(bytes_in),
        text("bytes-out"),
        number(bytes_out),
        text("region-bytes"),
        number(region_bytes as u64),
    ])
}
