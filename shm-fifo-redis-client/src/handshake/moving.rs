//! A stream on its way to shared memory, which never waits.

use super::Attempt;
use super::command::Command;
use super::fd_socket::FdSocket;
use super::machine::{Event, Handshake, RingAnswer};
use super::refusal::{self, MoveError, Refusal};
use crate::reply::ReplyScanner;
use crate::stream::{Stream, Transport};
use shm_fifo::{Channel, Interest, Region, channel::Endpoint, fd_passing};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// How many bytes may come for the reader meanwhile: pushes.
const MAX_KEPT_BYTES: usize = 1 << 20;
/// How often one look at the ring is repeated. A peer that changes its words all the
/// time could otherwise keep it for ever.
const ROUNDS: usize = 8;

/// A connection that moves to shared memory, for event loops: it never waits.
///
/// No reply may be outstanding on it; push messages may come at any time.
/// [`move_to_shared_memory`](crate::move_to_shared_memory) is this, and waiting.
///
/// # Examples
/// ```
/// use shm_fifo_redis_client::{Attempt, Interest, MoveError, Moving, Progress, Stream};
/// use std::os::fd::{AsRawFd, RawFd};
///
/// /// `wait` is the event loop's: it returns when the socket is ready for that.
/// fn move_it(stream: Stream, wait: impl Fn(RawFd, Interest)) -> Result<Attempt, MoveError> {
///     let mut moving = Moving::begin(stream)?;
///     while let Progress::Waiting(interest) = moving.advance()? {
///         wait(moving.as_raw_fd(), interest);
///     }
///     moving.into_attempt()
/// }
/// ```
#[derive(Debug)]
pub struct Moving {
    /// Always there, but while it is put onto the ring.
    stream: Option<Stream>,
    stage: Stage,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it says what to wait for"]
pub enum Progress {
    /// It goes on when the socket is ready for this.
    Waiting(Interest),
    /// It is decided: [`Moving::into_attempt`].
    Decided,
}

#[derive(Debug)]
enum Stage {
    Socket(Box<Conversation>),
    /// The server has moved; its answer is read from the ring.
    Ring(RingAnswer),
    Moved,
    Stayed(Refusal),
}

impl Moving {
    /// Prepares to ask the server, where that makes sense. Nothing is sent yet.
    ///
    /// # Errors
    /// If what was kept for the stream's reader is not what a server sends.
    pub fn begin(stream: Stream) -> Result<Self, MoveError> {
        let stage = match refusal::without_asking(&stream) {
            _ if stream.transport() == Transport::SharedMemory => Stage::Moved,
            Some(refusal) => Stage::Stayed(refusal),
            None => match Conversation::begin(&stream)? {
                Ok(conversation) => Stage::Socket(Box::new(conversation)),
                Err(error) => Stage::Stayed(Refusal::FdSocket(error)),
            },
        };
        Ok(Self { stream: Some(stream), stage })
    }

    /// Does what can be done now. To be called at once, and whenever the socket is ready.
    ///
    /// # Errors
    /// If the connection was lost: the server ended it or broke the protocol.
    pub fn advance(&mut self) -> Result<Progress, MoveError> {
        loop {
            let Some(stream) = &mut self.stream else { return Err(MoveError::Ended) };
            match &mut self.stage {
                Stage::Moved | Stage::Stayed(_) => return Ok(Progress::Decided),
                Stage::Socket(conversation) => match conversation.advance(stream)? {
                    Turn::Waiting(interest) => return Ok(Progress::Waiting(interest)),
                    Turn::Moved(endpoint, answer) => {
                        let onto = |socket| Channel::new(endpoint, socket);
                        self.stream = self.stream.take().map(|stream| stream.onto(onto));
                        self.stage = Stage::Ring(answer);
                    }
                    Turn::Stayed(refusal) => self.stage = Stage::Stayed(refusal),
                },
                Stage::Ring(answer) => {
                    if !read_answer(stream, answer)? {
                        return Ok(Progress::Waiting(Interest::READABLE));
                    }
                    self.stage = Stage::Moved;
                }
            }
        }
    }

