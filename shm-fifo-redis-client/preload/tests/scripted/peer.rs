//! The server's side of one connection.
#![allow(unsafe_code)]

#[path = "../../../cli/src/conformance/offer.rs"]
mod offer;
#[path = "../../../cli/src/conformance/request.rs"]
mod request;

pub(crate) use offer::{OK, Offer};

use offer::send_beside;
use request::parse;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use shm_fifo::doorbell::LEAVE;
use shm_fifo::fd_passing::send_with_fd;
use shm_fifo::{Interest, duplex::Duplex};
use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

pub(crate) const PONG: &[u8] = b"+PONG\r\n";
/// With a byte in it that is a doorbell elsewhere.
pub(crate) const PUSH: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$7\r\ntra\0ked\r\n";

/// Far more than a socket takes.
const RING_BYTES: usize = 1 << 20;

/// Shared memory that a connection may move to.
pub(crate) fn make_offer() -> Offer {
    Offer::make(RING_BYTES).unwrap()
}

pub(crate) struct Peer {
    socket: OwnedFd,
    inbox: Vec<u8>,
    ring: Option<Duplex>,
}

impl Peer {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, inbox: Vec::new(), ring: None }
    }

    /// Answers pings until a request of this name comes, and returns its last word if it has
    /// more than two; `None` at the end.
    pub(crate) fn serve_to(&mut self, name: &[u8]) -> Option<Option<Vec<u8>>> {
        loop {
            let mut words = self.request()?;
            match &words[0][..] {
                b"PING" => self.say(PONG),
                known if known == name => return Some(words.pop().filter(|_| words.len() > 2)),
                other => panic!("the program sent {}", other.escape_ascii()),
            }
        }
    }

    /// The words of the next request.
    pub(crate) fn request(&mut self) -> Option<Vec<Vec<u8>>> {
        loop {
            if let Some((words, bytes)) = parse(&self.inbox).unwrap() {
                self.inbox.drain(..bytes);
                return Some(words);
            }
            let mut chunk = [0; 16 * 1024];
            match recv(&self.socket, &mut chunk, RecvFlags::empty()) {
                Ok((0, _)) | Err(_) => return None,
                Ok((count, _)) => self.inbox.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Sends it all; the program may have gone.
    pub(crate) fn say(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => bytes = &bytes[count..],
                Err(_) => return,
            }
        }
    }

    /// The same in two pieces: the second when the first was taken off the socket.
    pub(crate) fn say_cut(&self, bytes: &[u8], cut: usize) {
        let (first, second) = bytes.split_at(cut);
        self.say(first);
        self.wait_until_taken();
        self.say(second);
    }

    /// Says `before` and then `answer`, with which the descriptor comes, or before it beside
    /// the connection if it has a `name` there; all of it cut at that byte.
    pub(crate) fn offer(
        &self,
        offer: &Offer,
        name: Option<&[u8]>,
        before: &[u8],
        answer: &[u8],
        cut: usize,
    ) {
        self.say_cut(before, cut.min(before.len()));
        let (first, second) = answer.split_at(cut.saturating_sub(before.len()).max(1));
        match name {
            None => drop(send_with_fd(&self.socket, first, offer.fd.as_fd()).unwrap()),
            Some(name) => {
                send_beside(name, &offer.fd).unwrap();
                self.say(first);
            }
        }
        if cut > before.len() {
            self.wait_until_taken();
        }
        self.say(second);
    }

    /// By a unix socket: until the program's side has it all.
    fn wait_until_taken(&self) {
        let mut left: libc::c_int = 1;
        // The watchdog ends it.
        while left > 0 {
            // SAFETY: an int to write, as unix(7) has it.
            let asked =
                unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut left) };
            assert_eq!(asked, 0);
            std::thread::yield_now();
        }
    }

    /// Moves; `answer` is the first thing in the ring.
    pub(crate) fn enter(&mut self, offer: Offer, answer: &[u8]) {
        self.ring = Some(Duplex::new(offer.region.into_endpoint()));
        self.say_in_ring(answer);
    }

    pub(crate) fn say_in_ring(&self, bytes: &[u8]) {
        let ring = self.ring.as_ref().unwrap();
        // It is little.
        drop(ring.write(self.socket.as_raw_fd(), &[IoSlice::new(bytes)]));
    }

    /// Answers pings that come in the ring, until the program ends, or says so by `END`, or
    /// goes back to the socket, having read all: there it goes on so.
    pub(crate) fn serve_ring(&mut self) {
        while self.receive_from_ring() {
            while let Some((words, bytes)) = parse(&self.inbox).unwrap() {
                if words == [b"END"] {
                    return;
                }
                assert_eq!(words, [b"PING"]);
                self.inbox.drain(..bytes);
                self.say_in_ring(PONG);
            }
        }
        if self.ring.is_none() {
            self.serve_to(b"END");
        }
    }

    /// Says that nothing more will come.
    pub(crate) fn end_sending(&self) {
        match &self.ring {
            Some(ring) => ring.close_writing(self.socket.as_raw_fd()),
            None => shutdown(&self.socket, Shutdown::Write).unwrap(),
        }
    }

    /// Rings whenever the program has heard the last doorbell, to its end.
    pub(crate) fn ring_for_ever(&self) {
        while send(&self.socket, &[0], SendFlags::NOSIGNAL).is_ok() {
            self.wait_until_taken();
        }
    }

    /// Waits for something; `false` at the end.
    fn receive_from_ring(&mut self) -> bool {
        let ring = self.ring.as_ref().unwrap();
        let socket = self.socket.as_raw_fd();
        let mut chunk = [0; 16 * 1024];
        loop {
            match ring.read(socket, &mut chunk) {
                Ok(0) => return false,
                Ok(count) => {
                    self.inbox.extend_from_slice(&chunk[..count]);
                    return true;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            if ring.park(socket, Interest::READABLE, None) {
                wait_readable(&self.socket);
            }
            ring.unpark(Interest::READABLE);
            if self.has_left() {
                self.ring = None;
                self.say(&[LEAVE]);
                return false;
            }
            ring.listen(socket);
        }
    }

    /// Whether the last that the program has said on the socket is that it leaves the ring.
    fn has_left(&self) -> bool {
        let mut said = [0; 64];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let count = recv(&self.socket, &mut said, flags).map_or(0, |(count, _)| count);
        let has_left = said[..count].ends_with(&[LEAVE]);
        if has_left {
            recv(&self.socket, &mut said, RecvFlags::DONTWAIT).unwrap();
        }
        has_left
    }

    /// Reads what comes, to the end.
    pub(crate) fn wait_for_end(&self) {
        let mut chunk = [0; 1024];
        while recv(&self.socket, &mut chunk, RecvFlags::empty()).is_ok_and(|(count, _)| count > 0) {
        }
    }
}

fn wait_readable(socket: &OwnedFd) {
    poll(&mut [PollFd::new(socket, PollFlags::IN)], None).unwrap();
}
