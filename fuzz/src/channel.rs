//! Two channels over one region and one socket pair, used in any order.

use crate::input::Input;
use shm_fifo::testing::{is_pattern, pattern};
use shm_fifo::{Channel, Interest, Region, SpinPolicy, WaitMode};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const RING_BYTES: usize = 4096;

/// Does with two channels what `data` spells.
///
/// # Panics
/// If a channel differs from what its documentation says, for example loses a
/// byte, or claims to have ended while the peer lives.
pub fn run(data: &[u8]) {
    let mut sides = connect();
    let mut input = Input::new(data);
    while !input.is_empty() {
        let which = input.below(2);
        let (front, back) = sides.split_at_mut(1);
        let (side, peer) =
            if which == 0 { (&mut front[0], &mut back[0]) } else { (&mut back[0], &mut front[0]) };
        if let Some(channel) = &mut side.channel {
            step(&mut input, channel, &mut side.state, &mut peer.state);
        }
        if side.state.ended {
            side.channel = None;
        }
    }
}

/// One channel and what is known of it.
struct Side {
    channel: Option<Channel>,
    state: State,
}

struct State {
    sent: u64,
    received: u64,
    /// What it was refused last: so many bytes, so much space.
    wanted: usize,
    space_wanted: Option<usize>,
    /// This side was dropped.
    ended: bool,
    /// This side was sent a byte that is no doorbell.
    insulted: bool,
    /// This side has noticed that, and ended both directions.
    broken: bool,
    /// A second handle of this side's socket, with which the harness speaks in
    /// its name.
    socket: UnixStream,
}

impl State {
    /// Whether there is what this side waits for.
    fn has_what_it_wants(&self, peer: &Self) -> bool {
        bytes(peer.sent - self.received) >= self.wanted.max(1)
    }

    /// Whether this side says that nothing more is exchanged.
    fn is_done(&self) -> bool {
        self.ended || self.broken
    }
}

fn connect() -> [Side; 2] {
    let created = Region::create(RING_BYTES).expect("a region");
    let attached = Region::attach(created.fd().expect("a descriptor")).expect("a sound region");
    let (one, other) = UnixStream::pair().expect("a socket pair");
    [(created, one), (attached, other)].map(|(region, socket)| {
        let handle = socket.try_clone().expect("a descriptor");
        handle.set_read_timeout(None).expect("a socket");
        let mut channel = Channel::new(region.into_endpoint(), OwnedFd::from(socket));
        // What has to sleep is asked to do so at once.
        channel.set_policy(SpinPolicy::new(WaitMode::Park, 0));
        let state = State {
            sent: 0,
            received: 0,
            wanted: 1,
            space_wanted: None,
            ended: false,
            insulted: false,
            broken: false,
            socket: handle,
        };
        Side { channel: Some(channel), state }
    })
}

fn step(input: &mut Input<'_>, channel: &mut Channel, own: &mut State, peer: &mut State) {
    match input.below(16) {
        0..=3 => read(input.length(RING_BYTES), channel, own, peer),
        4 => read_in_place(input.length(RING_BYTES), input.length(RING_BYTES), channel, own, peer),
        5..=8 => write(input.length(RING_BYTES), channel, own, peer),
        9 => write_in_place(input.length(RING_BYTES), input.length(RING_BYTES), channel, own, peer),
        10 => {
            let stats = channel.stats();
            assert_eq!((stats.bytes_received, stats.bytes_sent), (own.received, own.sent));
        }
        11 => look(channel, own, peer),
        12 => speak(&[0; 300][..input.below(300)], own, peer),
        13 => wait(channel, own, peer),
        14 if input.byte() >= 128 => speak(&[0, input.byte() | 1], own, peer),
        15 if input.byte() >= 192 => own.ended = true,
        _ => {}
    }
}

fn read(length: usize, channel: &mut Channel, own: &mut State, peer: &State) {
    let mut target = vec![0xEE; length + 1];
    let result = channel.try_read(&mut target[..length]);
    let available = bytes(peer.sent - own.received);
    let expected = match available.min(length) {
        _ if own.broken => Err(ErrorKind::InvalidData),
        0 if length > 0 && !peer.is_done() => Err(ErrorKind::WouldBlock),
        count => Ok(count),
    };
    let result = result.map_err(|error| error.kind());
    assert_eq!(result, expected);
    if result.is_err() {
        own.wanted = 1;
    }
    let count = result.unwrap_or(0);
    assert!(is_pattern(own.received, &target[..count]), "at {}", own.received);
    assert!(target[count..].iter().all(|&byte| byte == 0xEE));
    own.received += count as u64;
}

fn write(length: usize, channel: &mut Channel, own: &mut State, peer: &State) {
    let result = channel.try_write(&pattern(own.sent, length));
    let free = RING_BYTES - bytes(own.sent - peer.received);
    let expected = match free.min(length) {
        _ if own.broken => Err(ErrorKind::InvalidData),
        _ if peer.is_done() => Err(ErrorKind::BrokenPipe),
        0 if length > 0 => Err(ErrorKind::WouldBlock),
        count => Ok(count),
    };
    let result = result.map_err(|error| error.kind());
    assert_eq!(result, expected);
    if result.is_err() {
        own.space_wanted = None;
    }
    own.sent += result.unwrap_or(0) as u64;
}

