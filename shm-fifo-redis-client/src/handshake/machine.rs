//! The handshake as a machine that owns no connection: `docs/protocol.md`.
//!
//! Its caller sends what it returns, tells it what arrives, in order, and passes on
//! what is the program's. It never waits, has no file descriptor, keeps none of the
//! program's bytes, allocates nothing but the words of a refusal, and believes nothing
//! that the server says before it is checked.

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is how a test fails")]
mod tests;

use super::command::{Command, open_command, start_command};
use super::fd_socket::FdSocket;
use super::refusal::Refusal;
use crate::reply::{ReplyError, ReplyScanner, Scanned};
use shm_fifo::doorbell::DOORBELL;
use shm_fifo::region::Token;
use shm_fifo::{Region, channel::Endpoint};
use std::os::fd::OwnedFd;

/// How long an answer may be. Those of the module have a few dozen bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// How much of it is kept.
const KEPT_ANSWER_BYTES: usize = 512;
const OK: &[u8] = b"+OK\r\n";

/// What the bytes are that were taken.
#[derive(Debug)]
pub enum Event<'b> {
    /// Whatever is none of the handshake's: pushes, and replies to the program's own
    /// requests. They are the next that the program reads, and may be part of a value.
    Program(&'b [u8]),
    /// The server offers shared memory: [`Handshake::attach`] has it, [`Handshake::start`]
    /// accepts.
    Offered,
    /// The server has moved. Everything is in the ring from now on, its answer first,
    /// and the socket carries doorbells.
    Moved(RingAnswer),
    /// The connection stays on its socket. All that follows is the program's.
    Refused(Refusal),
}

/// The server does not keep to the protocol. Nothing can be said of what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// It sent something that is no reply at all.
    Reply(ReplyError),
    /// It sent this, where the protocol does not know it.
    Unexpected(&'static str),
}

impl From<ReplyError> for Violation {
    fn from(error: ReplyError) -> Self {
        Self::Reply(error)
    }
}

/// The handshake of one connection, from `SHM.OPEN` to the doorbell that answers
/// `SHM.START`.
#[derive(Debug)]
pub struct Handshake {
    stage: Stage,
    scanner: ReplyScanner,
    /// Whose the value is that the scanner is in.
    owner: Owner,
    answer: Answer,
    /// Whether the descriptor comes on a socket of its own, to which anybody may send one.
    is_beside: bool,
    /// Then the token of the memory that the server offers.
    token: Option<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// `SHM.OPEN` was sent.
    Opening,
    Offered,
    /// `SHM.START` was sent.
    Starting,
    Moved,
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Program,
    Handshake,
}

impl Handshake {
    /// Begins with `SHM.OPEN`, whose bytes are to be sent while no reply is outstanding;
    /// over TCP it names the socket on which the descriptor is to come.
    ///
    /// `scanner` has seen what came before, and may be in the middle of a push. Requests
    /// may be sent behind `SHM.OPEN`: their replies come behind its answer.
    #[must_use]
    pub fn begin(fd_socket: Option<&FdSocket>, scanner: ReplyScanner) -> (Self, Command) {
        let handshake = Self {
            stage: Stage::Opening,
            scanner,
            owner: Owner::Program,
            answer: Answer::default(),
            is_beside: fd_socket.is_some(),
            token: None,
        };
        (handshake, open_command(fd_socket))
    }

