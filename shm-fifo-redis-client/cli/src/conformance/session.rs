//! The server's side of the connection that is looked at: what the client says in order, on its
//! socket and later in the rings, and what it is answered.

use super::commands::{answer, bulk};
use super::offer::{OK, Offer, send_beside};
use super::request::{Words, parse};
use super::wire::{Ended, Wire, word, words};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

/// A client that has not asked for shared memory after so many commands never does.
const MOST_COMMANDS: usize = 400;
/// A client that has been refused goes on for so many.
const AFTER_A_REFUSAL: usize = 40;
const WHILE_IT_DOES_NOT_MATTER: usize = 10;
/// With a byte in it that is a doorbell elsewhere.
pub(super) const PUSH: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$7\r\ntra\0ked\r\n";
/// Long enough for what is not allowed to be seen.
const A_MOMENT: Duration = Duration::from_millis(20);

/// Why a scenario ended before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// What the client has done, and should not have.
    Fault(String),
    /// What it does not have that this is about.
    NotForIt(&'static str),
    /// This program could not go on.
    Error(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Error(error)
    }
}

impl From<Ended> for Stop {
    fn from(ended: Ended) -> Self {
        Self::Fault(ended.to_string())
    }
}

pub(super) type Played<T = ()> = Result<T, Stop>;

fn fault<T>(what: impl Into<String>) -> Played<T> {
    Err(Stop::Fault(what.into()))
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) wire: Wire,
    speaks_resp3: bool,
    /// The lengths of what the client is still to send back.
    lengths: Vec<usize>,
    /// What it was given, and has not sent back yet.
    given: Option<Vec<u8>>,
    /// The answer to `SHM.OPEN` where that is not what is waited for.
    no_offer: Vec<u8>,
}

impl Session {
    pub(super) fn new(wire: Wire) -> Self {
        Self {
            wire,
            speaks_resp3: false,
            lengths: Vec::new(),
            given: None,
            no_offer: b"-ERR SHM.OPEN: there was an offer before\r\n".to_vec(),
        }
    }

    /// Serves the client until it asks for shared memory. Returns the name of the socket on
    /// which it wants the descriptor, which it has on TCP and nowhere else.
    pub(super) fn until_open(&mut self) -> Played<Option<Vec<u8>>> {
        for _ in 0..MOST_COMMANDS {
            let words = self.request()?;
            if is(&words, "SHM.OPEN") {
                return self.fd_socket_in(words);
            }
            self.serve(&words)?;
        }
        fault(format!("it did not send SHM.OPEN in {MOST_COMMANDS} commands"))
    }

    fn fd_socket_in(&self, mut words: Words) -> Played<Option<Vec<u8>>> {
        let shown = words.join(&b' ').escape_ascii().to_string();
        let is_beside = words.len() == 4 && words[2].eq_ignore_ascii_case(b"FDSOCKET");
        let is_version = words.get(1).is_some_and(|word| word == b"2");
        if !is_version || is_beside != self.wire.is_tcp() || !is_beside && words.len() != 2 {
            return fault(format!("it sent {shown}"));
        }
        Ok(words.pop().filter(|_| is_beside))
    }

    /// Offers this memory.
    pub(super) fn offer(&mut self, offer: &Offer, fd_socket: Option<&[u8]>) -> Played {
        self.offer_as(&offer.fd, fd_socket, &offer.answer(fd_socket))
    }

    /// Sends that descriptor with this answer.
    pub(super) fn offer_as(
        &mut self,
        fd: &OwnedFd,
        fd_socket: Option<&[u8]>,
        answer: &[u8],
    ) -> Played {
        match fd_socket {
            None => self.wire.say_with(answer, fd.as_fd())?,
            Some(name) => {
                deliver(name, fd)?;
                self.wire.say(answer)?;
            }
        }
        Ok(())
    }

    /// Serves the client until it accepts the offer.
    pub(super) fn until_start(&mut self, offer: &Offer) -> Played {
        if self.starts_within(MOST_COMMANDS, offer)? {
            return Ok(());
        }
        fault(format!("it did not send SHM.START in {MOST_COMMANDS} commands"))
    }

    /// Whether the client accepts the offer while it sends so many commands.
    fn starts_within(&mut self, commands: usize, offer: &Offer) -> Played<bool> {
        for _ in 0..commands {
            let words = self.request()?;
            if is(&words, "SHM.START") {
                let token = offer.region.token().to_string();
                let is_token = words.len() == 2 && words[1] == token.as_bytes();
                return if is_token { Ok(true) } else { fault("its SHM.START has another token") };
            }
            self.serve(&words)?;
        }
        Ok(false)
    }

    /// Enters what was offered, if the client accepts it in time.
    pub(super) fn enter_if_it_starts(&mut self, offer: Offer) -> Played {
        if self.starts_within(AFTER_A_REFUSAL, &offer)? { self.enter(offer) } else { Ok(()) }
    }

    /// That the client has left that memory alone.
    pub(super) fn nothing_was_written(&self, offer: &Offer) -> Played {
        let tail = word(&File::from(offer.region.fd()?), words::REQUESTS_TAIL)?;
        if tail == 0 { Ok(()) } else { fault("it wrote into memory that is not the server's") }
    }

    /// All of a good move.
    pub(super) fn share(&mut self, ring_bytes: usize) -> Played {
        let fd_socket = self.until_open()?;
        let offer = Offer::make(ring_bytes)?;
        self.offer(&offer, fd_socket.as_deref())?;
        self.until_start(&offer)?;
        self.enter(offer)
    }

