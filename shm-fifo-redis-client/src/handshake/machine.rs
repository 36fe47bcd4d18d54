//! The handshake as a machine that owns no connection: `docs/protocol.md`.
//!
//! Its caller sends what it returns, tells it what arrives, in order, and passes on
//! what is the program's. It never waits, keeps none of the program's bytes, allocates
//! nothing, and believes nothing that the server says before it is checked.

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is how a test fails")]
mod tests;

use super::command::{Command, open_command, start_command};
use super::fd_socket::FdSocket;
use crate::reply::{ReplyError, ReplyScanner, Scanned};
use shm_fifo::doorbell::DOORBELL;
use shm_fifo::{AttachError, Endpoint, Region};
use std::io;
use std::os::fd::OwnedFd;

/// How long an answer may be. Those of the module have a few dozen bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// How much of it is kept.
const KEPT_ANSWER_BYTES: usize = 512;
const OK: &[u8] = b"+OK\r\n";

/// What carries a connection before it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// A unix socket, which carries descriptors itself.
    Unix,
    /// TCP: the descriptor comes on a socket of its own.
    Tcp,
}

/// What the bytes are that were taken.
#[derive(Debug)]
pub enum Event<'b> {
    /// Whatever is none of the handshake's: pushes, and replies to the program's own
    /// requests. They are the next that the program reads, and may be part of a value.
    Program(&'b [u8]),
    /// The server offers shared memory; [`Handshake::start`] accepts.
    Offered,
    /// The server has moved. Everything is in the ring from now on, its answer first,
    /// and the socket carries doorbells.
    Moved(RingAnswer),
    /// The connection stays on its socket. All that follows is the program's.
    Refused(Reason),
}

/// Why a connection stays on its socket.
#[derive(Debug)]
pub enum Reason {
    /// The server does not know `SHM.OPEN`.
    NoModule,
    /// This user may not.
    NotAllowed,
    /// `SHM.OPEN` was refused for another reason, which [`Handshake::answer`] has.
    OpenRefused,
    /// `SHM.OPEN` was granted, but no descriptor came.
    NoDescriptor,
    /// What came is not shared memory that can be used safely.
    Attach(AttachError),
    /// `SHM.START` was refused, for the reason that [`Handshake::answer`] has.
    StartRefused,
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
    /// Where the descriptor comes, over TCP.
    fd_socket: Option<FdSocket>,
    /// The descriptor that came last.
    fd: Option<OwnedFd>,
    scanner: ReplyScanner,
    /// Whose the value is that the scanner is in.
    owner: Owner,
    answer: Answer,
}

#[derive(Debug)]
enum Stage {
    /// `SHM.OPEN` was sent. So many replies come before its answer.
    Opening {
        replies: u64,
    },
    Offered(Region),
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
    /// Begins with `SHM.OPEN`, whose bytes are to be sent.
    ///
    /// `replies` is how many replies come before its answer, to requests that were sent
    /// earlier; `scanner` has seen what came before, and may be in the middle of a
    /// value. Requests may be sent behind it as well: their replies come behind its
    /// answer.
    ///
    /// # Errors
    /// If the socket for the descriptor cannot be made. Nothing is to be sent then.
    pub fn begin(
        kind: SocketKind,
        replies: u64,
        scanner: ReplyScanner,
    ) -> io::Result<(Self, Command)> {
        let fd_socket = match kind {
            SocketKind::Unix => None,
            SocketKind::Tcp => Some(FdSocket::bind()?),
        };
        let command = open_command(fd_socket.as_ref());
        let handshake = Self {
            stage: Stage::Opening { replies },
            fd_socket,
            fd: None,
            scanner,
            owner: Owner::Program,
            answer: Answer::default(),
        };
        Ok((handshake, command))
    }

    /// A descriptor came with the bytes that [`Handshake::next`] gets next.
    pub fn receive_fd(&mut self, fd: OwnedFd) {
        if matches!(self.stage, Stage::Opening { .. }) {
            self.fd = Some(fd);
        }
    }

