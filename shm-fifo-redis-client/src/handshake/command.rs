//! The two commands that move a connection.

use super::fd_socket::FdSocket;
use shm_fifo::region::Token;
use std::fmt;
use std::io::{self, Write};
use std::ops::Deref;

/// The protocol spoken here, as `SHM.OPEN` names it.
pub const PROTOCOL_VERSION: &str = "2";

/// Room for the longest, `SHM.START`.
const MAX_BYTES: usize = 64;

/// The bytes of a command, in place: making one allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    bytes: [u8; MAX_BYTES],
    length: usize,
}

impl Command {
    fn of(text: fmt::Arguments<'_>) -> Self {
        let mut bytes = [0; MAX_BYTES];
        let mut room = &mut bytes[..];
        // There is room for each of them.
        let _: io::Result<()> = room.write_fmt(text);
        let length = MAX_BYTES - room.len();
        Self { bytes, length }
    }
}

impl Deref for Command {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The bytes of `SHM.OPEN`; over TCP it names the socket for the descriptor.
#[must_use]
pub fn open_command(fd_socket: Option<&FdSocket>) -> Command {
    let version = PROTOCOL_VERSION;
    match fd_socket.map(FdSocket::name) {
        None => Command::of(format_args!("*2\r\n$8\r\nSHM.OPEN\r\n$1\r\n{version}\r\n")),
        Some(name) => Command::of(format_args!(
            "*4\r\n$8\r\nSHM.OPEN\r\n$1\r\n{version}\r\n$8\r\nFDSOCKET\r\n$5\r\n{name}\r\n"
        )),
    }
}

/// The bytes of `SHM.START`.
pub(super) fn start_command(token: Token) -> Command {
    Command::of(format_args!("*2\r\n$9\r\nSHM.START\r\n$32\r\n{token}\r\n"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn start_sends_the_token() {
        let token = Token::from_bytes([0xab; 16]);
        let expected = b"*2\r\n$9\r\nSHM.START\r\n$32\r\nabababababababababababababababab\r\n";
        assert_eq!(*start_command(token), *expected);
    }

    #[test]
    fn open_names_the_protocol_version_and_over_tcp_a_socket() {
        assert_eq!(*open_command(None), *b"*2\r\n$8\r\nSHM.OPEN\r\n$1\r\n2\r\n");
        let socket = FdSocket::bind().unwrap();
        let name = socket.name();
        let expected =
            format!("*4\r\n$8\r\nSHM.OPEN\r\n$1\r\n2\r\n$8\r\nFDSOCKET\r\n$5\r\n{name}\r\n");
        assert_eq!(*open_command(Some(&socket)), *expected.as_bytes());
    }
}
