//! `SHM.OPEN`: a region for a client, now or as soon as one is ready.

use crate::client::{self, Client, Transport};
use crate::commands::ANSWER;
use crate::offers::{self, Way};
use crate::refusal::Refusal;
use crate::{config, interpose, pool, postponed};
use redis_module::{Context, RedisString};
use shm_fifo::fd_passing::{AbstractAddress, send_with_fd, send_with_fd_to};
use shm_fifo::region::Token;
use shm_fifo::{Region, doorbell, vfd};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

const PROTOCOL_VERSION: &[u8] = b"2";

/// Where the descriptor goes: to the client's own unix socket, or to this one.
pub(crate) type FdSocket = Option<AbstractAddress>;

pub(crate) fn open(context: &Context, args: &[RedisString]) -> Result<(), Refusal> {
    let fd_socket = parse(args)?;
    let client_id = client::calling_id(context)?;
    // Looked at first: to ask again and again is to cost little.
    if offers::is_unread(client_id) {
        return Err(Refusal::UnreadAnswer);
    }
    let client = Client::with_id(context, client_id)?;
    if vfd::is_virtual(client.fd) {
        return Err(Refusal::AlreadyStarted);
    }
    client.check_movable()?;
    let fd_socket = way_to(&client, fd_socket)?;
    let used_bytes = check_limits(client_id)?;
    interpose::verify();
    // Nobody overtakes those who wait.
    if postponed::opens() == 0 {
        let ready = pool::take(used_bytes).or_else(make_at_once);
        if let Some(region) = ready {
            return offer(&client, fd_socket, region);
        }
        // None that it could be the reason of.
        drop(pool::failure());
    }
    postponed::postpone_open(context, client_id, fd_socket)
        .ok_or_else(|| Refusal::Region("the server blocks no clients".into()))?;
    pool::adjust(used_bytes);
    Ok(())
}

/// A region where none is ready, unless to make one takes too long. A client that waits is
/// blocked; and if it ends meanwhile, the server lets go of it with the requests behind this
/// one unread.
fn make_at_once() -> Option<io::Result<Region>> {
    const SMALL_BYTES: usize = 1 << 20;
    let ring_bytes = config::ring_bytes();
    let is_small = Region::bytes_with_rings_of(ring_bytes) <= SMALL_BYTES;
    (is_small || !pool::are_allocated()).then(|| Region::create(ring_bytes))
}

/// Looks again whether there is a region for a client that waits for one. `None` if it has to
/// wait on.
pub(crate) fn open_again(
    context: &Context,
    client_id: u64,
    fd_socket: FdSocket,
) -> Option<Result<(), Refusal>> {
    let used_bytes = match check_limits(client_id) {
        Ok(used_bytes) => used_bytes,
        Err(refusal) => return Some(Err(refusal)),
    };
    if !pool::has_ready() {
        return None;
    }
    let client = match Client::with_id(context, client_id) {
        Ok(client) => client,
        Err(unsuitable) => return Some(Err(unsuitable.into())),
    };
    // Pushes, which go first.
    if client.has_unsent_replies() {
        return None;
    }
    pool::take(used_bytes).map(|region| offer(&client, fd_socket, region))
}

/// Sends the answer and the descriptor. The server is not to write the answer: where the
/// client has gone meanwhile that fails, and it would let go of the client with the requests
/// behind this one still unread.
fn offer(client: &Client, fd_socket: FdSocket, region: io::Result<Region>) -> Result<(), Refusal> {
    let region = region.map_err(|error| Refusal::Region(error.to_string()))?;
    // Before the client can change it.
    let token = region.token();
    region.park_both_ends();
    let sent = match fd_socket {
        // The whole answer and the descriptor go in one message.
        None => send_with_fd(client.socket(), ANSWER, region.as_fd()).map(|_| Way::Connection),
        Some(address) => send_beside(address, &region).and_then(|socket| {
            client.send(answer_beside(token).as_bytes()).map(|()| Way::Beside(socket))
        }),
    };
    match sent {
        Ok(way) => offers::make(client.id, client.fd, way, region, token),
        Err(_) if client.has_hung_up() => {}
        Err(error) => return Err(Refusal::Send(error)),
    }
    Ok(())
}

/// The name that follows `FDSOCKET`, if any.
fn parse(args: &[RedisString]) -> Result<Option<&[u8]>, Refusal> {
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

fn way_to(client: &Client, fd_socket: Option<&[u8]>) -> Result<FdSocket, Refusal> {
    match (client.transport, fd_socket) {
        (Transport::Unix, None) if offers::is_unread_on(client.fd) => Err(Refusal::UnreadAnswer),
        (Transport::Unix, None) => Ok(None),
        (Transport::Unix, Some(_)) => Err(Refusal::FdSocketNotNeeded),
        (_, None) => Err(Refusal::FdSocketNeeded),
        (_, Some(name)) => {
            AbstractAddress::from_digits(name).map(Some).ok_or(Refusal::FdSocketName)
        }
    }
}

/// Whether `client_id` may have a region. So many bytes are used beside it.
fn check_limits(client_id: u64) -> Result<usize, Refusal> {
    let usage = vfd::usage();
    let offered = offers::pending_beside([client_id]);
    let limits = config::limits();
    if limits.max_sessions == 0 {
        return Err(Refusal::SwitchedOff);
    }
    let connections = usage.sessions + usage.unread_connections + offered.offers;
    if connections as u64 >= limits.max_sessions {
        return Err(Refusal::TooManySessions { limit: limits.max_sessions });
    }
    let used_bytes = usage.region_bytes + usage.unread_bytes + offered.bytes;
    let bytes = used_bytes + Region::bytes_with_rings_of(config::ring_bytes());
    if limits.max_memory_bytes != 0 && bytes as u64 > limits.max_memory_bytes {
        return Err(Refusal::TooMuchMemory { limit: limits.max_memory_bytes });
    }
    Ok(used_bytes)
}

/// The answer where the descriptor goes another way, on which anybody may send one: it says
/// which region is the server's.
fn answer_beside(token: Token) -> String {
    format!("+OK {token}\r\n")
}

/// Sends the descriptor to a datagram socket that the client has bound.
fn send_beside(address: AbstractAddress, region: &Region) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    send_with_fd_to(&socket, address, &[doorbell::DOORBELL], region.as_fd())?;
    Ok(socket)
}
