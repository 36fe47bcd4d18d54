//! `SHM.OPEN`, `SHM.START` and `SHM.LIST`, as `docs/protocol.md` has them.

use crate::client::{self, Client, Transport, Unsuitable};
use crate::offers::{self, Claim};
use crate::{config, interpose, pool, postponed};
use redis_module::{Context, RedisError, RedisResult, RedisString, RedisValue};
use shm_fifo::fd_passing::{AbstractAddress, send_with_fd, send_with_fd_to};
use shm_fifo::{Region, TOKEN_BYTES, doorbell, vfd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

const PROTOCOL_VERSION: &[u8] = b"2";
const OK_REPLY: &[u8] = b"+OK\r\n";

/// Why a command failed. Each text says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("wrong number of arguments; use SHM.OPEN 2 [FDSOCKET name]")]
    OpenArguments,
    #[error("wrong number of arguments; use SHM.START token")]
    StartArguments,
    #[error("wrong number of arguments; SHM.LIST takes none")]
    ListArguments,
    #[error("protocol version 1 is no longer spoken; this server speaks version 2")]
    ObsoleteVersion,
    #[error("unknown protocol version; this server speaks version 2")]
    UnknownVersion,
    #[error("{0}")]
    Unsuitable(#[from] Unsuitable),
    #[error("this connection is on shared memory already")]
    AlreadyStarted,
    #[error("over TCP the file descriptor needs a way of its own; use SHM.OPEN 2 FDSOCKET name")]
    FdSocketNeeded,
    #[error("FDSOCKET is for TCP connections; over a unix socket use SHM.OPEN 2")]
    FdSocketNotNeeded,
    #[error("FDSOCKET takes the five hexadecimal digits of an autobound abstract socket")]
    FdSocketName,
    #[error("shared memory is switched off (shm.max-sessions is 0); stay on the socket")]
    SwitchedOff,
    #[error(
        "{limit} connections are on shared memory already (shm.max-sessions); stay on the socket"
    )]
    TooManySessions { limit: u64 },
    #[error("the rings would exceed {limit} bytes in all (shm.max-memory); stay on the socket")]
    TooMuchMemory { limit: u64 },
    #[error("{limit} offers wait for their SHM.START; try again in a few seconds")]
    TooManyOffers { limit: usize },
    #[error("cannot make the shared memory: {0}; stay on the socket")]
    Region(io::Error),
    #[error("cannot send the file descriptor: {0}; stay on the socket")]
    Send(io::Error),
    #[error("the token is 32 hexadecimal digits, read from the region that SHM.OPEN sent")]
    TokenFormat,
    #[error("this is not the token of the offered region; read it from there")]
    WrongToken,
    #[error("nothing is offered to this connection, or no longer; send SHM.OPEN first")]
    NoOffer,
    #[error("cannot move the connection: {0}; stay on the socket")]
    Start(io::Error),
}

fn refuse(command: &str, refusal: &Refusal) -> RedisError {
    RedisError::String(format!("ERR {command}: {refusal}"))
}

/// `SHM.OPEN version [FDSOCKET name]`
pub(crate) fn open(context: &Context, args: &[RedisString]) -> RedisResult {
    try_open(context, args).map_err(|refusal| refuse("SHM.OPEN", &refusal))
}

/// `SHM.START token`
pub(crate) fn start(context: &Context, args: &[RedisString]) -> RedisResult {
    try_start(context, args).map_err(|refusal| refuse("SHM.START", &refusal))
}

/// `SHM.LIST`
pub(crate) fn list(_context: &Context, args: &[RedisString]) -> RedisResult {
    if args.len() != 1 {
        return Err(refuse("SHM.LIST", &Refusal::ListArguments));
    }
    let offered = offers::list()
        .into_iter()
        .map(|(client_id, region_bytes)| entry(client_id, "offered", 0, 0, region_bytes));
    let started = vfd::sessions().into_iter().map(|session| {
        let state = if session.hot { "hot" } else { "parked" };
        entry(session.owner, state, session.bytes_in, session.bytes_out, session.region_bytes)
    });
    Ok(RedisValue::Array(offered.chain(started).collect()))
}

fn try_open(context: &Context, args: &[RedisString]) -> Result<RedisValue, Refusal> {
    let fd_socket = parse_open(args)?;
    let client = Client::calling(context)?;
    if vfd::is_virtual(client.fd) {
        return Err(Refusal::AlreadyStarted);
    }
    client.check_movable()?;
    let fd_socket = match (client.transport, fd_socket) {
        (Transport::Unix, None) => None,
        (Transport::Unix, Some(_)) => return Err(Refusal::FdSocketNotNeeded),
        (_, None) => return Err(Refusal::FdSocketNeeded),
        (_, Some(name)) => Some(AbstractAddress::from_digits(name).ok_or(Refusal::FdSocketName)?),
    };
    let used_bytes = check_limits(client.id)?;
    interpose::verify();
    let region = pool::region(used_bytes).map_err(Refusal::Region)?;
    region.park_both_ends();
    // The server is not to write the answer: where the client has gone meanwhile that fails,
    // and it would let go of the client with the requests behind this one still unread.
    let sent = match fd_socket {
        // The whole reply and the descriptor go in one message.
        None => send_with_fd(client.fd, OK_REPLY, region.as_fd()).map(drop),
        Some(address) => send_beside(address, &region).and_then(|()| client.send(OK_REPLY)),
    };
    match sent {
        Ok(()) => offers::make(client.id, client.fd, region),
        Err(_) if client.has_hung_up() => {}
        Err(error) => return Err(Refusal::Send(error)),
    }
    Ok(RedisValue::NoReply)
}

