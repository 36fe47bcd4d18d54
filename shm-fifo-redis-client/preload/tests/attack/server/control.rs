//! The driver's own way to the server, past all hooks: frames of 32 bytes, each answered by
//! one of 64. `driver/control.h` has their layout.

use super::connection::Connection;
use super::script::{Open, Start};
use rustix::event::{PollFd, PollFlags};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

const FRAME: usize = 32;
const ANSWER: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Frame {
    operation: u64,
    id: u64,
    a: u64,
    b: u64,
}

#[derive(Debug)]
pub(super) struct Control {
    listener: UnixListener,
    /// What was written reaches the server in that time, however busy the machine is.
    patience: Duration,
    streams: Vec<Stream>,
    /// What is to be done later.
    later: Vec<(Instant, Frame)>,
}

#[derive(Debug)]
struct Stream {
    stream: UnixStream,
    is_open: bool,
    waiting: Option<(Instant, Frame)>,
}

// Operations.
const SYNC: u64 = 1;
const HOLD: u64 = 2;
const RELEASE: u64 = 3;
const PUSH: u64 = 4;
const CLOSE: u64 = 5;
const END_SENDING: u64 = 6;
const RELEASE_REPLY: u64 = 7;
const WAIT_FOR_END: u64 = 8;
/// It is done after `b` microseconds; the answer comes at once.
const LATER: u64 = 0x100;
/// Nothing is waited for.
const AT_ONCE: u64 = 0x200;

// What an answer says.
const IS_CLOSED: u64 = 1;
const HAS_MOVED: u64 = 2;
const IS_STUCK: u64 = 4;
const MAY_DIE: u64 = 8;
const MAY_PUSH: u64 = 16;
const REFUSES_START: u64 = 32;
const IN_VAIN: u64 = 64;
const HAS_FAULT: u64 = 128;
const PUSHES: u64 = 256;

impl Control {
    pub(super) fn new(listener: UnixListener, patience: Duration) -> Self {
        Self { listener, patience, streams: Vec::new(), later: Vec::new() }
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let streams = self.streams.iter().map(|stream| stream.stream.as_fd());
        [self.listener.as_fd()]
            .into_iter()
            .chain(streams)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let waiting = self.streams.iter().filter_map(|stream| Some(stream.waiting?.0));
        self.later.iter().map(|&(time, _)| time).chain(waiting).min()
    }

    pub(super) fn turn(
        &mut self,
        connections: &mut [Connection],
        faults: &mut Vec<String>,
    ) -> bool {
        let mut is_busy = false;
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                self.streams.push(Stream { stream, is_open: true, waiting: None });
            }
        }
        let now = Instant::now();
        for (_, frame) in self.later.extract_if(.., |&mut (time, _)| time <= now) {
            act(frame, connections, faults);
            is_busy = true;
        }
        for index in 0..self.streams.len() {
            let stream = &mut self.streams[index];
            if stream.waiting.is_none() {
                let Some(frame) = stream.receive() else { continue };
                let patience =
                    if frame.operation & AT_ONCE == 0 { self.patience } else { Duration::ZERO };
                stream.waiting = Some((now + patience, frame));
                if frame.operation & LATER != 0 {
                    let time = now + Duration::from_micros(frame.b);
                    let operation = frame.operation & !LATER;
                    self.later.push((time, Frame { operation, ..frame }));
                } else {
                    act(frame, connections, faults);
                }
                is_busy = true;
            }
            let Some((deadline, frame)) = stream.waiting else { continue };
            let connection = connections.iter().find(|connection| connection.id == Some(frame.id));
            let is_done = is_done(frame, connection);
            if is_done || now >= deadline || !faults.is_empty() {
                stream.waiting = None;
                stream.answer(connection, !is_done, !faults.is_empty());
                is_busy = true;
            }
        }
        self.streams.retain(|stream| stream.is_open);
        is_busy
    }
}

fn act(frame: Frame, connections: &mut [Connection], faults: &mut Vec<String>) {
    let mut of_it = connections.iter_mut().filter(|connection| connection.id == Some(frame.id));
    let Some(connection) = of_it.next() else { return };
    match frame.operation & !AT_ONCE {
        HOLD => connection.is_held = true,
        RELEASE => connection.is_held = false,
        PUSH => connection.push(frame.a),
        CLOSE => connection.close(),
        END_SENDING => connection.end_sending(),
        RELEASE_REPLY => faults.extend(connection.release_reply().err()),
        _ => {}
    }
}

/// Whether what the frame asks for has come true.
fn is_done(frame: Frame, connection: Option<&Connection>) -> bool {
    match (frame.operation & !AT_ONCE, connection) {
        (WAIT_FOR_END, None) => true,
        (WAIT_FOR_END, Some(connection)) => !connection.is_open(),
        (SYNC, None) => false,
        (SYNC, Some(connection)) => {
            let has_come =
                connection.counts.bytes_in >= frame.a && connection.counts.executed >= frame.b;
            !connection.is_open() || has_come && connection.is_quiet()
        }
        _ => true,
    }
}

impl Stream {
    fn receive(&mut self) -> Option<Frame> {
        let mut bytes = [0; FRAME];
        match self.stream.read(&mut bytes) {
            // A frame comes whole: it is sent by one call.
            Ok(FRAME) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            _ => {
                self.is_open = false;
                return None;
            }
        }
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        Some(Frame { operation: word(0), id: word(1), a: word(2), b: word(3) })
    }

    fn answer(&mut self, connection: Option<&Connection>, in_vain: bool, has_fault: bool) {
        let mut flags = 0;
        let mut words = [0; ANSWER / 8];
        if in_vain {
            flags |= IN_VAIN;
        }
        if has_fault {
            flags |= HAS_FAULT;
        }
        match connection {
            None => flags |= IS_CLOSED,
            Some(connection) => {
                let (counts, script) = (connection.counts, connection.script());
                let dies = script.open == Open::Dies
                    || matches!(script.start, Start::Dies | Start::DiesLater);
                let pushes =
                    script.open == Open::AmongPushes || script.start == Start::BehindPushes;
                let refuses = matches!(script.start, Start::Refused | Start::RefusedAfterMs(_));
                let all = [
                    (!connection.is_open(), IS_CLOSED),
                    (counts.moved, HAS_MOVED),
                    (connection.is_stuck(), IS_STUCK),
                    (dies, MAY_DIE),
                    (pushes, PUSHES),
                    (pushes && !counts.moved, MAY_PUSH),
                    (refuses, REFUSES_START),
                ];
                flags |= all.iter().filter(|(is, _)| *is).map(|&(_, flag)| flag).sum::<u64>();
                words[1..5].copy_from_slice(&[
                    counts.executed,
                    counts.bytes_in,
                    counts.bytes_out,
                    counts.script_bytes_out,
                ]);
            }
        }
        words[0] = flags;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.is_open &= self.stream.write_all(&bytes).is_ok();
    }
}