    /// How the attempt ended.
    ///
    /// # Errors
    /// `TimedOut` if it is not decided: the connection's state is unknown then.
    pub fn into_attempt(self) -> Result<Attempt, MoveError> {
        match (self.stream, self.stage) {
            (Some(stream), Stage::Moved) => Ok(Attempt::Moved(stream)),
            (Some(stream), Stage::Stayed(refusal)) => Ok(Attempt::Stayed(stream, refusal)),
            _ => Err(MoveError::TimedOut),
        }
    }
}

impl AsRawFd for Moving {
    /// The socket.
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

/// Reads the answer that is first in the ring; whether it is whole. If not, the socket
/// becomes readable when there is more.
fn read_answer(stream: &mut Stream, answer: &mut RingAnswer) -> Result<bool, MoveError> {
    // Not the stream's own reading: bytes kept for the reader are no answer.
    let Some(channel) = stream.channel() else { return Err(MoveError::Ended) };
    channel.unpark(Interest::READABLE);
    channel.listen();
    for _ in 0..ROUNDS {
        let mut bytes = [0; 8];
        let room = bytes.len().min(answer.left_bytes());
        if room == 0 {
            return Ok(true);
        }
        match channel.try_read(&mut bytes[..room]) {
            Ok(0) => return Err(MoveError::Ended),
            Ok(count) => answer.receive(&bytes[..count])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if channel.park(Interest::READABLE) {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(MoveError::Violation("nothing in shared memory, and said that there is something"))
}

/// What is said on the socket.
#[derive(Debug)]
struct Conversation {
    handshake: Handshake,
    command: Command,
    /// How many of its bytes were sent.
    sent_bytes: usize,
    /// Where the descriptor comes, over TCP.
    fd_socket: Option<FdSocket>,
    /// The descriptor that came last beside the bytes.
    fd: Option<OwnedFd>,
    /// The memory of an offer that is to be accepted.
    offered: Option<Region>,
    /// This side of the memory, once the offer was accepted.
    endpoint: Option<Endpoint>,
    kept_bytes: usize,
}

/// How a conversation's turn ended.
#[allow(clippy::large_enum_variant, reason = "taken apart at once")]
enum Turn {
    Waiting(Interest),
    Moved(Endpoint, RingAnswer),
    Stayed(Refusal),
}

impl Conversation {
    /// The inner error is that there is no socket for the descriptor.
    fn begin(stream: &Stream) -> Result<io::Result<Self>, MoveError> {
        let scanner = scanner_behind(stream.kept())?;
        let fd_socket = match stream.transport() {
            Transport::Tcp => FdSocket::bind().map(Some),
            _ => Ok(None),
        };
        Ok(fd_socket.map(|fd_socket| {
            let (handshake, command) = Handshake::begin(fd_socket.as_ref(), scanner);
            Self {
                handshake,
                command,
                sent_bytes: 0,
                fd_socket,
                fd: None,
                offered: None,
                endpoint: None,
                kept_bytes: 0,
            }
        }))
    }

    fn advance(&mut self, stream: &mut Stream) -> Result<Turn, MoveError> {
        loop {
            if !self.send(stream)? {
                return Ok(Turn::Waiting(Interest::WRITABLE));
            }
            let mut chunk = [0; 4096];
            let Some(count) = self.receive(stream, &mut chunk)? else {
                return Ok(Turn::Waiting(Interest::READABLE));
            };
            if let Some(decided) = self.understand(&chunk[..count], stream)? {
                return Ok(decided);
            }
        }
    }

    /// Sends the rest of the command; whether all of it is sent.
    fn send(&mut self, stream: &mut Stream) -> Result<bool, MoveError> {
        while self.sent_bytes < self.command.len() {
            match stream.try_write(&self.command[self.sent_bytes..]) {
                Ok(count) => self.sent_bytes += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Receives at least one byte, and the descriptor that comes with it; `None` if
    /// there is none yet.
    fn receive(&mut self, stream: &Stream, chunk: &mut [u8]) -> Result<Option<usize>, MoveError> {
        loop {
            match fd_passing::recv_with_fd(stream, chunk, libc::MSG_DONTWAIT) {
                Ok((0, _)) => return Err(MoveError::Ended),
                Ok((count, fd)) => {
                    self.fd = fd.or(self.fd.take());
                    return Ok(Some(count));
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Ok(None),
                    _ => return Err(error.into()),
                },
            }
        }
    }

    /// Acts on what was received, all of it: what is decided, if something is.
    fn understand(
        &mut self,
        mut bytes: &[u8],
        stream: &mut Stream,
    ) -> Result<Option<Turn>, MoveError> {
        let mut decided = None;
        while let Some(event) = self.handshake.next(&mut bytes)? {
            match event {
                Event::Program(part) => self.keep(part, stream)?,
                Event::Offered => {
                    let fd = self.take_fd();
                    match self.handshake.attach(fd) {
                        Ok(region) => self.offered = Some(region),
                        Err(refusal) => decided = Some(Turn::Stayed(refusal)),
                    }
                }
                Event::Moved(answer) => {
                    decided = self.endpoint.take().map(|endpoint| Turn::Moved(endpoint, answer));
                }
                Event::Refused(refusal) => decided = Some(Turn::Stayed(refusal)),
            }
        }
        // Only now: what has come already is no answer to it.
        if let Some(region) = self.offered.take() {
            let (command, endpoint) = self.handshake.start(region);
            (self.command, self.sent_bytes) = (command, 0);
            self.endpoint = Some(endpoint);
        }
        Ok(decided)
    }

    /// The descriptor of the offer that has just come.
    fn take_fd(&mut self) -> Option<OwnedFd> {
        match self.fd_socket.take() {
            Some(fd_socket) => fd_socket.take_fd(),
            None => self.fd.take(),
        }
    }

    fn keep(&mut self, part: &[u8], stream: &mut Stream) -> Result<(), MoveError> {
        self.kept_bytes += part.len();
        if self.kept_bytes > MAX_KEPT_BYTES {
            return Err(MoveError::Violation("more than a mebibyte in place of an answer"));
        }
        stream.keep(part);
        Ok(())
    }
}

/// A scanner that has seen `bytes`, which may end in the middle of a value.
fn scanner_behind<'b>(
    bytes: impl IntoIterator<Item = &'b [u8]>,
) -> Result<ReplyScanner, MoveError> {
    let mut scanner = ReplyScanner::default();
    for mut bytes in bytes {
        while !bytes.is_empty() {
            bytes = &bytes[scanner.next(bytes)?.taken..];
        }
    }
    Ok(scanner)
}
