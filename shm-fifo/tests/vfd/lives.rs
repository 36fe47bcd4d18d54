//! A connection's beginning and its end, by either side.

use crate::program::{DATA, Epoll, IN, Moved, RING_BYTES, watched_connection};
use crate::support::Watchdog;
use shm_fifo::vfd::{self, Errno};
use shm_fifo::{Region, duplex::Duplex};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

#[test]
fn a_connection_moves_once() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);

    let again = vfd::start(moved.fd(), Region::create(RING_BYTES).unwrap().into_endpoint(), 1, b"");

    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    client.write_all(b"still here").unwrap();
    assert_eq!(moved.read(100), Ok(b"still here".to_vec()));
}

#[test]
fn what_was_sent_before_the_peers_end_is_read_before_the_end() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);

    client.write_all(b"last words").unwrap();
    drop(client);

    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(moved.read(100), Ok(b"last words".to_vec()));
    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(moved.read(100), Ok(Vec::new()));
    assert_eq!(moved.write(b"x"), Err(Errno(libc::EPIPE)));
}

#[test]
fn a_closed_file_descriptor_is_virtual_no_more_and_its_peer_reads_the_end() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);
    let fd = moved.fd();

    moved.write(b"bye").unwrap();
    drop(moved);

    assert!(!vfd::is_virtual(fd));
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"bye");
    assert_eq!(client.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

/// A program closes its socket where nobody sees that, and goes on looking into the rings.
#[test]
fn who_still_looks_when_its_socket_has_ended_sees_the_end() {
    let _watchdog = Watchdog::start();
    let (here, there) = UnixStream::pair().unwrap();
    let epoll = Epoll::new();
    epoll.control(libc::EPOLL_CTL_ADD, here.as_raw_fd(), IN, DATA).unwrap();
    let region = Region::create(RING_BYTES).unwrap();
    let peer = Duplex::new(Region::attach(region.fd().unwrap()).unwrap().into_endpoint());
    vfd::start(here.as_raw_fd(), region.into_endpoint(), 42, b"").unwrap();
    let moved = Moved(here);
    moved.write(b"unread").unwrap();
    drop(there);
    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(moved.read(8), Ok(vec![]));

    drop(moved);

    assert!(peer.peer_closed());
}

#[test]
fn a_byte_that_is_no_doorbell_ends_the_connection() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, client) = watched_connection(&epoll);
    let before = vfd::stats().protocol_violations;

    // SAFETY: one byte of a static string.
    let sent = unsafe { libc::send(client.as_raw_fd(), c"P".as_ptr().cast(), 1, 0) };
    assert_eq!(sent, 1);

    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(moved.read(10), Ok(Vec::new()));
    assert_eq!(moved.write(b"x"), Err(Errno(libc::EPIPE)));
    assert!(vfd::stats().protocol_violations > before);
}

/// Another process that has the socket, too, writes to it.
#[test]
fn what_was_unread_is_not_overwritten_where_the_socket_was_misused() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);
    moved.write(&[7; 100]).unwrap();
    // SAFETY: one byte of a static string.
    let sent = unsafe { libc::send(client.as_raw_fd(), c"P".as_ptr().cast(), 1, 0) };
    assert_eq!(sent, 1);
    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(moved.read(10), Ok(Vec::new()));

    drop(moved);

    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [7; 100]);
}

#[test]
fn a_forked_child_cannot_touch_the_connection_and_the_parent_goes_on() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);
    client.write_all(b"x").unwrap();

    // SAFETY: the child only makes calls that allocate nothing, and ends itself.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut byte = [0];
        let refused = vfd::read(moved.fd(), &mut byte) == Some(Err(Errno(libc::EPIPE)))
            && vfd::write(moved.fd(), &[IoSlice::new(b"y")]) == Some(Err(Errno(libc::EPIPE)))
            && client.try_read(&mut byte).is_err();
        vfd::before_close(moved.fd());
        drop(client);
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(i32::from(!refused)) };
    }
    let mut status = -1;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(moved.read(10), Ok(b"x".to_vec()));
    moved.write(b"z").unwrap();
    let mut reply = [0];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"z");
}
