//! One connection of a driver, on the server's side: requests are executed in order, once.

use super::offer::{self, Offer};
use super::outbox::{Outbox, Purpose, Step};
use super::request::{Request, parse};
use super::script::{Another, Open, Script, Start};
use super::transport::{Received, Transport};
use crate::journal::Journal;
use rustix::event::PollFlags;
use shm_fifo::{Interest, Region, doorbell::DOORBELL};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A request is behind `SHM.OPEN` for this long at most, where that waits for it.
const PATIENCE: Duration = Duration::from_millis(3);

/// Where `SHM.OPEN` and `SHM.START` have brought it.
#[derive(Debug)]
enum Phase {
    Socket,
    Offered(Region),
    Moved,
}

/// Why no further request is executed for the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    Until(Instant),
    /// Until the driver says so.
    Withheld,
    /// Until so many requests have come.
    Requests(usize, Instant),
}

/// What a connection has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests of the program.
    pub(crate) executed: u64,
    /// Their bytes, and those of the one that has not come whole.
    pub(crate) bytes_in: u64,
    /// Bytes of replies and pushes that went out.
    pub(crate) bytes_out: u64,
    /// Bytes of pushes that came with a move.
    pub(crate) script_bytes_out: u64,
    pub(crate) opens: u64,
    pub(crate) moved: bool,
    /// The program's end was seen.
    pub(crate) has_ended: bool,
    /// The server ended it, by its script.
    pub(crate) has_died: bool,
}

