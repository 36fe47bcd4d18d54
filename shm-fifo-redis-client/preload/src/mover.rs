//! Moving a connection while the program uses it: `docs/protocol.md`, without waiting.
//!
//! `SHM.OPEN` is sent while no reply is outstanding. What the program writes meanwhile
//! goes on over the socket, behind it; its answer is the next reply and is taken out of
//! the stream. `SHM.START` is sent when again no reply is outstanding; from that moment
//! on the program's bytes go into the ring, where the server finds them when it has
//! started. So nothing that the program has written ever waits for its next call.
//!
//! What the server's bytes mean, the [`Handshake`] of the other clients knows. It is shown
//! what is on the socket; what it takes is then received, and the rest is the program's.

use crate::errno::Errno;
use crate::hidden::{Hidden, raised};
use crate::sys;
use shm_fifo::{Region, duplex::Duplex};
use shm_fifo_redis_client::Refusal;
use shm_fifo_redis_client::wire::{Event, FdSocket, Handshake, ReplyScanner, RingAnswer};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;

/// Pushes that may wait for a program which does not read. They were the
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
    /// The socket has ended, or what came on it was no answer.
    Broken,
}

#[derive(Debug)]
pub(crate) struct Mover {
    handshake: Handshake,
    fd_socket: Option<Hidden<FdSocket>>,
    /// The descriptor that came last.
    received_fd: Option<Hidden<OwnedFd>>,
    /// The memory of an offer that is to be started.
    offered: Option<Region>,
    /// What the program writes into, once the server was told to start.
    ring: Option<Duplex>,
    /// What came for the program.
    kept: Vec<u8>,
    opened_ns: u64,
}

impl Mover {
    /// Asks the server; `None` if it cannot be asked now.
    pub(crate) fn open(socket: RawFd, is_tcp: bool) -> Option<Self> {
        let fd_socket = if is_tcp { Some(fd_socket().ok()?) } else { None };
        let (handshake, command) = Handshake::begin(fd_socket.as_deref(), ReplyScanner::default());
        // The socket is idle: so few bytes go whole or not at all.
        if sys::send(socket, &command) != Ok(command.len()) {
            return None;
        }
        Some(Self {
            handshake,
            fd_socket,
            received_fd: None,
            offered: None,
            ring: None,
            kept: Vec::new(),
            opened_ns: sys::monotonic_ns(),
        })
    }

    /// Whether an offer waits to be started.
    pub(crate) fn is_offered(&self) -> bool {
        self.offered.is_some()
    }

    /// Whether the server has dropped the offer by now.
    pub(crate) fn is_stale(&self) -> bool {
        sys::monotonic_ns().saturating_sub(self.opened_ns) > MAX_OFFER_AGE_NS
    }

    /// Accepts the offer. Returns whether it could.
    pub(crate) fn start(&mut self, socket: RawFd) -> bool {
        let Some(region) = self.offered.take() else { return false };
        let (command, endpoint) = self.handshake.start(region);
        self.ring = Some(Duplex::new_unstarted(endpoint));
        sys::send(socket, &command) == Ok(command.len())
    }

    /// The ring that the program writes into, once the server was told to start.
    pub(crate) fn ring(&self) -> Option<&Duplex> {
        self.ring.as_ref()
    }

    /// Takes the server's answers off the socket, without waiting, and what comes before them.
    /// What follows an answer stays there: it is the program's, as are the bytes that are
    /// `unread`.
    pub(crate) fn advance(&mut self, socket: RawFd, unread: usize) -> Outcome {
        let mut chunk = [0; 1024];
        while self.kept.len() < KEPT_AT_ONCE {
            let there = match sys::peek(socket, &mut chunk) {
                Ok(count @ 1..) => &chunk[..count],
                Err(Errno(libc::EAGAIN | libc::EINTR)) => return Outcome::Waiting,
                // The program will hear of it on the socket.
                _ => return self.ended(socket),
            };
            let mut rest = there;
            let understood = self.handshake.next(&mut rest);
            let taken = self.take(socket, there.len() - rest.len());
            let (Ok(event), Ok(())) = (understood, taken) else { return self.broken(socket) };
            match event {
                // The beginning of an answer.
                None => {}
                Some(Event::Program(part)) => self.kept.extend_from_slice(part),
                Some(Event::Offered) => return self.offered(socket),
                Some(Event::Moved(answer)) => return self.enter(answer, socket),
                Some(Event::Refused(refusal)) => return self.refused(refusal, socket),
            }
            if unread + self.kept.len() > MAX_KEPT_BYTES {
                return self.broken(socket);
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
            let (taken, fd) = sys::receive_with_fd(socket, &mut seen[..count])?;
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

    fn offered(&mut self, socket: RawFd) -> Outcome {
        let fd = match self.fd_socket.take() {
            Some(fd_socket) => fd_socket.take_fd(),
            None => self.received_fd.take().and_then(Hidden::take),
        };
        match self.handshake.attach(fd) {
            Ok(region) => {
                self.offered = Some(region);
                Outcome::Offered
            }
            Err(refusal) => self.refused(refusal, socket),
        }
    }

    /// The server has moved. Its answer is the first thing in the ring.
    fn enter(&mut self, mut answer: RingAnswer, socket: RawFd) -> Outcome {
        let Some(ring) = self.ring.take() else { return self.broken(socket) };
        ring.enter();
        let mut bytes = [0; 8];
        let room = bytes.len().min(answer.left_bytes());
        let read = ring.read(socket, &mut bytes[..room]).unwrap_or(0);
        if answer.receive(&bytes[..read]).is_err() || answer.left_bytes() > 0 {
            // Not our protocol: the program sees the end of its connection.
            ring.close(socket);
        }
        Outcome::Moved(ring)
    }

    /// Back to the socket, with what the program has written into the ring.
    fn refused(&mut self, refusal: Refusal, socket: RawFd) -> Outcome {
        let mut unread = Vec::new();
        let Some(ring) = &self.ring else { return Outcome::Refused(refusal, unread) };
        let taken_back = ring.take_back(|bytes| {
            unread.extend_from_slice(bytes);
            Ok(bytes.len())
        });
        match taken_back {
            Ok(()) => Outcome::Refused(refusal, unread),
            // It has read some.
            Err(_) => self.broken(socket),
        }
    }

    /// Not our protocol: the program sees the end of its connection. Nor may an answer come
    /// that nobody takes out of the stream any more.
    fn broken(&mut self, socket: RawFd) -> Outcome {
        if self.ring.is_none() {
            sys::shut_down(socket, libc::SHUT_RDWR);
        }
        self.ended(socket)
    }

    /// Without an answer the server may still start, and read what is in the ring.
    fn ended(&mut self, socket: RawFd) -> Outcome {
        if let Some(ring) = self.ring.take() {
            ring.close(socket);
        }
        Outcome::Broken
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
