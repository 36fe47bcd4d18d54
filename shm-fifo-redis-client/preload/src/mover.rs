//! Moving a connection while the program uses it: `docs/protocol.md`, as a machine
//! that never waits.
//!
//! Begun while no reply is outstanding, it takes what the server answers whenever
//! it comes. What the program writes meanwhile is held back, up to a limit; what
//! arrives for the program (pushes) is kept for it. Until the server has answered
//! `SHM.START` with a doorbell the connection can go back to its socket.

use crate::errno::Errno;
use crate::sys;
use crate::track::{ReplyScanner, Scanned};
use shm_fifo::doorbell::DOORBELL;
use shm_fifo::{Duplex, Region, fd_passing};
use shm_fifo_redis_client::wire::{FdSocket, open_command, start_command};
use std::io::{self, IoSlice};
use std::os::fd::{OwnedFd, RawFd};

/// Bytes that are held back at most: fewer than any ring holds.
const MAX_HELD_BACK_BYTES: usize = 4096;
/// Bytes that may come during a move: two short answers, and pushes.
const MAX_RECEIVED_BYTES: usize = 1 << 20;

/// How far a move is.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one for each connection, taken apart at once")]
pub(crate) enum Outcome {
    /// The server has not answered.
    Waiting,
    /// Everything goes on in here.
    Moved(Duplex),
    /// Everything goes on over the socket.
    Refused(Refusal),
}

/// Why a connection stays on its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The server cannot do it: nothing will change that.
    Permanent,
    /// It said no; another user may be told otherwise.
    OfThisUser,
    /// It was not the moment, or the offer was lost: the next time it may be.
    Transient,
}

impl Refusal {
    pub(crate) fn is_permanent(self) -> bool {
        self == Self::Permanent
    }

    pub(crate) fn may_be_retried(self) -> bool {
        self == Self::Transient
    }
}

#[derive(Debug)]
enum Stage {
    /// `SHM.OPEN` was sent.
    Opening,
    /// `SHM.START` was sent.
    Starting(Region),
}

#[derive(Debug)]
pub(crate) struct Mover {
    stage: Stage,
    fd_socket: Option<FdSocket>,
    /// The descriptor that came last.
    received_fd: Option<OwnedFd>,
    replies: ReplyScanner,
    /// What came, from the beginning of a value.
    inbox: Vec<u8>,
    /// How much of it has been looked at.
    scanned: usize,
    received_bytes: usize,
    kept: Vec<u8>,
    /// How many bytes at the end of `kept` are from behind a refusal.
    unseen_bytes: usize,
    held_back: Vec<u8>,
}

impl Mover {
    /// Asks the server; `None` if it cannot be asked now.
    pub(crate) fn begin(socket: RawFd, is_tcp: bool) -> Option<Self> {
        let fd_socket = if is_tcp { Some(FdSocket::bind().ok()?) } else { None };
        let command = open_command(fd_socket.as_ref());
        // The socket is idle: so few bytes go whole or not at all.
        if sys::send(socket, &command) != Ok(command.len()) {
            return None;
        }
        Some(Self {
            stage: Stage::Opening,
            fd_socket,
            received_fd: None,
            replies: ReplyScanner::default(),
            inbox: Vec::new(),
            scanned: 0,
            received_bytes: 0,
            kept: Vec::new(),
            unseen_bytes: 0,
            held_back: Vec::new(),
        })
    }

    /// Takes what has come on the socket, without waiting.
    pub(crate) fn advance(&mut self, socket: RawFd) -> Outcome {
        loop {
            match self.receive(socket) {
                Ok(true) => {}
                Ok(false) => return Outcome::Waiting,
                // The program will hear of it on the socket.
                Err(_) => return self.refused(Refusal::Permanent),
            }
            match self.understand(socket) {
                Outcome::Waiting => {}
                decided => return decided,
            }
        }
    }

    /// What came for the program.
    pub(crate) fn take_kept(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }

    /// How many of the last bytes that were kept followed a refusal: they may end in the
    /// middle of a value.
    pub(crate) fn unseen_bytes(&self) -> usize {
        self.unseen_bytes
    }

    pub(crate) fn has_room(&self) -> bool {
        self.held_back.len() < MAX_HELD_BACK_BYTES
    }

    /// Holds back what there is room for; how many bytes.
    pub(crate) fn hold_back(&mut self, sources: &[IoSlice<'_>]) -> usize {
        let before = self.held_back.len();
        for source in sources {
            let room = MAX_HELD_BACK_BYTES - self.held_back.len();
            self.held_back.extend_from_slice(&source[..source.len().min(room)]);
        }
        self.held_back.len() - before
    }

    pub(crate) fn take_held_back(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held_back)
    }

    /// Sends what was held back. It is little and the socket was idle, so it does
    /// not wait in any case that is known.
    pub(crate) fn flush_to_socket(&self, socket: RawFd) {
        flush(socket, &self.held_back);
    }

    /// Whether something that the program wrote waits in here.
    pub(crate) fn holds_back(&self) -> bool {
        !self.held_back.is_empty()
    }