#[derive(Debug)]
pub(super) struct Connection {
    transport: Option<Transport>,
    is_tcp: bool,
    pub(super) id: Option<u64>,
    seed: u64,
    script: Script,
    phase: Phase,
    inbox: Vec<u8>,
    outbox: Outbox,
    blocked: Option<Blocked>,
    /// `SHM.START` is to be answered at the end of `blocked`.
    starting: bool,
    /// Nothing is read.
    pub(super) is_held: bool,
    increments: u64,
    pub(super) counts: Counts,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, is_tcp: bool, seed: u64) -> Self {
        Self {
            transport: Some(Transport::new(socket)),
            is_tcp,
            id: None,
            seed,
            script: Script::of(seed, 0),
            phase: Phase::Socket,
            inbox: Vec::new(),
            outbox: Outbox::default(),
            blocked: None,
            starting: false,
            is_held: false,
            increments: 0,
            counts: Counts::default(),
        }
    }

    pub(super) fn script(&self) -> Script {
        self.script
    }

    pub(super) fn is_open(&self) -> bool {
        self.transport.is_some()
    }

    /// Whether all that can be sent has been, and no request waits for its time.
    pub(super) fn is_quiet(&self) -> bool {
        let is_waiting = self.blocked.is_some_and(|blocked| blocked != Blocked::Withheld);
        !self.is_open() || !is_waiting && (self.outbox.is_done() || self.outbox.is_stuck())
    }

    /// Bytes that there was no room for.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_open() && self.outbox.is_stuck()
    }

    /// Receives, executes, sends. Returns whether anything happened; an error is a fault of
    /// the preloaded library, or of the driver.
    pub(super) fn turn(&mut self, journal: &Journal) -> Result<bool, String> {
        if self.transport.is_none() {
            return Ok(false);
        }
        let mut is_busy = self.send();
        is_busy |= self.unblock()?;
        let ended = self.receive(&mut is_busy);
        while self.blocked.is_none() && self.transport.is_some() && !self.is_held {
            // What is said on the socket about a move comes behind all that was said before.
            let Some(request) = parse(&self.inbox)? else { break };
            if is_about_moving(&request) && !self.outbox.is_empty() {
                break;
            }
            self.inbox.drain(..request.bytes);
            self.execute(&request, journal)?;
            is_busy = true;
        }
        is_busy |= self.send();
        if ended {
            // Nobody is there to say so any more.
            self.release_reply()?;
        }
        if ended && self.blocked.is_none() && self.transport.is_some() && self.outbox.is_empty() {
            self.counts.has_ended = true;
            self.close();
            return Ok(true);
        }
        Ok(is_busy)
    }

    fn receive(&mut self, is_busy: &mut bool) -> bool {
        let Some(transport) = &mut self.transport else { return false };
        // Behind SHM.START nothing comes on the socket.
        if self.is_held || self.starting {
            return false;
        }
        let before = self.inbox.len();
        let received = transport.receive(&mut self.inbox);
        self.counts.bytes_in += (self.inbox.len() - before) as u64;
        *is_busy |= received == Received::Some;
        received == Received::End
    }

    fn execute(&mut self, request: &Request, journal: &Journal) -> Result<(), String> {
        match request.name() {
            b"SHM.OPEN" => {
                self.counts.bytes_in -= request.bytes as u64;
                self.counts.opens += 1;
                if !self.id.is_some_and(|id| journal.was_seen_waiting(id)) {
                    return Err(format!("{self} moves, and was not seen waiting"));
                }
                self.open(request);
            }
            b"SHM.START" => {
                self.counts.bytes_in -= request.bytes as u64;
                self.start(request)?;
            }
            _ => {
                self.counts.executed += 1;
                self.answer(request)?;
            }
        }
        Ok(())
    }

    /// The program's own requests.
    fn answer(&mut self, request: &Request) -> Result<(), String> {
        match request.name() {
            b"ID" => {
                let id = request.number(1)?;
                self.id = Some(id);
                self.script = Script::of(self.seed, id);
                self.outbox.say("+OK\r\n");
            }
            b"PING" => self.outbox.say("+PONG\r\n"),
            b"INCR" => {
                self.increments += 1;
                self.outbox.say(format!(":{}\r\n", self.increments));
            }
            b"ECHO" | b"SET" => {
                let payload = request.words.last().ok_or("no payload")?;
                self.check(payload)?;
                if request.name() == b"SET" {
                    self.outbox.say("+OK\r\n");
                } else {
                    self.outbox.say(bulk(payload));
                }
            }
            b"GETRANGE" => self.outbox.say(bulk(&pattern(request.number(3)? + 1))),
            b"PIECES" => {
                let piece = usize::try_from(request.number(2)?).unwrap_or(1);
                self.outbox.say_in_pieces(&bulk(&pattern(request.number(1)?)), piece);
            }
            b"LATE" => {
                let time = Duration::from_micros(request.number(1)?);
                self.blocked = Some(Blocked::Until(Instant::now() + time));
                self.outbox.say("+LATE\r\n");
                self.outbox.hold();
            }
            b"WITHHOLD" => {
                self.blocked = Some(Blocked::Withheld);
                self.outbox.say("+WITHHELD\r\n");
                self.outbox.hold();
            }
            b"PUSHED" => {
                self.push(request.number(1)?);
                self.outbox.say("+PUSHED\r\n");
            }
            b"QUIT" => {
                self.outbox.say("+OK\r\n");
                self.outbox.then(Step::Close);
            }
            b"HALFQUIT" => {
                self.outbox.say("+OK\r\n");
                self.outbox.then(Step::EndSending);
            }
            _ => return Err(format!("{self} sent an unknown request: {request}")),
        }
        Ok(())
    }

    /// That a payload is the one of this connection's request with this number.
    fn check(&self, payload: &[u8]) -> Result<(), String> {
        let expected = format!("{}:{}:", self.id.unwrap_or(0), self.counts.executed - 1);
        let head = &payload[..payload.len().min(expected.len())];
        let rest = &payload[head.len()..];
        if head != expected.as_bytes() || *rest != pattern(rest.len() as u64) {
            let shown = payload[..payload.len().min(40)].escape_ascii();
            return Err(format!("{self} sent {shown}… instead of {expected}…"));
        }
        Ok(())
    }

    fn open(&mut self, request: &Request) {
        match self.script.open {
            Open::Answered | Open::InParts | Open::AmongPushes | Open::WithAnother(_) => {}
            Open::AfterMs(ms) => {
                self.blocked = Some(Blocked::Until(Instant::now() + Duration::from_millis(ms)));
            }
            Open::AfterRequests(count) => {
                self.blocked = Some(Blocked::Requests(count, Instant::now() + PATIENCE));
            }
            Open::Refused(error) => return self.outbox.answer(format!("{error}\r\n")),
            Open::WithoutDescriptor => return self.outbox.answer("+OK\r\n"),
            Open::Dies => return self.die(),
        }
        let name = request.words.get(3).map(Vec::as_slice);
        if self.script.open == Open::AmongPushes {
            self.outbox.script_push();
        }
        match self.script.open {
            Open::WithAnother(another) if another != Another::TwoRegions => {
                self.outbox.offer(offer::no_region(another), name, false);
            }
            _ => {
                let Ok(Offer { region, fd }) = Offer::make(self.script.ring_bytes) else {
                    return self.outbox.answer("-ERR SHM.OPEN: no memory\r\n");
                };
                self.phase = Phase::Offered(region);
                self.outbox.offer(fd, name, self.script.open == Open::InParts);
            }
        }
        if self.script.open == Open::AmongPushes {
            self.outbox.script_push();
        }
        if self.blocked.is_some() {
            self.outbox.hold();
        }
    }

    fn start(&mut self, request: &Request) -> Result<(), String> {
        let Phase::Offered(region) = &self.phase else {
            return Err(format!("{self} starts what was not offered"));
        };
        if request.words.get(1) != Some(&region.token().to_string().into_bytes()) {
            return Err(format!("{self} has the wrong token: {request}"));
        }
        self.starting = true;
        match self.script.start {
            Start::AfterMs(ms) | Start::RefusedAfterMs(ms) => {
                self.blocked = Some(Blocked::Until(Instant::now() + Duration::from_millis(ms)));
                Ok(())
            }
            Start::Dies => {
                self.die();
                Ok(())
            }
            _ => self.started(),
        }
    }

    /// Answers `SHM.START`.
    fn started(&mut self) -> Result<(), String> {
        self.starting = false;
        let Some(transport) = &mut self.transport else { return Ok(()) };
        let stray = transport.peek_socket();
        if !stray.is_empty() || !self.inbox.is_empty() {
            let stray = [&self.inbox[..], &stray].concat();
            return Err(format!("{self} sent {} behind SHM.START", stray.escape_ascii()));
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Socket);
        let Phase::Offered(region) = phase else { return Ok(()) };
        match self.script.start {
            Start::Refused | Start::RefusedAfterMs(_) => {
                self.outbox.answer("-ERR SHM.START: cannot move the connection; stay\r\n");
                return Ok(());
            }
            Start::BehindPushes => {
                // They go on the socket, before the doorbell.
                self.outbox.script_push();
                self.send();
            }
            _ => {}
        }
        let Some(transport) = &mut self.transport else { return Ok(()) };
        transport.enter(region).map_err(|error| format!("{self} cannot enter: {error}"))?;
        self.phase = Phase::Moved;
        self.counts.moved = true;
        self.outbox.answer("+OK\r\n");
        if self.script.start == Start::DiesLater {
            self.send();
            self.die();
        }
        Ok(())
    }

    /// Goes on with what was blocked, if it is time.
    fn unblock(&mut self) -> Result<bool, String> {
        let is_time = match self.blocked {
            None | Some(Blocked::Withheld) => false,
            Some(Blocked::Until(time)) => Instant::now() >= time,
            Some(Blocked::Requests(count, time)) => {
                Instant::now() >= time || requests_in(&self.inbox)? >= count
            }
        };
        if is_time {
            self.go_on()?;
        }
        Ok(is_time)
    }

    fn go_on(&mut self) -> Result<(), String> {
        self.blocked = None;
        self.outbox.release();
        if self.starting { self.started() } else { Ok(()) }
    }

    /// Executes what was withheld.
    pub(super) fn release_reply(&mut self) -> Result<(), String> {
        if self.blocked == Some(Blocked::Withheld) { self.go_on() } else { Ok(()) }
    }

    /// Sends a message that nobody asked for.
    pub(super) fn push(&mut self, bytes: u64) {
        let payload = String::from_utf8(bulk(&pattern(bytes))).unwrap_or_default();
        self.outbox.say(format!(">2\r\n$4\r\nPUSH\r\n{payload}"));
    }

    fn die(&mut self) {
        self.counts.has_died = true;
        self.close();
    }

    pub(super) fn close(&mut self) {
        self.outbox = Outbox::default();
        if let Some(transport) = self.transport.take() {
            let _no_copies = super::NO_COPIES.read();
            transport.close();
        }
    }

    pub(super) fn end_sending(&mut self) {
        self.outbox.then(Step::EndSending);
    }

    fn send(&mut self) -> bool {
        let mut is_busy = false;
        while let Some(transport) = &mut self.transport {
            match self.outbox.send(transport) {
                Ok(Some(Step::Close)) => self.close(),
                Ok(Some(Step::EndSending)) => transport.end_sending(),
                Ok(Some(Step::Sent { bytes, purpose })) => {
                    match purpose {
                        Purpose::Reply => self.counts.bytes_out += bytes as u64,
                        Purpose::ScriptPush => self.counts.script_bytes_out += bytes as u64,
                        Purpose::Move => {}
                    }
                    // The next piece goes in the next turn.
                    if self.outbox.is_in_pieces() {
                        return true;
                    }
                }
                Ok(None) => return is_busy,
                // The program has gone.
                Err(_) => {
                    self.outbox = Outbox::default();
                    return true;
                }
            }
            is_busy = true;
        }
        is_busy
    }

    /// When it goes on by itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.blocked? {
            Blocked::Withheld => None,
            Blocked::Until(time) | Blocked::Requests(_, time) => Some(time),
        }
    }

    /// What it sleeps for, after having said so. `None` if there is something to do.
    pub(super) fn park(&self) -> Option<Option<(BorrowedFd<'_>, PollFlags)>> {
        let Some(transport) = &self.transport else { return Some(None) };
        let readable = !self.is_held && !self.starting;
        let writable = self.outbox.is_stuck();
        if !transport.park(Interest { readable, writable }) {
            return None;
        }
        let mut events = PollFlags::empty();
        if readable || transport.has_moved() && writable {
            events |= PollFlags::IN;
        }
        if writable && !transport.has_moved() {
            events |= PollFlags::OUT;
        }
        Some(Some((transport.socket(), events)))
    }

    pub(super) fn unpark(&self) {
        if let Some(transport) = &self.transport {
            transport.unpark();
        }
    }
}

impl std::fmt::Display for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_tcp { "TCP" } else { "unix" };
        write!(
            f,
            "connection {} ({kind}, {:?}, {:?})",
            self.id.unwrap_or(0),
            self.script,
            self.counts
        )
    }
}

fn is_about_moving(request: &Request) -> bool {
    request.name().starts_with(b"SHM.")
}

fn requests_in(mut bytes: &[u8]) -> Result<usize, String> {
    let mut count = 0;
    while let Some(request) = parse(bytes)? {
        bytes = &bytes[request.bytes..];
        count += 1;
    }
    Ok(count)
}

fn bulk(payload: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", payload.len()).as_bytes(), payload, b"\r\n"].concat()
}

/// The bytes that all payloads have, as in `driver/command.c`.
pub(super) fn pattern(length: u64) -> Vec<u8> {
    (0..length).map(|at| b'a' + u8::try_from((at + at / 251) % 26).unwrap_or(0)).collect()
}

const _: () = assert!(DOORBELL == 0);
