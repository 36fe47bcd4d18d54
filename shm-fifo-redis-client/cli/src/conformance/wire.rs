//! What carries the bytes of the connection that is looked at: its socket, then the rings.

use super::offer::Offer;
use super::program::is_ready;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use shm_fifo::doorbell::{DOORBELL, LEAVE};
use shm_fifo::duplex::Duplex;
use shm_fifo::{Interest, fd_passing};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// Words of the region (`docs/layout.md`): of the header of what the client writes, and of what
/// it reads.
pub(super) mod words {
    const TO_CREATOR: u64 = 1024;
    const TO_ATTACHER: u64 = 1536;
    const TAIL: u64 = 56;
    const PRODUCER_LEAVES: u64 = 68;
    const HEAD: u64 = 128;
    const CONSUMER_PARKED: u64 = 256;

    pub(in super::super) const REQUESTS_TAIL: u64 = TO_CREATOR + TAIL;
    pub(in super::super) const REQUESTS_HEAD: u64 = TO_CREATOR + HEAD;
    pub(in super::super) const REPLIES_KEY: u64 = TO_ATTACHER;
    pub(in super::super) const REPLIES_TAIL: u64 = TO_ATTACHER + TAIL;
    pub(super) const REQUESTS_LEAVES: u64 = TO_CREATOR + PRODUCER_LEAVES;
    pub(super) const REPLIES_HEAD: u64 = TO_ATTACHER + HEAD;
    pub(super) const REPLIES_PARKED: u64 = TO_ATTACHER + CONSUMER_PARKED;
}

const BETWEEN_PIECES: Duration = Duration::from_millis(1);

/// How the client ended the conversation, where it was to go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("it ended the connection")]
    Closed,
    #[error("it does not go on: nothing came")]
    Silent,
    #[error("it wrote into the ring, and did not ring a server that sleeps")]
    DidNotRingForData,
    #[error("it read, and did not ring a server that sleeps for space")]
    DidNotRingForSpace,
    #[error("it left the rings, and did not say so in producer_leaves")]
    LeftInSilence,
    #[error("it sent the byte {0:#04x} on its socket in place of a doorbell")]
    NoDoorbell(u8),
}

#[derive(Debug)]
pub(super) struct Wire {
    socket: OwnedFd,
    is_tcp: bool,
    deadline: Instant,
    rings: Option<Rings>,
    /// What has come and was not taken.
    pub(super) inbox: Vec<u8>,
    /// A reply goes in pieces of so many bytes.
    pub(super) piece_bytes: usize,
    /// How many doorbells there are for nothing, before each piece.
    pub(super) spare_doorbells: usize,
    /// Doorbells are left on the socket.
    pub(super) is_deaf: bool,
}

#[derive(Debug)]
struct Rings {
    duplex: Duplex,
    file: File,
    /// What was written last, as much as may be unread, and how much in all.
    last: Vec<u8>,
    written: u64,
}

impl Wire {
    pub(super) fn new(socket: OwnedFd, is_tcp: bool, deadline: Instant) -> Self {
        Self {
            socket,
            is_tcp,
            deadline,
            rings: None,
            inbox: Vec::new(),
            piece_bytes: usize::MAX,
            spare_doorbells: 0,
            is_deaf: false,
        }
    }

    pub(super) fn is_tcp(&self) -> bool {
        self.is_tcp
    }

    pub(super) fn enter(&mut self, offer: Offer) -> io::Result<()> {
        let duplex = Duplex::new(offer.region.into_endpoint());
        self.rings = Some(Rings { duplex, file: offer.fd.into(), last: Vec::new(), written: 0 });
        Ok(())
    }

    /// Sends all of it.
    pub(super) fn say(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        for piece in bytes.chunks(self.piece_bytes) {
            if self.rings.is_some() {
                self.ring(self.spare_doorbells);
            } else if self.piece_bytes < bytes.len() {
                // Or the kernel would put it together again.
                std::thread::sleep(BETWEEN_PIECES);
            }
            self.say_piece(piece)?;
        }
        Ok(())
    }

    fn say_piece(&mut self, mut bytes: &[u8]) -> Result<(), Ended> {
        while !bytes.is_empty() {
            let written = match &mut self.rings {
                None => send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
                    .map_err(io::Error::from),
                Some(rings) => rings.write(&self.socket, bytes),
            };
            match written {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_for_space()?,
                Err(_) => return Err(Ended::Closed),
            }
        }
        Ok(())
    }

