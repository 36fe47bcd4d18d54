//! Moving a connection while the program uses it: `docs/protocol.md`, as a machine
//! that never waits.
//!
//! `SHM.OPEN` is sent while no reply is outstanding. What the program writes meanwhile
//! goes on over the socket, behind it; its answer is the next reply and is taken out of
//! the stream. `SHM.START` is sent when again no reply is outstanding; from that moment
//! on the program's bytes go into the ring, where the server finds them when it has
//! started. So nothing that the program has written ever waits for its next call.

use crate::errno::Errno;
use crate::hidden::{Hidden, raised};
use crate::sys;
use crate::track::{ReplyScanner, Scanned};
use shm_fifo::doorbell::DOORBELL;
use shm_fifo::{Duplex, Region, fd_passing};
use shm_fifo_redis_client::wire::{FdSocket, open_command, start_command};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;

/// Pushes, and the answer, that may wait for a program which does not read. They were the
/// server's to hold on a socket; it ends a subscriber with fewer.
const MAX_KEPT_BYTES: usize = 64 << 20;
/// So many of them at a time: the program may read those before the rest.
const KEPT_AT_ONCE: usize = 64 << 10;
/// The server drops an offer that is not started within five seconds.
const MAX_OFFER_AGE_NS: u64 = 4_000_000_000;

/// What an answer comes to.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one for each connection, taken apart at once")]
pub(crate) enum Outcome {
    /// The server has not answered.
    Waiting,
    /// It made an offer, which is to be started at the next quiet moment.
    Offered,
    /// Everything goes on in here.
    Moved(Duplex),
    /// Everything goes on over the socket: first of all these bytes, which the server has
    /// not seen.
    Refused(Refusal, Vec<u8>),
}

/// Why a connection stays on its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The server does not know the command.
    NoModule,
    /// This user may not use it.
    NoPermission,
    /// Nobody may, who has not logged in.
    NotLoggedIn,
    /// A limit is reached, or it was not the moment.
    NotNow,
    /// The answer came without the memory's descriptor.
    NoDescriptor,
    /// The memory could not be mapped.
    NotAttached,
    /// The socket ended, or what came on it was no answer.
    Broken,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one for each connection")]
enum Stage {
    /// `SHM.OPEN` was sent.
    Opening,
    /// It was answered.
    Offered(Region),
    /// `SHM.START` was sent.
    Starting(Duplex),
    Over,
}

#[derive(Debug)]
pub(crate) struct Mover {
    stage: Stage,
    fd_socket: Option<Hidden<FdSocket>>,
    /// The descriptor that came last.
    received_fd: Option<Hidden<OwnedFd>>,
    replies: ReplyScanner,
    /// What came of a value.
    value: Vec<u8>,
    /// What came for the program.
    kept: Vec<u8>,
    opened_ns: u64,
}

impl Mover {
    /// Asks the server; `None` if it cannot be asked now.
    pub(crate) fn open(socket: RawFd, is_tcp: bool) -> Option<Self> {
        let fd_socket = if is_tcp { Some(fd_socket().ok()?) } else { None };
        let command = open_command(fd_socket.as_deref());
        // The socket is idle: so few bytes go whole or not at all.
        if sys::send(socket, &command) != Ok(command.len()) {
            return None;
        }
        Some(Self {
            stage: Stage::Opening,
            fd_socket,
            received_fd: None,
            replies: ReplyScanner::default(),
            value: Vec::new(),
            kept: Vec::new(),
            opened_ns: sys::monotonic_ns(),
        })
    }

    /// Whether an offer waits to be started.
    pub(crate) fn is_offered(&self) -> bool {
        matches!(self.stage, Stage::Offered(_))
    }

    /// Whether the server has dropped the offer by now.
    pub(crate) fn is_stale(&self) -> bool {
        sys::monotonic_ns().saturating_sub(self.opened_ns) > MAX_OFFER_AGE_NS
    }

