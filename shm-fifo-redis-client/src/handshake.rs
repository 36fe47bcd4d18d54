//! Moving a connection from its socket to shared memory: `docs/protocol.md`.
//!
//! Until the server has answered `SHM.START` with a doorbell, everything can
//! still be refused, and then the connection goes on over its socket as if
//! nothing had been asked. Bytes that belong to the reader are kept in order.

mod exchange;
mod fd_socket;
mod refusal;

use crate::stream::{Stream, Transport};
use exchange::{Answer, Exchange};
use shm_fifo::{Channel, Interest, Region, TOKEN_BYTES};
use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

pub use fd_socket::FdSocket;
pub use refusal::{MoveError, Refusal};

/// The protocol spoken here, as `SHM.OPEN` names it.
pub const PROTOCOL_VERSION: &str = "2";

/// How an attempt to move a connection ended. Either way it can be used.
#[derive(Debug)]
#[must_use = "the connection is in there"]
pub enum Attempt {
    /// The connection goes on in shared memory.
    Moved(Stream),
    /// The connection goes on over its socket, for this reason.
    Stayed(Stream, Refusal),
}

/// Asks the server to go on with this connection in shared memory.
///
/// No reply may be outstanding; push messages may come at any time. A stream
/// that is in shared memory already is returned as it is. Waits for the server's
/// two answers until `deadline`.
///
/// # Errors
/// If the connection was lost meanwhile: the server ended it, broke the
/// protocol, or did not answer in time. A refusal is no error.
pub fn move_to_shared_memory(
    stream: Stream,
    deadline: Option<Instant>,
) -> Result<Attempt, MoveError> {
    if stream.transport() == Transport::SharedMemory {
        return Ok(Attempt::Moved(stream));
    }
    if let Some(refusal) = refusal::without_asking(&stream) {
        return Ok(Attempt::Stayed(stream, refusal));
    }
    let mut exchange = Exchange::new(stream, deadline);
    match negotiate(&mut exchange)? {
        Ok(region) => enter(exchange, region, deadline).map(Attempt::Moved),
        Err(refusal) => Ok(Attempt::Stayed(exchange.into_stream(), refusal)),
    }
}

/// Both commands, on the socket. The inner error leaves the connection there.
fn negotiate(exchange: &mut Exchange) -> Result<Result<Region, Refusal>, MoveError> {
    let fd_socket = match fd_socket_for(exchange.transport()) {
        Ok(fd_socket) => fd_socket,
        Err(error) => return Ok(Err(Refusal::FdSocket(error))),
    };
    exchange.send(&open_command(fd_socket.as_ref()))?;
    match exchange.answer()? {
        Answer::Ok => {}
        Answer::Refused(text) => return Ok(Err(refusal::of_open(text))),
        Answer::Doorbell => return Err(MoveError::Violation("a doorbell before SHM.START")),
    }
    let region = match region_from(exchange.take_fd(), fd_socket.as_ref()) {
        Ok(region) => region,
        Err(refusal) => return Ok(Err(refusal)),
    };
    exchange.send(&start_command(region.token()))?;
    match exchange.answer()? {
        Answer::Doorbell => Ok(Ok(region)),
        Answer::Refused(text) => Ok(Err(Refusal::Refused(text))),
        Answer::Ok => Err(MoveError::Violation("+OK on the socket in answer to SHM.START")),
    }
}

/// Only a unix socket carries descriptors itself.
fn fd_socket_for(transport: Transport) -> io::Result<Option<FdSocket>> {
    match transport {
        Transport::Tcp => FdSocket::bind().map(Some),
        _ => Ok(None),
    }
}

fn region_from(fd: Option<OwnedFd>, fd_socket: Option<&FdSocket>) -> Result<Region, Refusal> {
    let fd = match fd_socket {
        Some(fd_socket) => fd_socket.take_fd(),
        None => fd,
    };
    Ok(Region::attach(fd.ok_or(Refusal::NoDescriptor)?)?)
}

/// The server has moved: reads the answer that is the first thing in the ring.
fn enter(
    exchange: Exchange,
    region: Region,
    deadline: Option<Instant>,
) -> Result<Stream, MoveError> {
    const ANSWER: &[u8] = b"+OK\r\n";
    let stream = exchange.into_stream();
    let mut answer = [0; ANSWER.len()];
    let mut outcome = Ok(());
    let stream = stream.onto(|socket| {
        let mut channel = Channel::new(region.into_endpoint(), socket);
        outcome = read_exact_until(&mut channel, &mut answer, deadline);
        channel
    });
    outcome?;
    if answer != *ANSWER {
        return Err(MoveError::Violation("something other than +OK first in shared memory"));
    }
    Ok(stream)
}

fn read_exact_until(
    channel: &mut Channel,
    mut target: &mut [u8],
    deadline: Option<Instant>,
) -> Result<(), MoveError> {
    while !target.is_empty() {
        match channel.try_read(target) {
            Ok(0) => return Err(MoveError::Ended),
            Ok(count) => target = &mut target[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                channel.wait(Interest::READABLE, deadline)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The bytes of `SHM.OPEN`; over TCP it names the socket for the descriptor.
#[must_use]
pub fn open_command(fd_socket: Option<&FdSocket>) -> Vec<u8> {
    match fd_socket {
        None => command(&["SHM.OPEN", PROTOCOL_VERSION]),
        Some(fd_socket) => command(&["SHM.OPEN", PROTOCOL_VERSION, "FDSOCKET", &fd_socket.name()]),
    }
}

/// The bytes of `SHM.START`.
#[must_use]
pub fn start_command(token: [u8; TOKEN_BYTES]) -> Vec<u8> {
    let hexadecimal = token.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _: std::fmt::Result = write!(digits, "{byte:02x}");
        digits
    });
    command(&["SHM.START", &hexadecimal])
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut packed = format!("*{}\r\n", words.len());
    for word in words {
        // Writing to a string cannot fail.
        let _: std::fmt::Result = write!(packed, "${}\r\n{word}\r\n", word.len());
    }
    packed.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_sends_the_token_as_32_lower_case_digits_in_memory_order() {
        let mut token = [0; TOKEN_BYTES];
        (token[0], token[15]) = (0xab, 0x01);
        let expected = b"*2\r\n$9\r\nSHM.START\r\n$32\r\nab000000000000000000000000000001\r\n";
        assert_eq!(start_command(token), expected);
    }

    #[test]
    fn open_names_the_protocol_version() {
        assert_eq!(open_command(None), b"*2\r\n$8\r\nSHM.OPEN\r\n$1\r\n2\r\n");
    }
}