fn try_start(context: &Context, args: &[RedisString]) -> Result<RedisValue, Refusal> {
    let [_, token] = args else { return Err(Refusal::StartArguments) };
    let token = parse_token(token.as_slice()).ok_or(Refusal::TokenFormat)?;
    let client_id = client::calling_id(context)?;
    let fd = match offers::claim(client_id, &token) {
        Claim::Granted(fd) => fd,
        Claim::WrongToken => return Err(Refusal::WrongToken),
        Claim::NoOffer if has_moved(client_id) => return Err(Refusal::AlreadyStarted),
        Claim::NoOffer => return Err(Refusal::NoOffer),
    };
    if may_enter(context, client_id, fd) {
        enter(client_id, fd)?;
    } else {
        postponed::postpone(context, client_id).ok_or(Unsuitable::UnsentReplies)?;
    }
    Ok(RedisValue::NoReply)
}

fn has_moved(client_id: u64) -> bool {
    vfd::sessions().iter().any(|session| session.owner == client_id)
}

/// Looks again whether a client may enter whose `SHM.START` was postponed. `None` if it
/// has to wait on; otherwise it has entered, or the text says why it cannot.
pub(crate) fn start_again(context: &Context, client_id: u64) -> Option<Result<(), String>> {
    let entered = match offers::claimant(client_id) {
        Some(fd) if !may_enter(context, client_id, fd) => return None,
        Some(fd) => enter(client_id, fd),
        None => Err(Refusal::NoOffer),
    };
    Some(entered.map_err(|refusal| refuse("SHM.START", &refusal).to_string()))
}

/// Whether the client's stream can leave the socket between two values. What the server
/// has not begun to send goes into the ring, behind the answer.
fn may_enter(context: &Context, client_id: u64, fd: RawFd) -> bool {
    vfd::is_between_writes(fd) && (!threads_may_send(context) || all_is_sent(context, client_id))
}

/// Whether a thread of the server may be sending something at this moment, of which the
/// main thread, which asks, hears later: Valkey's io-threads.
fn threads_may_send(context: &Context) -> bool {
    static IS_VALKEY: OnceLock<bool> = OnceLock::new();
    let server = || context.server_info("server");
    let is_valkey = || server().field("valkey_version").is_some();
    *IS_VALKEY.get_or_init(is_valkey)
        && server().field("io_threads_active").is_none_or(|active| active.as_slice() != b"0")
}

fn all_is_sent(context: &Context, client_id: u64) -> bool {
    Client::with_id(context, client_id).is_ok_and(|client| !client.has_unsent_replies())
}

fn enter(client_id: u64, fd: RawFd) -> Result<(), Refusal> {
    let region = offers::take(client_id).ok_or(Refusal::NoOffer)?;
    // The answer is in the ring before anybody looks at what the client has written there.
    vfd::start(fd, region.into_endpoint(), client_id, OK_REPLY).map_err(Refusal::Start)
}

/// The name that follows `FDSOCKET`, if any.
fn parse_open(args: &[RedisString]) -> Result<Option<&[u8]>, Refusal> {
    let (version, fd_socket) = match args {
        [_, version] => (version, None),
        [_, version, option, name] if option.as_slice().eq_ignore_ascii_case(b"FDSOCKET") => {
            (version, Some(name.as_slice()))
        }
        _ => return Err(Refusal::OpenArguments),
    };
    match version.as_slice() {
        PROTOCOL_VERSION => Ok(fd_socket),
        b"1" => Err(Refusal::ObsoleteVersion),
        _ => Err(Refusal::UnknownVersion),
    }
}

fn parse_token(digits: &[u8]) -> Option<[u8; TOKEN_BYTES]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let mut token = [0; TOKEN_BYTES];
    if pairs.len() != TOKEN_BYTES || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in token.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(token)
}

/// Whether `client_id` may have a region. With it so many bytes are used.
fn check_limits(client_id: u64) -> Result<usize, Refusal> {
    let usage = vfd::usage();
    let offered = offers::pending_beside(client_id);
    let limits = config::limits();
    if limits.max_sessions == 0 {
        return Err(Refusal::SwitchedOff);
    }
    if (usage.sessions + offered) as u64 >= limits.max_sessions {
        return Err(Refusal::TooManySessions { limit: limits.max_sessions });
    }
    if offered >= offers::MAX_PENDING {
        return Err(Refusal::TooManyOffers { limit: offers::MAX_PENDING });
    }
    let others = usage.region_bytes + offers::bytes_beside(client_id);
    let bytes = others + Region::bytes_with_rings_of(config::ring_bytes());
    if limits.max_memory_bytes != 0 && bytes as u64 > limits.max_memory_bytes {
        return Err(Refusal::TooMuchMemory { limit: limits.max_memory_bytes });
    }
    Ok(bytes)
}

/// Sends the descriptor to a datagram socket that the client has bound.
fn send_beside(address: AbstractAddress, region: &Region) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    send_with_fd_to(socket.as_raw_fd(), address, &[doorbell::DOORBELL], region.as_fd())?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_exactly_its_hexadecimal_digits() {
        let token = parse_token(b"000102030405060708090a0b0c0d0eFF").expect("a token");
        assert_eq!(token, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
    }

    #[test]
    fn anything_else_is_no_token() {
        for digits in [&b""[..], b"00", b"0g0102030405060708090a0b0c0d0e0f", &[b'0'; 33]] {
            assert_eq!(parse_token(digits), None);
        }
    }
}