    /// Accepts the offer. Returns whether it could.
    pub(crate) fn start(&mut self, socket: RawFd) -> bool {
        let Stage::Offered(region) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return false;
        };
        let command = start_command(region.token());
        self.stage = Stage::Starting(Duplex::new_unstarted(region.into_endpoint()));
        sys::send(socket, &command) == Ok(command.len())
    }

    /// The ring that the program writes into, once the server was told to start.
    pub(crate) fn ring(&self) -> Option<&Duplex> {
        match &self.stage {
            Stage::Starting(ring) => Some(ring),
            _ => None,
        }
    }

    /// Takes the server's answers off the socket, without waiting, and pushes before them. What
    /// follows an answer stays there: it is the program's, as are the bytes that are `unread`.
    pub(crate) fn advance(&mut self, socket: RawFd, unread: usize) -> Outcome {
        let mut chunk = [0; 1024];
        while self.kept.len() < KEPT_AT_ONCE {
            let there = match sys::peek(socket, &mut chunk) {
                Ok(0) => return self.refused(Refusal::Broken, socket),
                Ok(count) => &chunk[..count],
                Err(Errno(libc::EAGAIN | libc::EINTR)) => return Outcome::Waiting,
                // The program will hear of it on the socket.
                Err(_) => return self.refused(Refusal::Broken, socket),
            };
            // No value begins with a doorbell.
            if self.value.is_empty() && there[0] == DOORBELL {
                return self.enter(socket);
            }
            let Ok(Scanned { taken, value }) = self.replies.next(there) else {
                return self.refused(Refusal::Broken, socket);
            };
            let part = &there[..taken];
            self.value.extend_from_slice(part);
            if self.take(socket, taken).is_err() {
                return self.refused(Refusal::Broken, socket);
            }
            if unread + self.kept.len() + self.value.len() > MAX_KEPT_BYTES {
                // Nor may an answer come that nobody takes out any more.
                sys::shut_down(socket, libc::SHUT_RDWR);
                return self.refused(Refusal::Broken, socket);
            }
            let Some(kind) = value else { continue };
            let value = std::mem::take(&mut self.value);
            match kind {
                b'>' | b'|' | b'*' => self.kept.extend(value),
                _ => return self.answered(&value, socket),
            }
        }
        Outcome::Waiting
    }

    /// What came for the program.
    pub(crate) fn take_kept(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }

    /// Takes so many bytes off the socket, and the descriptor that comes with them.
    fn take(&mut self, socket: RawFd, mut count: usize) -> io::Result<()> {
        let mut seen = [0; 1024];
        while count > 0 {
            let (taken, fd) =
                fd_passing::recv_with_fd(socket, &mut seen[..count], libc::MSG_DONTWAIT)?;
            if taken == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            count -= taken;
            if let Some(fd) = fd {
                self.received_fd = Some(Hidden::new(raised(fd)));
            }
        }
        Ok(())
    }

    fn answered(&mut self, answer: &[u8], socket: RawFd) -> Outcome {
        match self.stage {
            Stage::Opening if answer == b"+OK\r\n" => match self.region() {
                Ok(region) => {
                    self.stage = Stage::Offered(region);
                    Outcome::Offered
                }
                Err(refusal) => self.refused(refusal, socket),
            },
            Stage::Opening => self.refused(refusal_of(answer), socket),
            // A server that has moved says so in the ring.
            _ if answer == b"+OK\r\n" => self.refused(Refusal::Broken, socket),
            _ => self.refused(Refusal::NotNow, socket),
        }
    }

    /// The offered memory.
    fn region(&mut self) -> Result<Region, Refusal> {
        let fd = match self.fd_socket.take() {
            Some(fd_socket) => fd_socket.take_fd(),
            None => self.received_fd.take().and_then(Hidden::take),
        };
        // Proxies strip descriptors.
        let fd = fd.ok_or(Refusal::NoDescriptor)?;
        Region::attach(fd).map_err(|_| Refusal::NotAttached)
    }

    /// The server has moved. Its answer is the first thing in the ring.
    fn enter(&mut self, socket: RawFd) -> Outcome {
        const ANSWER: &[u8] = b"+OK\r\n";
        let Stage::Starting(ring) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return self.refused(Refusal::Broken, socket);
        };
        ring.enter();
        let mut answer = [0; ANSWER.len()];
        let read = ring.read(socket, &mut answer).unwrap_or(0);
        if answer[..read] != *ANSWER {
            // Not our protocol: the program sees the end of its connection.
            ring.close(socket);
        }
        Outcome::Moved(ring)
    }

    /// Back to the socket, with all that came and was no answer.
    fn refused(&mut self, refusal: Refusal, socket: RawFd) -> Outcome {
        // The beginning of something that is no answer. That of an answer is none of the program's.
        if !matches!(self.value.first(), Some(b'+' | b'-')) {
            self.kept.append(&mut self.value);
        }
        let mut unread = Vec::new();
        if let Stage::Starting(ring) = std::mem::replace(&mut self.stage, Stage::Over) {
            let taken_back = ring.take_back(|bytes| {
                unread.extend_from_slice(bytes);
                Ok(bytes.len())
            });
            // Without an answer the server may still start, and read what is in the ring.
            if refusal == Refusal::Broken || taken_back.is_err() {
                // Not our protocol, or its end.
                ring.close(socket);
                return Outcome::Refused(Refusal::Broken, Vec::new());
            }
        }
        Outcome::Refused(refusal, unread)
    }
}

/// Sends it all: no more than a socket takes that was idle, so this waits in no case that is
/// known. Nor does it wait for long: locks are held. Returns whether all has gone, or the
/// socket has ended, of which the program will hear there.
pub(crate) fn flush(socket: RawFd, mut rest: &[u8]) -> bool {
    const LONGEST_NS: u64 = 100_000_000;
    let deadline_ns = sys::monotonic_ns() + LONGEST_NS;
    while !rest.is_empty() {
        match sys::send(socket, rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(Errno::AGAIN | Errno(libc::EINTR)) => {
                if sys::monotonic_ns() > deadline_ns {
                    return false;
                }
                sys::nap(1_000_000);
            }
            Err(_) => return true,
        }
    }
    true
}

/// The socket for the descriptor.
fn fd_socket() -> io::Result<Hidden<FdSocket>> {
    let socket = raised(UnixDatagram::unbound()?.into());
    FdSocket::on(socket.into()).map(Hidden::new)
}

fn refusal_of(answer: &[u8]) -> Refusal {
    let begins_with = |start: &[u8]| {
        answer.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
    };
    if begins_with(b"-ERR unknown command") {
        Refusal::NoModule
    } else if begins_with(b"-NOPERM") {
        Refusal::NoPermission
    } else if begins_with(b"-NOAUTH") {
        Refusal::NotLoggedIn
    } else {
        Refusal::NotNow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_first_words() {
        for (answer, refusal) in [
            (&b"-ERR unknown command 'SHM.OPEN', with args\r\n"[..], Refusal::NoModule),
            (b"-NOPERM this user has no permissions\r\n", Refusal::NoPermission),
            (b"-NOAUTH Authentication required.\r\n", Refusal::NotLoggedIn),
            (b"-ERR SHM.OPEN: 64 offers wait\r\n", Refusal::NotNow),
            (b"-LOADING Redis is loading\r\n", Refusal::NotNow),
        ] {
            assert_eq!(refusal_of(answer), refusal);
        }
    }
}
