//! A hostile server speaking to `move_to_shared_memory`.
//!
//! It needs no thread: whatever it will say lies in the socket and in the ring
//! before the client begins.

use crate::input::Input;
use crate::process::open_fds;
use crate::resp::{Split, split};
use shm_fifo::{Channel, Interest, Region, SpinPolicy, WaitMode, fd_passing};
use shm_fifo_redis_client::{Attempt, MoveError, Stream, Transport, move_to_shared_memory};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const RING_BYTES: usize = 4096;

/// Lets a client shake hands with the server that `data` spells.
///
/// # Panics
/// If the client hangs, invents or reorders bytes, moves although it was not
/// told to, fails in a way that is not documented, or leaks a descriptor.
pub fn run(data: &[u8]) {
    let fds_before = open_fds();
    let mut input = Input::new(data);
    let mut server = Server::new(&mut input);
    while !input.is_empty() {
        server.act(&mut input);
    }
    let Server { here: client, said, there, region, file } = server;
    let mut region = Some(region);
    if data.first().is_some_and(|&byte| byte >= 16) {
        // The end is what a client without an answer sees; else it is its deadline.
        drop(there.shutdown(std::net::Shutdown::Write));
    }
    let deadline = Instant::now() + Duration::from_millis(2);
    match move_to_shared_memory(client.into(), Some(deadline)) {
        Ok(Attempt::Moved(stream)) => {
            assert_eq!(stream.transport(), Transport::SharedMemory);
            assert!(said.contains(&0), "it was not told to move");
            if let Some(region) = region.take() {
                go_on(stream, region, &there);
            }
        }
        Ok(Attempt::Stayed(stream, refusal)) => {
            assert_eq!(stream.transport(), Transport::UnixSocket);
            assert!(refusal.to_string().len() < 10_000);
            assert_kept(stream, &said);
        }
        Err(
            error @ (MoveError::Ended
            | MoveError::TimedOut
            | MoveError::Violation(_)
            | MoveError::Reply(_)
            | MoveError::Io(_)),
        ) => assert!(error.to_string().len() < 10_000),
        Err(other) => panic!("an error that is not documented: {other}"),
    }
    drop((region, there, file));
    assert_eq!(open_fds(), fds_before, "a descriptor was leaked");
}

struct Server {
    /// The client's end.
    here: UnixStream,
    there: UnixStream,
    region: Region,
    /// A second mapping, through which the ring is filled beforehand.
    file: File,
    said: Vec<u8>,
}

/// What servers say, more or less.
const PHRASES: [&[u8]; 16] = [
    b"+OK\r\n",
    b"+OK\r\n",
    b"\0",
    b"\0",
    b"\0\0\0",
    b"-ERR unknown command 'SHM.OPEN'\r\n",
    b"-NOAUTH Authentication required.\r\n",
    b"-ERR SHM.START: no offer\r\n",
    b">3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$3\r\n\0a\0\r\n",
    b"*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nb\r\n",
    b"$-1\r\n",
    b"*9999999\r\n",
    b":1\r\n",
    b"+O",
    b"K\r\n",
    b"\r\n",
];

impl Server {
    fn new(input: &mut Input<'_>) -> Self {
        let (here, there) = UnixStream::pair().expect("a socket pair");
        there.set_nonblocking(true).expect("a socket");
        let region = Region::create(RING_BYTES).expect("a region");
        region.park_both_ends();
        let file = File::from(region.fd().expect("a descriptor"));
        let server = Self { here, there, region, file, said: Vec::new() };
        server.fill_ring(input);
        server
    }