    /// Sends all of it on the socket, and a descriptor with its first bytes.
    pub(super) fn say_with(&mut self, bytes: &[u8], fd: BorrowedFd<'_>) -> Result<(), Ended> {
        let first = &bytes[..bytes.len().min(self.piece_bytes)];
        let sent = fd_passing::send_with_fd(&self.socket, first, fd).map_err(|_| Ended::Closed)?;
        self.say(&bytes[sent..])
    }

    /// Sends it on the socket, whatever that carries.
    pub(super) fn say_on_socket(&self, bytes: &[u8]) {
        // Whether the client is still there is seen by what it does.
        let _: Result<usize, Errno> =
            send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    /// Rings so often, whether the client sleeps or not.
    pub(super) fn ring(&self, doorbells: usize) {
        self.say_on_socket(&vec![DOORBELL; doorbells]);
    }

    /// Waits for more of what the client says.
    pub(super) fn receive(&mut self) -> Result<(), Ended> {
        let mut chunk = [0; 16 * 1024];
        let before = self.inbox.len();
        while self.inbox.len() == before {
            let received = match &self.rings {
                None => recv(&self.socket, &mut chunk, RecvFlags::DONTWAIT)
                    .map(|(count, _)| count)
                    .map_err(io::Error::from),
                Some(rings) => rings.duplex.read(self.socket.as_raw_fd(), &mut chunk),
            };
            match received {
                Ok(0) => return Err(Ended::Closed),
                Ok(count) => self.inbox.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_for_data()?,
                Err(_) => return Err(Ended::Closed),
            }
        }
        Ok(())
    }

    fn wait_for_data(&mut self) -> Result<(), Ended> {
        self.wait(PollFlags::IN, Interest::READABLE, Ended::DidNotRingForData)
    }

    fn wait_for_space(&mut self) -> Result<(), Ended> {
        self.wait(PollFlags::OUT, Interest::WRITABLE, Ended::DidNotRingForSpace)
    }

    /// Sleeps on the socket for what it becomes ready for, or in the rings as a server does that
    /// wants to be rung. Where what it sleeps for is there at the end, nobody has.
    fn wait(&mut self, flags: PollFlags, interest: Interest, not_rung: Ended) -> Result<(), Ended> {
        let Some(rings) = &self.rings else {
            return if self.poll(flags) { Ok(()) } else { Err(Ended::Silent) };
        };
        let socket = self.socket.as_raw_fd();
        let has_news = !rings.duplex.park(socket, interest, None) || self.poll(PollFlags::IN);
        let is_there = rings.duplex.is_ready(interest);
        rings.duplex.unpark(interest);
        match has_news {
            true if self.is_deaf => Ok(()),
            true => self.hear_doorbells(),
            false if is_there => Err(not_rung),
            false => Err(Ended::Silent),
        }
    }

    /// Takes what is on the socket of a connection in the rings. A client that leaves them is
    /// answered as `docs/protocol.md`, "The way back", has it.
    fn hear_doorbells(&mut self) -> Result<(), Ended> {
        let mut byte = [0];
        while let Ok((count, _)) = recv(&self.socket, &mut byte, RecvFlags::DONTWAIT) {
            match byte[0] {
                // What it has written before its end is read first.
                _ if count == 0 => {
                    let rings =
                        self.rings.as_ref().filter(|rings| rings.duplex.available_bytes() > 0);
                    return rings.map(|_| ()).ok_or(Ended::Closed);
                }
                DOORBELL => {}
                LEAVE => return self.leave(),
                other => return Err(Ended::NoDoorbell(other)),
            }
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Ended> {
        let Some(rings) = self.rings.take() else { return Ok(()) };
        if !is_set(&rings.file, words::REQUESTS_LEAVES).unwrap_or(false) {
            return Err(Ended::LeftInSilence);
        }
        let mut chunk = [0; 16 * 1024];
        while let Ok(count @ 1..) = rings.duplex.read(self.socket.as_raw_fd(), &mut chunk) {
            self.inbox.extend_from_slice(&chunk[..count]);
        }
        let unread = rings.unread().map_err(|_| Ended::Closed)?;
        self.say(&[&[LEAVE], unread].concat())
    }

    /// Whether the client has said something on its socket that was not taken.
    pub(super) fn has_something_on_socket(&self) -> bool {
        let peeked = recv(&self.socket, &mut [0], RecvFlags::DONTWAIT | RecvFlags::PEEK);
        peeked.is_ok_and(|(count, _)| count > 0)
    }

    /// Whether it is announced as asleep in what was offered to it.
    pub(super) fn is_client_parked(&self, offer: &Offer) -> io::Result<bool> {
        is_set(&File::from(offer.region.fd()?), words::REPLIES_PARKED)
    }

    /// Takes the client's announcement back, and does not ring: what is written next it does not
    /// hear of.
    pub(super) fn keep_it_asleep(&self) -> io::Result<()> {
        let Some(rings) = &self.rings else { return Ok(()) };
        rings.file.write_all_at(&[0; 4], words::REPLIES_PARKED)
    }

    /// Writes a word of the shared memory, as the server must not.
    pub(super) fn scribble(&self, offset: u64, value: impl FnOnce(u64) -> u64) -> io::Result<()> {
        let Some(rings) = &self.rings else { return Ok(()) };
        let value = value(word(&rings.file, offset)?);
        rings.file.write_all_at(&value.to_ne_bytes(), offset)
    }

    /// How many bytes the client was sent in the rings.
    pub(super) fn said_in_rings(&self) -> u64 {
        self.rings.as_ref().map_or(0, |rings| rings.written)
    }

    /// Says that nothing more comes.
    pub(super) fn end_sending(&self) {
        match &self.rings {
            Some(rings) => rings.duplex.close_writing(self.socket.as_raw_fd()),
            None => self.shutdown(Shutdown::Write),
        }
    }

    /// Ends it as a server does that closes a connection.
    pub(super) fn close(&self) {
        if let Some(rings) = &self.rings {
            rings.duplex.close(self.socket.as_raw_fd());
        }
        self.shutdown(Shutdown::Both);
    }

    /// Ends it as the kernel does for a server that is killed: something else is in the socket's
    /// place from now on.
    pub(super) fn die(&mut self) -> io::Result<()> {
        self.socket = io::pipe()?.0.into();
        Ok(())
    }

    fn shutdown(&self, how: Shutdown) {
        // It fails where the client has ended it, which is what is wanted.
        let _: Result<(), Errno> = shutdown(&self.socket, how);
    }

    /// Takes what comes on the socket until that ends.
    pub(super) fn until_it_ends(&self) -> Result<(), Ended> {
        let mut chunk = [0; 1024];
        loop {
            if !self.poll(PollFlags::IN) {
                return Err(Ended::Silent);
            }
            match recv(&self.socket, &mut chunk, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Ok(()),
                Ok(_) | Err(Errno::AGAIN) => {}
                Err(_) => return Ok(()),
            }
        }
    }

    /// Waits for the socket until the deadline; whether it is ready.
    fn poll(&self, flags: PollFlags) -> bool {
        is_ready(&mut [PollFd::new(&self.socket, flags)], self.deadline)
    }
}

impl Rings {
    fn write(&mut self, socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
        let count = self.duplex.write(socket.as_raw_fd(), &[IoSlice::new(bytes)])?;
        self.written += count as u64;
        self.last.extend_from_slice(&bytes[..count]);
        let ring_bytes = usize::try_from(self.file.metadata()?.len()).unwrap_or(0) / 2;
        self.last.drain(..self.last.len().saturating_sub(ring_bytes));
        Ok(count)
    }

    /// What the client has not read, as its head says.
    fn unread(&self) -> io::Result<&[u8]> {
        let head = word(&self.file, words::REPLIES_HEAD)?;
        let unread = usize::try_from(self.written.wrapping_sub(head));
        let from = unread.ok().and_then(|unread| self.last.len().checked_sub(unread));
        from.map(|from| &self.last[from..]).ok_or_else(|| ErrorKind::InvalidData.into())
    }
}

/// A word of shared memory, by its file.
pub(super) fn word(file: &File, offset: u64) -> io::Result<u64> {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, offset)?;
    Ok(u64::from_ne_bytes(word))
}

/// Whether a word of four bytes there is not 0.
fn is_set(file: &File, offset: u64) -> io::Result<bool> {
    let mut word = [0; 4];
    file.read_exact_at(&mut word, offset)?;
    Ok(word != [0; 4])
}