    /// Takes from the front of `bytes`, which came on the socket, what is one thing, and
    /// says what that is. `None` once all are taken.
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
            match (self.owner, value) {
                (Owner::Program, ended) => {
                    self.count(ended);
                    return Ok(Some(Event::Program(part)));
                }
                (Owner::Handshake, None) => self.answer.append(part)?,
                (Owner::Handshake, Some(_)) => {
                    self.answer.append(part)?;
                    return self.answered().map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Accepts the offer: the bytes of `SHM.START`, which are to be sent, and this side
    /// of the shared memory. `None` if there is no offer.
    ///
    /// To be called while no reply is outstanding, and nothing may follow on the socket.
    /// What is written into the ring from then on is read by the server once it has moved,
    /// and by nobody if it refuses. This side stays announced as asleep until
    /// [`Event::Moved`], or the server would not ring: a [`shm_fifo::Channel`] is to be
    /// made only then.
    pub fn start(&mut self) -> Option<(Command, Endpoint)> {
        match std::mem::replace(&mut self.stage, Stage::Starting) {
            Stage::Offered(region) => Some((start_command(region.token()), region.into_endpoint())),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// The server's last answer to one of the two commands, if it is long its beginning.
    #[must_use]
    pub fn answer(&self) -> &[u8] {
        self.answer.kept()
    }

    /// A value of type `kind` begins: whose it is.
    fn begin_value(&mut self, kind: u8) {
        let answer_is_next = matches!(self.stage, Stage::Opening { replies: 0 } | Stage::Starting);
        // In RESP2 pushes are arrays. Neither command is answered by one.
        self.owner = match kind {
            b'>' | b'|' | b'*' => Owner::Program,
            _ if answer_is_next => Owner::Handshake,
            _ => Owner::Program,
        };
        if self.owner == Owner::Handshake {
            self.answer = Answer::default();
        }
    }

    /// The program's value of this type ended, if one did.
    fn count(&mut self, ended: Option<u8>) {
        let is_reply = ended.is_some_and(|kind| !matches!(kind, b'>' | b'|'));
        if let Stage::Opening { replies } = &mut self.stage
            && is_reply
        {
            *replies = replies.saturating_sub(1);
        }
    }

    /// The answer has come whole.
    fn answered(&mut self) -> Result<Event<'static>, Violation> {
        if matches!(self.stage, Stage::Starting) {
            if self.answer() == OK {
                return Err(Violation::Unexpected("+OK on the socket in answer to SHM.START"));
            }
            self.stage = Stage::Refused;
            return Ok(Event::Refused(Reason::StartRefused));
        }
        let offered = self.offered();
        // Nothing more is awaited there.
        self.fd_socket = None;
        match offered {
            Ok(region) => {
                self.stage = Stage::Offered(region);
                Ok(Event::Offered)
            }
            Err(reason) => {
                self.stage = Stage::Refused;
                Ok(Event::Refused(reason))
            }
        }
    }

    /// What `SHM.OPEN` was answered by.
    fn offered(&mut self) -> Result<Region, Reason> {
        let came_along = self.fd.take();
        if self.answer() != OK {
            return Err(reason_in(self.answer()));
        }
        let fd = match &self.fd_socket {
            Some(fd_socket) => fd_socket.take_fd(),
            None => came_along,
        };
        Region::attach(fd.ok_or(Reason::NoDescriptor)?).map_err(Reason::Attach)
    }

    /// A doorbell comes where a value could.
    fn enter(&mut self, bytes: &mut &[u8]) -> Result<Event<'static>, Violation> {
        if !matches!(self.stage, Stage::Starting) {
            return Err(Violation::Unexpected("a doorbell before SHM.START"));
        }
        take_doorbells(bytes)?;
        self.stage = Stage::Moved;
        Ok(Event::Moved(RingAnswer::default()))
    }
}

/// Takes all of `bytes`, which follow a doorbell.
fn take_doorbells(bytes: &mut &[u8]) -> Result<(), Violation> {
    if bytes.iter().any(|&byte| byte != DOORBELL) {
        return Err(Violation::Unexpected("other bytes behind a doorbell"));
    }
    *bytes = &[];
    Ok(())
}

/// Why `SHM.OPEN` was refused.
fn reason_in(answer: &[u8]) -> Reason {
    let begins_with = |beginning: &str| {
        let part = answer.get(..beginning.len());
        part.is_some_and(|part| part.eq_ignore_ascii_case(beginning.as_bytes()))
    };
    if begins_with("-ERR unknown command") {
        Reason::NoModule
    } else if begins_with("-NOPERM") || begins_with("-NOAUTH") {
        Reason::NotAllowed
    } else {
        Reason::OpenRefused
    }
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