    /// Puts an answer, or something like it, into the ring to the client.
    fn fill_ring(&self, input: &mut Input<'_>) {
        const HEADER: u64 = 1024 + 512;
        let (bytes, tail): (&[u8], u64) = match input.byte() % 16 {
            0..12 => (b"+OK\r\n", 5),
            12 => (b"+OK\r\n+OK\r\n", 10),
            13 => (b"-ERR no\r\n", 9),
            14 => (b"+O", 2),
            _ => (input.bytes(5), input.u64()),
        };
        let ring = 4096 + RING_BYTES as u64;
        self.file.write_all_at(bytes, ring).expect("inside the file");
        self.file.write_all_at(&tail.to_ne_bytes(), HEADER + 56).expect("inside the file");
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.below(8) {
            0..=2 => self.say(input.choose(&PHRASES)),
            3 => {
                let length = input.below(24);
                self.say(input.bytes(length));
            }
            4 | 5 => {
                self.say_with_fd(input.choose(&PHRASES), self.file.as_fd().try_clone_to_owned())
            }
            6 => {
                let fd = self.strange_fd(input);
                self.say_with_fd(input.choose(&PHRASES), fd);
            }
            _ => self.scribble(input),
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        let sent = self.there.write(bytes).unwrap_or(0);
        self.said.extend(&bytes[..sent]);
    }

    fn say_with_fd(&mut self, bytes: &[u8], fd: std::io::Result<OwnedFd>) {
        let fd = fd.expect("a descriptor");
        let sent = fd_passing::send_with_fd(&self.there, bytes, fd.as_fd()).unwrap_or(0);
        self.said.extend(&bytes[..sent]);
    }

    /// A descriptor of something that is no region.
    fn strange_fd(&self, input: &mut Input<'_>) -> std::io::Result<OwnedFd> {
        Ok(match input.below(4) {
            0 => std::io::pipe()?.0.into(),
            1 => File::open("/dev/null")?.into(),
            2 => self.there.try_clone()?.into(),
            _ => rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC)?,
        })
    }

    /// Overwrites a word of the region.
    fn scribble(&self, input: &mut Input<'_>) {
        let offset = match input.byte() {
            0..32 => u64::from(input.byte() % 5) * 8,
            _ => 1024 + u64::from(input.byte()) * 4,
        };
        let value = if input.byte() < 128 { input.u64() } else { input.byte().into() };
        self.file.write_all_at(&value.to_ne_bytes(), offset).expect("inside the file");
    }
}

/// Uses a connection that moved, with whatever peer there is at the other end.
fn go_on(mut stream: Stream, region: Region, there: &UnixStream) {
    stream.set_policy(SpinPolicy::new(WaitMode::Park, 0));
    let socket = there.try_clone().expect("a descriptor");
    let mut server = Channel::new(region.into_endpoint(), socket.into());
    let mut buffer = [0; 2 * RING_BYTES];
    for _ in 0..3 {
        let results = [
            stream.try_write(b"PING"),
            stream.try_read(&mut buffer),
            server.try_write(b"+PONG\r\n"),
        ];
        for result in results {
            match result {
                Ok(count) => assert!(count <= buffer.len()),
                Err(error) => assert!(is_documented(error.kind()), "{error}"),
            }
        }
    }
    let soon = Some(Instant::now() + Duration::from_millis(1));
    let waited = stream.wait(Interest::READABLE, soon).map_err(|error| error.kind());
    assert!(matches!(waited, Ok(()) | Err(ErrorKind::TimedOut | ErrorKind::InvalidData)));
}

fn is_documented(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::BrokenPipe | ErrorKind::InvalidData)
}

/// A connection that stayed has every byte that was no answer, in order: all but the
/// first answer, and perhaps another one, that to `SHM.START`. What came between them is
/// the reader's.
fn assert_kept(mut stream: Stream, said: &[u8]) {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.try_read(&mut buffer) {
        kept.extend(&buffer[..count]);
    }
    let without =
        |range: &Range<usize>, bytes: &[u8]| [&bytes[..range.start], &bytes[range.end..]].concat();
    let answers = answers_in(said);
    let (first, others) = answers.split_first().expect("it was refused by an answer");
    let mut possible = std::iter::once(said.to_vec())
        .chain(others.iter().map(|other| without(other, said)))
        .map(|bytes| without(first, &bytes));
    assert!(possible.any(|possible| possible == kept), "{kept:?} of {said:?}");
}

/// Where there is what could be an answer. Pushes, which are arrays in RESP2, are none.
fn answers_in(said: &[u8]) -> Vec<Range<usize>> {
    let (mut answers, mut at) = (Vec::new(), 0);
    while at < said.len() {
        let Split::Whole(length) = split(&said[at..]) else { break };
        if !matches!(said[at], b'>' | b'|' | b'*') {
            answers.push(at..at + length);
        }
        at += length;
    }
    answers
}
