//! A duplex whose peer has not entered yet: what is written early is found, nobody is
//! rung before, and what a peer refused comes back.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::testing::pattern;
use shm_fifo::{
    Channel, Interest, Region, SpinPolicy, WaitMode, channel::Endpoint, duplex::Duplex,
};
use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::thread;
use support::Watchdog;

const RING_BYTES: usize = 4096;
const ANSWER: &[u8] = b"+OK\r\n";

/// A region of a server, and a client's duplex over it.
fn offered() -> (Endpoint, Duplex) {
    let region = Region::create(RING_BYTES).unwrap();
    region.park_both_ends();
    let attached = Region::attach(region.fd().unwrap()).unwrap();
    (region.into_endpoint(), Duplex::new_unstarted(attached.into_endpoint()))
}

fn write(duplex: &Duplex, socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
    duplex.write(socket, &[IoSlice::new(bytes)])
}

/// How many doorbells have come.
fn doorbells(mut socket: &UnixStream) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut bytes = [1; 64];
    let count = socket.read(&mut bytes).unwrap_or(0);
    socket.set_nonblocking(false).unwrap();
    assert!(bytes[..count].iter().all(|&byte| byte == 0));
    count
}

fn taken_back(duplex: &Duplex, at_once: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let all = duplex.take_back(|piece| {
        let count = piece.len().min(at_once);
        bytes.extend_from_slice(&piece[..count]);
        Ok(count)
    });
    all.unwrap();
    bytes
}

#[test]
fn nobody_is_rung_before_it_has_entered_and_everybody_after_that() {
    let (server, duplex) = offered();
    let (here, there) = UnixStream::pair().unwrap();
    let socket = here.as_raw_fd();

    write(&duplex, socket, b"early").unwrap();
    assert!(duplex.park(socket, Interest::READABLE, None));
    assert!(!duplex.has_peer_entered());
    assert_eq!(doorbells(&there), 0);

    let mut server = Channel::new(server, there.try_clone().unwrap().into());
    server.write_all(ANSWER).unwrap();
    assert!(duplex.has_peer_entered());
    let mut request = [0; 5];
    server.read_exact(&mut request).unwrap();
    assert_eq!(&request, b"early");
    assert!(server.park(Interest::READABLE));
    write(&duplex, socket, b"late").unwrap();
    assert_eq!(doorbells(&there), 1);
}

#[test]
fn an_end_behind_doorbells_is_heard_with_them() {
    let (_server, duplex) = offered();
    let (here, mut there) = UnixStream::pair().unwrap();
    duplex.enter();
    there.write_all(&[0; 300]).unwrap();
    assert!(!duplex.listen(here.as_raw_fd()));
    there.write_all(&[0; 300]).unwrap();
    drop(there);
    assert!(duplex.listen(here.as_raw_fd()));
}

#[test]
fn an_end_that_comes_early_is_found_without_a_doorbell() {
    let (server, duplex) = offered();
    let (here, there) = UnixStream::pair().unwrap();

    write(&duplex, here.as_raw_fd(), b"last words").unwrap();
    duplex.close_writing(here.as_raw_fd());

    assert_eq!(doorbells(&there), 0);
    let mut server = Channel::new(server, there.into());
    let mut all = Vec::new();
    server.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"last words");
}

#[test]
fn the_first_doorbell_comes_although_nobody_sleeps() {
    let (server, duplex) = offered();
    let (here, there) = UnixStream::pair().unwrap();

    assert!(duplex.park(here.as_raw_fd(), Interest::READABLE, None));
    duplex.unpark(Interest::READABLE);

    let mut server = Channel::new(server, there.into());
    server.write_all(ANSWER).unwrap();
    assert_eq!(doorbells(&here), 1);
    duplex.enter();
    duplex.unpark(Interest::READABLE);
    server.write_all(b"more").unwrap();
    assert_eq!(doorbells(&here), 0, "awake, and past the first doorbell");
}

#[test]
fn what_was_refused_is_taken_back_in_order() {
    for at_once in [1, 1000, RING_BYTES] {
        let (_server, duplex) = offered();
        let (here, _there) = UnixStream::pair().unwrap();
        let socket = here.as_raw_fd();
        let all = pattern(0, RING_BYTES);
        for message in all.chunks(700) {
            assert_eq!(write(&duplex, socket, message).unwrap(), message.len());
        }
        let full = write(&duplex, socket, b"x").unwrap_err();
        assert_eq!(full.kind(), ErrorKind::WouldBlock);

        assert!(taken_back(&duplex, at_once) == all);

        assert!(taken_back(&duplex, at_once).is_empty(), "once");
        let refused = write(&duplex, socket, b"x").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
    }
}

#[test]
fn taking_back_goes_on_where_the_socket_had_no_room() {
    let (_server, duplex) = offered();
    let (here, _there) = UnixStream::pair().unwrap();
    write(&duplex, here.as_raw_fd(), b"first, second").unwrap();

    let no_room = duplex.take_back(|_| Err(ErrorKind::WouldBlock.into())).unwrap_err();
    assert_eq!(no_room.kind(), ErrorKind::WouldBlock);
    let mut first = Vec::new();
    let then_no_room = duplex.take_back(|piece| {
        if !first.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        first.extend_from_slice(&piece[..6]);
        Ok(6)
    });
    assert_eq!(then_no_room.unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(first, b"first,");
    assert_eq!(duplex.take_back(|_| Ok(0)).unwrap_err().kind(), ErrorKind::WriteZero);

    assert_eq!(taken_back(&duplex, 100), b" second");
}

#[track_caller]
fn assert_nothing_is_taken_back(duplex: &Duplex) {
    let error = duplex.take_back(|_| panic!("none")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

#[test]
fn nothing_is_taken_back_from_a_peer_that_refused_and_entered() {
    let (server, duplex) = offered();
    let (here, there) = UnixStream::pair().unwrap();
    write(&duplex, here.as_raw_fd(), b"x").unwrap();
    let mut server = Channel::new(server, there.into());

    server.write_all(ANSWER).unwrap();

    assert_nothing_is_taken_back(&duplex);
}

#[test]
fn nothing_is_taken_back_from_a_peer_that_refused_and_read() {
    let (server, duplex) = offered();
    let (here, there) = UnixStream::pair().unwrap();
    let mut server = Channel::new(server, there.into());

    // More than a ring, which is not there as a whole any more.
    for _ in 0..2 {
        assert_eq!(write(&duplex, here.as_raw_fd(), &pattern(0, 3000)).unwrap(), 3000);
        server.read_exact(&mut [0; 3000]).unwrap();
    }

    assert_nothing_is_taken_back(&duplex);
}

#[test]
fn whatever_the_moment_an_early_message_is_found() {
    let _watchdog = Watchdog::start();
    for round in 0..20_000_u32 {
        let (server, duplex) = offered();
        let (mut here, there) = UnixStream::pair().unwrap();
        let entering = thread::spawn(move || {
            let mut start = [0; 1];
            (&there).read_exact(&mut start).unwrap();
            let mut server = Channel::new(server, there.into());
            server.set_policy(SpinPolicy::new(WaitMode::Park, 0));
            server.write_all(ANSWER).unwrap();
            // Asleep, if the message is not there by then.
            let mut message = [0; 4];
            server.read_exact(&mut message).unwrap();
            assert_eq!(u32::from_le_bytes(message), round);
        });
        here.write_all(b"S").unwrap();
        for _ in 0..round % 300 {
            std::hint::spin_loop();
        }
        write(&duplex, here.as_raw_fd(), &round.to_le_bytes()).unwrap();
        entering.join().unwrap();
    }
}