/// Looks at what there is, if that is so much, by a copy and by the kernel, and consumes some.
fn read_in_place(
    at_least: usize,
    most: usize,
    channel: &mut Channel,
    own: &mut State,
    peer: &State,
) {
    let (received, available) = (own.received, bytes(peer.sent - own.received));
    let result = channel.try_read_in_place(at_least, |grant| {
        let mut copy = vec![0; grant.length()];
        grant.read_at(0, &mut copy);
        assert!(is_pattern(received, &copy), "at {received}");
        assert_eq!(copy.len(), available);
        let (reader, writer) = io::pipe().expect("a pipe");
        let sent = grant.write_to(0..copy.len().min(RING_BYTES), writer).expect("room in a pipe");
        let mut through_pipe = vec![0; sent];
        (&reader).read_exact(&mut through_pipe).expect("what was written");
        assert_eq!(through_pipe, copy);
        let consumed = grant.length().min(most);
        grant.consume(consumed);
        consumed
    });
    let expected = match available {
        _ if at_least > RING_BYTES => Err(ErrorKind::InvalidInput),
        _ if own.broken => Err(ErrorKind::InvalidData),
        0 if peer.is_done() => Ok(None),
        available if available >= at_least.max(1) || peer.is_done() => {
            Ok(Some(available.min(most)))
        }
        _ => Err(ErrorKind::WouldBlock),
    };
    let result = result.map_err(|error| error.kind());
    assert_eq!(result, expected);
    if result != Err(ErrorKind::InvalidInput) {
        own.wanted = if matches!(result, Ok(Some(_))) { 1 } else { at_least };
    }
    own.received += result.ok().flatten().unwrap_or(0) as u64;
}

/// Has the kernel fill what is granted, if that is so much, and commits some.
fn write_in_place(
    length: usize,
    most: usize,
    channel: &mut Channel,
    own: &mut State,
    peer: &State,
) {
    let committed = length.min(most);
    let message = pattern(own.sent, length);
    let result = channel.try_write_in_place(length, |mut grant| {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        writer.write_all(&message).expect("room in a pipe");
        drop(writer);
        assert_eq!(grant.read_from(0..length, reader).expect("what was written"), length);
        grant.commit(committed);
    });
    let expected = match RING_BYTES - bytes(own.sent - peer.received) {
        _ if length > RING_BYTES => Err(ErrorKind::InvalidInput),
        _ if own.broken => Err(ErrorKind::InvalidData),
        _ if peer.is_done() => Err(ErrorKind::BrokenPipe),
        free if free < length => Err(ErrorKind::WouldBlock),
        _ => Ok(()),
    };
    let result = result.map_err(|error| error.kind());
    assert_eq!(result, expected);
    if result != Err(ErrorKind::InvalidInput) {
        own.space_wanted = result.is_err().then_some(length);
    }
    if result.is_ok() {
        own.sent += committed as u64;
    }
}

fn look(channel: &Channel, own: &State, peer: &State) {
    let gone = own.broken || peer.is_done();
    let readable = gone || own.has_what_it_wants(peer);
    let free = RING_BYTES - bytes(own.sent - peer.received);
    let writable = gone || free >= own.space_wanted.unwrap_or(RING_BYTES / 4);
    assert_eq!(channel.is_ready(Interest::READABLE), readable);
    assert_eq!(channel.is_ready(Interest::WRITABLE), writable);
    assert_eq!(channel.is_ready(Interest::BOTH), readable || writable);
}

/// Sends bytes to the peer's socket: doorbells nobody needs, or worse.
fn speak(bytes: &[u8], own: &State, peer: &mut State) {
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    let sent = rustix::net::send(&own.socket, bytes, flags).unwrap_or(0);
    peer.insulted |= bytes[..sent].iter().any(|&byte| byte != 0);
}

/// Lets the channel listen to its socket, where that takes no time.
fn wait(channel: &mut Channel, own: &mut State, peer: &State) {
    let mut entry =
        [rustix::event::PollFd::from_borrowed_fd(own.socket.as_fd(), rustix::event::PollFlags::IN)];
    let pending = rustix::event::poll(&mut entry, Some(&rustix::time::Timespec::default()));
    if pending != Ok(1) {
        return;
    }
    let soon = std::time::Instant::now() + Duration::from_micros(200);
    match channel.wait(Interest::READABLE, Some(soon)).map_err(|error: io::Error| error.kind()) {
        Ok(()) => {
            let something = peer.is_done() || own.has_what_it_wants(peer);
            assert!(something, "nothing to read, and the peer lives");
        }
        Err(ErrorKind::TimedOut) => {
            assert!(!peer.is_done() && !own.has_what_it_wants(peer));
        }
        Err(ErrorKind::InvalidData) => {
            assert!(own.insulted);
            own.broken = true;
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn bytes(distance: u64) -> usize {
    usize::try_from(distance).expect("64 bits")
}