    /// Enters the rings, and says so there.
    pub(super) fn enter(&mut self, offer: Offer) -> Played {
        self.wire.enter(offer)?;
        self.no_offer = b"-ERR SHM.OPEN: this connection is in shared memory already\r\n".to_vec();
        Ok(self.wire.say(OK)?)
    }

    /// What a client has to keep to between `SHM.START` and its answer.
    pub(super) fn watch_it_wait(&mut self, offer: &Offer) -> Played {
        std::thread::sleep(A_MOMENT);
        if !self.wire.inbox.is_empty() || self.wire.has_something_on_socket() {
            return fault("it sent something on its socket behind SHM.START");
        }
        if !self.wire.is_client_parked(offer)? {
            return fault("it stored 0 in its consumer_parked before it heard the doorbell");
        }
        Ok(())
    }

    /// Refuses, whatever it asks for from now on.
    pub(super) fn refuse(&mut self, answer: &[u8]) -> Played {
        self.no_offer = answer.to_vec();
        Ok(self.wire.say(answer)?)
    }

    /// Has the client send back a value of each of these lengths.
    pub(super) fn exchange(&mut self, lengths: &[usize]) -> Played {
        self.lengths = lengths.iter().rev().copied().collect();
        while !self.lengths.is_empty() || self.given.is_some() {
            let words = self.request()?;
            self.serve(&words)?;
        }
        Ok(())
    }

    /// The same with some small ones, as after a refusal.
    pub(super) fn go_on(&mut self) -> Played {
        self.exchange(&[10; AFTER_A_REFUSAL])
    }

    /// Serves the client until it asks what it is to send back next. That is not answered.
    pub(super) fn until_it_waits(&mut self) -> Played {
        loop {
            let words = self.request()?;
            if is(&words, "GET") {
                return Ok(());
            }
            self.serve(&words)?;
        }
    }

    /// Answers that with a value of this length.
    pub(super) fn give(&mut self, length: usize) -> Played {
        self.give_value(pattern(length))
    }

    fn give_value(&mut self, value: Vec<u8>) -> Played {
        self.wire.say(&bulk(&value))?;
        self.given = Some(value);
        Ok(())
    }

    /// Leaves the last reply of all, over and over, in a ring of so many bytes, and one of them
    /// where the next reply will be.
    pub(super) fn fill_with_last_replies(&mut self, ring_bytes: usize) -> Played {
        const END: &[u8] = b"\r\n";
        self.until_it_waits()?;
        let last = self.last_reply();
        let length = 2 * ring_bytes;
        let next = length + END.len() - ring_bytes;
        let value = last.iter().copied().cycle().skip(last.len() - next % last.len());
        self.give_value(value.take(length).collect())?;
        self.exchange(&[])
    }

    /// Has the last reply said: there is nothing more to send back.
    pub(super) fn finish(&mut self) -> Played {
        self.until_it_waits()?;
        self.say_last_reply()
    }

    pub(super) fn say_last_reply(&mut self) -> Played {
        Ok(self.wire.say(self.last_reply())?)
    }

    fn last_reply(&self) -> &'static [u8] {
        if self.speaks_resp3 { b"_\r\n" } else { b"$-1\r\n" }
    }

    /// For what only a client that knows of pushes can be sent.
    pub(super) fn needs_pushes(&self) -> Played {
        if self.speaks_resp3 { Ok(()) } else { Err(Stop::NotForIt("it speaks RESP2")) }
    }

    /// Waits for the client to end the connection.
    pub(super) fn until_it_ends(&mut self) -> Played {
        self.wire.until_it_ends().or_else(|_| fault("it did not end the connection"))
    }

    fn request(&mut self) -> Played<Words> {
        loop {
            match parse(&self.wire.inbox) {
                Err(what) => return fault(format!("it sent {what}")),
                Ok(Some((words, bytes))) => {
                    self.wire.inbox.drain(..bytes);
                    if !words.is_empty() {
                        return Ok(words);
                    }
                }
                Ok(None) => self.wire.receive()?,
            }
        }
    }

    /// Answers whatever has nothing to do with moving.
    fn serve(&mut self, words: &Words) -> Played {
        if is(words, "HELLO") {
            self.speaks_resp3 = words.get(1).is_some_and(|version| version == b"3");
        }
        let reply = match &words[..] {
            [name, ..] if name.eq_ignore_ascii_case(b"SHM.OPEN") => self.no_offer.clone(),
            [name, ..] if name.eq_ignore_ascii_case(b"SHM.START") => {
                return fault("it sent SHM.START for what it must not use");
            }
            [name, key] if name.eq_ignore_ascii_case(b"GET") && key == b"next" => {
                let length = self.lengths.pop().unwrap_or(WHILE_IT_DOES_NOT_MATTER);
                return self.give(length);
            }
            [name, value] if name.eq_ignore_ascii_case(b"ECHO") => {
                if self.given.take().as_ref() != Some(value) {
                    return fault("it sent back something else than it was given");
                }
                bulk(value)
            }
            _ => answer(words, self.speaks_resp3),
        };
        Ok(self.wire.say(&reply)?)
    }
}

/// Sends a descriptor to the socket that a client on TCP has named.
pub(super) fn deliver(name: &[u8], fd: &OwnedFd) -> Played {
    let no_place =
        |error| format!("it named a socket for the descriptor, which does not take it: {error}");
    send_beside(name, fd).or_else(|error| fault(no_place(error)))
}

fn is(words: &Words, name: &str) -> bool {
    words[0].eq_ignore_ascii_case(name.as_bytes())
}

/// So many bytes, all of them among the longer ones.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + index / 257).to_le_bytes()[0]).collect()
}
