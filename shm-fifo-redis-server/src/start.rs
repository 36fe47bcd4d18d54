//! `SHM.START`: a client enters the region that it was offered, now or as soon as it can.

use crate::client::{self, Client, Unsuitable};
use crate::commands::ANSWER;
use crate::offers::{self, Claim};
use crate::postponed;
use crate::refusal::Refusal;
use crate::server;
use redis_module::{Context, RedisString};
use shm_fifo::{region::Token, vfd};
use std::os::fd::RawFd;

pub(crate) fn start(context: &Context, args: &[RedisString]) -> Result<(), Refusal> {
    let [_, token] = args else { return Err(Refusal::StartArguments) };
    let token = Token::from_digits(token.as_slice()).ok_or(Refusal::TokenFormat)?;
    let client_id = client::calling_id(context)?;
    let fd = match offers::claim(client_id, token) {
        Claim::Granted(fd) => fd,
        Claim::WrongToken => return Err(Refusal::WrongToken),
        Claim::NoOffer if has_moved(client_id) => return Err(Refusal::AlreadyStarted),
        Claim::NoOffer => return Err(Refusal::NoOffer),
    };
    if may_enter(context, client_id, fd) {
        return enter(client_id, fd);
    }
    postponed::postpone_start(context, client_id).ok_or(Unsuitable::UnsentReplies.into())
}

fn has_moved(client_id: u64) -> bool {
    vfd::sessions().iter().any(|session| session.owner == client_id)
}

/// Looks again whether a client may enter whose `SHM.START` was postponed. `None` if it has
/// to wait on.
pub(crate) fn start_again(context: &Context, client_id: u64) -> Option<Result<(), Refusal>> {
    match offers::claimant(client_id) {
        Some(fd) if !may_enter(context, client_id, fd) => None,
        Some(fd) => Some(enter(client_id, fd)),
        None => Some(Err(Refusal::NoOffer)),
    }
}

/// Whether the client's stream can leave the socket between two values. What the server
/// has not begun to send goes into the ring, behind the answer.
fn may_enter(context: &Context, client_id: u64, fd: RawFd) -> bool {
    vfd::is_between_writes(fd) && !threads_may_send(context, client_id)
}

/// Whether a thread of the server may be sending something at this moment, of which the
/// main thread, which asks, hears later: Valkey's io-threads.
fn threads_may_send(context: &Context, client_id: u64) -> bool {
    // Whether they are at work takes longer to ask than whether there is something to send.
    server::is_valkey(context)
        && !all_is_sent(context, client_id)
        && server::has_active_io_threads(context)
}

fn all_is_sent(context: &Context, client_id: u64) -> bool {
    Client::with_id(context, client_id).is_ok_and(|client| !client.has_unsent_replies())
}

fn enter(client_id: u64, fd: RawFd) -> Result<(), Refusal> {
    let endpoint = offers::take(client_id).ok_or(Refusal::NoOffer)?;
    // The answer is in the ring before anybody looks at what the client has written there.
    vfd::start(fd, endpoint, client_id, ANSWER).map_err(Refusal::Start)
}