    /// The program goes while the server has not answered: what was held back is for
    /// the server all the same, which reads all that was sent before the end.
    pub(crate) fn hand_over(self, socket: RawFd) {
        if self.held_back.is_empty() {
            return;
        }
        match self.stage {
            Stage::Opening => flush(socket, &self.held_back),
            Stage::Starting(region) => {
                // Nothing may follow on the socket, not even a doorbell. The server
                // finds it in the ring when it starts.
                const NOWHERE: RawFd = -1;
                let ring = Duplex::new(region.into_endpoint());
                drop(ring.write(NOWHERE, &[IoSlice::new(&self.held_back)]));
                ring.close_writing(NOWHERE);
            }
        }
    }

    /// Receives some bytes; whether there were any.
    fn receive(&mut self, socket: RawFd) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        let (count, fd) = match fd_passing::recv_with_fd(socket, &mut chunk, libc::MSG_DONTWAIT) {
            Ok(received) => received,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return Ok(false),
                _ => return Err(error),
            },
        };
        self.received_bytes += count;
        if count == 0 || self.received_bytes > MAX_RECEIVED_BYTES {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.inbox.extend_from_slice(&chunk[..count]);
        self.received_fd = fd.or(self.received_fd.take());
        Ok(true)
    }

    /// Acts on the values that have come whole.
    fn understand(&mut self, socket: RawFd) -> Outcome {
        loop {
            // No value begins with a doorbell.
            let between = self.scanned == 0;
            if between && self.inbox.first() == Some(&DOORBELL) {
                return self.enter(socket);
            }
            let Ok(Scanned { taken, value }) = self.replies.next(&self.inbox[self.scanned..])
            else {
                return self.refused(Refusal::Permanent);
            };
            self.scanned += taken;
            let Some(kind) = value else { return Outcome::Waiting };
            let value: Vec<u8> = self.inbox.drain(..std::mem::take(&mut self.scanned)).collect();
            let decided = match kind {
                b'>' | b'|' | b'*' => {
                    self.kept.extend(value);
                    continue;
                }
                _ => self.answered(&value, socket),
            };
            match decided {
                Ok(()) => {}
                Err(refusal) => return self.refused(refusal),
            }
        }
    }

    fn answered(&mut self, answer: &[u8], socket: RawFd) -> Result<(), Refusal> {
        match self.stage {
            Stage::Opening if answer == b"+OK\r\n" => self.start(socket),
            Stage::Opening => Err(refusal_of(answer)),
            Stage::Starting(_) => Err(Refusal::Transient),
        }
    }

    /// The offer has come: accepts it.
    fn start(&mut self, socket: RawFd) -> Result<(), Refusal> {
        let fd = match &self.fd_socket {
            Some(fd_socket) => fd_socket.take_fd(),
            None => self.received_fd.take(),
        };
        // Where a proxy strips descriptors, or nothing more can be mapped.
        let region =
            Region::attach(fd.ok_or(Refusal::Permanent)?).map_err(|_| Refusal::Permanent)?;
        let command = start_command(region.token());
        self.stage = Stage::Starting(region);
        if sys::send(socket, &command) != Ok(command.len()) {
            return Err(Refusal::Permanent);
        }
        Ok(())
    }

    /// The server has moved. Its answer is the first thing in the ring.
    fn enter(&mut self, socket: RawFd) -> Outcome {
        const ANSWER: &[u8] = b"+OK\r\n";
        let Stage::Starting(region) = std::mem::replace(&mut self.stage, Stage::Opening) else {
            return self.refused(Refusal::Permanent);
        };
        let ring = Duplex::new(region.into_endpoint());
        let mut answer = [0; ANSWER.len()];
        let read = ring.read(socket, &mut answer).unwrap_or(0);
        if answer[..read] != *ANSWER || self.inbox.iter().any(|&byte| byte != DOORBELL) {
            // Not our protocol: the program sees the end of its connection.
            ring.close(socket);
        }
        Outcome::Moved(ring)
    }

    /// Back to the socket, with all that came and was no answer.
    fn refused(&mut self, refusal: Refusal) -> Outcome {
        self.unseen_bytes = self.inbox.len();
        self.kept.append(&mut self.inbox);
        Outcome::Refused(refusal)
    }
}

fn flush(socket: RawFd, mut rest: &[u8]) {
    while !rest.is_empty() {
        match sys::send(socket, rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(Errno::AGAIN) => {
                let mut entry = [libc::pollfd { fd: socket, events: libc::POLLOUT, revents: 0 }];
                let _woken = sys::ppoll(&mut entry, None, std::ptr::null());
            }
            Err(Errno(libc::EINTR)) => {}
            // The program will hear of it on the socket.
            Err(_) => return,
        }
    }
}

fn refusal_of(answer: &[u8]) -> Refusal {
    let begins_with = |start: &[u8]| {
        answer.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
    };
    if begins_with(b"-ERR unknown command") {
        Refusal::Permanent
    } else if begins_with(b"-ERR SHM.OPEN:") {
        Refusal::Transient
    } else {
        Refusal::OfThisUser
    }
}