    /// Takes from the front of `bytes`, which came on the socket, what is one thing, and
    /// says what that is. `None` once all are taken.
    ///
    /// Nothing behind an answer is taken with it, so a caller may peek at the bytes, and
    /// then receive just those that were taken. From an offer to its start it may leave
    /// out whole values, which are the program's.
    ///
    /// # Errors
    /// If the server does not keep to the protocol. The bytes that are left are nobody's.
    pub fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<Event<'b>>, Violation> {
        while let Some(&first) = bytes.first() {
            match self.stage {
                Stage::Refused => return Ok(Some(Event::Program(std::mem::take(bytes)))),
                Stage::Moved => return take_doorbells(bytes).map(|()| None),
                _ => {}
            }
            if self.scanner.is_between() {
                // No value begins with a doorbell.
                if first == DOORBELL {
                    return self.enter(bytes).map(Some);
                }
                self.begin_value(first);
            }
            let Scanned { taken, value } = self.scanner.next(bytes)?;
            let (part, rest) = bytes.split_at(taken);
            *bytes = rest;
            if self.owner == Owner::Program {
                return Ok(Some(Event::Program(part)));
            }
            self.answer.append(part)?;
            if value.is_some() {
                return self.answered().map(Some);
            }
        }
        Ok(None)
    }

    /// The memory of the offer, by the descriptor that came with it: the last one that came
    /// beside the bytes, or over TCP the one on the [`FdSocket`].
    ///
    /// # Errors
    /// If there is none, it is not shared memory that can be used safely, or not the server's.
    pub fn attach(&self, fd: Option<OwnedFd>) -> Result<Region, Refusal> {
        let region = Region::attach(fd.ok_or(Refusal::NoDescriptor)?)?;
        if self.is_beside && self.token != Some(region.token()) {
            return Err(Refusal::NotTheServers);
        }
        Ok(region)
    }

    /// Accepts the offer of this memory: the bytes of `SHM.START`, which are to be sent,
    /// and this side of the memory.
    ///
    /// To be called while no reply is outstanding, and nothing may follow on the socket.
    /// What is written into the ring from then on is read by the server once it has moved,
    /// and by nobody if it refuses. This side stays announced as asleep until
    /// [`Event::Moved`], or the server would not ring: a [`shm_fifo::Channel`] is to be
    /// made only then.
    #[must_use]
    pub fn start(&mut self, offered: Region) -> (Command, Endpoint) {
        self.stage = Stage::Starting;
        (start_command(offered.token()), offered.into_endpoint())
    }

    /// A value of type `kind` begins: whose it is.
    fn begin_value(&mut self, kind: u8) {
        let is_answer = match kind {
            // In RESP2 pushes are arrays. Neither command is answered by one.
            b'>' | b'|' | b'*' => false,
            _ => matches!(self.stage, Stage::Opening | Stage::Starting),
        };
        self.owner = if is_answer { Owner::Handshake } else { Owner::Program };
        if is_answer {
            self.answer = Answer::default();
        }
    }

    /// The answer has come whole.
    fn answered(&mut self) -> Result<Event<'static>, Violation> {
        let answer = self.answer.kept();
        let names_token = self.stage == Stage::Opening && self.is_beside;
        let token = if names_token { token_in(answer) } else { None };
        if answer != OK && token.is_none() {
            self.stage = Stage::Refused;
            return Ok(Event::Refused(Refusal::in_answer(answer)));
        }
        if self.stage == Stage::Starting {
            return Err(Violation::Unexpected("+OK on the socket in answer to SHM.START"));
        }
        self.stage = Stage::Offered;
        self.token = token;
        Ok(Event::Offered)
    }

    /// A doorbell comes where a value could.
    fn enter(&mut self, bytes: &mut &[u8]) -> Result<Event<'static>, Violation> {
        if self.stage != Stage::Starting {
            return Err(Violation::Unexpected("a doorbell before SHM.START"));
        }
        take_doorbells(bytes)?;
        self.stage = Stage::Moved;
        Ok(Event::Moved(RingAnswer::default()))
    }
}

/// The token in the answer to `SHM.OPEN` over TCP, `+OK ` and 32 hexadecimal digits.
fn token_in(answer: &[u8]) -> Option<Token> {
    Token::from_digits(answer.strip_prefix(b"+OK ")?.strip_suffix(b"\r\n")?)
}

/// Takes all of `bytes`, which follow a doorbell.
fn take_doorbells(bytes: &mut &[u8]) -> Result<(), Violation> {
    if bytes.iter().any(|&byte| byte != DOORBELL) {
        return Err(Violation::Unexpected("other bytes behind a doorbell"));
    }
    *bytes = &[];
    Ok(())
}

/// The answer to `SHM.START`, the first thing in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingAnswer {
    left: &'static [u8],
}

impl Default for RingAnswer {
    fn default() -> Self {
        Self { left: OK }
    }
}

impl RingAnswer {
    /// How many bytes of it are still to be read: so many and no more.
    #[must_use]
    pub fn left_bytes(self) -> usize {
        self.left.len()
    }

    /// Takes bytes that were read from the ring.
    ///
    /// # Errors
    /// If it is another answer.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let rest = self.left.strip_prefix(bytes);
        const OTHER: &str = "something other than +OK first in shared memory";
        self.left = rest.ok_or(Violation::Unexpected(OTHER))?;
        Ok(())
    }
}

/// An answer of any length, of which the beginning is kept.
#[derive(Debug)]
struct Answer {
    beginning: [u8; KEPT_ANSWER_BYTES],
    total_bytes: usize,
}

impl Default for Answer {
    fn default() -> Self {
        Self { beginning: [0; KEPT_ANSWER_BYTES], total_bytes: 0 }
    }
}

impl Answer {
    fn kept(&self) -> &[u8] {
        &self.beginning[..self.total_bytes.min(KEPT_ANSWER_BYTES)]
    }

    fn append(&mut self, part: &[u8]) -> Result<(), Violation> {
        if part.len() > MAX_ANSWER_BYTES - self.total_bytes {
            return Err(Violation::Unexpected("an answer that does not end"));
        }
        let room = &mut self.beginning[self.total_bytes.min(KEPT_ANSWER_BYTES)..];
        let kept = part.len().min(room.len());
        room[..kept].copy_from_slice(&part[..kept]);
        self.total_bytes += part.len();
        Ok(())
    }
}
