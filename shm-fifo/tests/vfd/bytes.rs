//! Reading and writing.

use crate::program::{Epoll, RING_BYTES, connection, watched_connection};
use crate::support::Watchdog;
use shm_fifo::vfd::{self, Errno};
use std::io::{Read, Write};
use std::time::Duration;

#[test]
fn bytes_go_both_ways_and_an_empty_ring_is_eagain() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);

    assert_eq!(moved.read(10), Err(Errno(libc::EAGAIN)));
    client.write_all(b"ping").unwrap();
    assert_eq!(moved.read(10), Ok(b"ping".to_vec()));
    assert_eq!(moved.write(b"pong"), Ok(4));
    let mut reply = [0; 4];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"pong");
}

#[test]
fn a_descriptor_in_blocking_mode_waits_for_bytes_and_for_space() {
    let _watchdog = Watchdog::start();
    let (moved, mut client) = connection(|_| ());
    moved.0.set_nonblocking(false).unwrap();
    let large = vec![b'x'; 10 * RING_BYTES];
    let sent = large.clone();

    let peer = std::thread::spawn(move || {
        client.write_all(b"ping").unwrap();
        let mut reply = vec![0; 10 * RING_BYTES];
        client.read_exact(&mut reply).unwrap();
        (client, reply)
    });
    assert_eq!(moved.read(10), Ok(b"ping".to_vec()));
    assert_eq!(moved.write(&sent), Ok(large.len()));

    let (client, reply) = peer.join().unwrap();
    assert!(reply == large);
    drop(client);
    assert_eq!(moved.read(10), Ok(Vec::new()));
}

#[test]
fn a_blocking_call_ends_at_the_sockets_timeout() {
    let _watchdog = Watchdog::start();
    let (moved, _client) = connection(|_| ());
    moved.0.set_nonblocking(false).unwrap();
    let timeout = Some(Duration::from_millis(1));
    moved.0.set_read_timeout(timeout).unwrap();
    moved.0.set_write_timeout(timeout).unwrap();

    assert_eq!(moved.read(10), Err(Errno(libc::EAGAIN)));
    assert_eq!(moved.write(&[b'x'; 2 * RING_BYTES]), Ok(RING_BYTES));
    assert_eq!(moved.write(b"more"), Err(Errno(libc::EAGAIN)));
}

#[test]
fn errno_is_left_alone_on_success_and_set_on_failure() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);
    // SAFETY: this thread's own errno.
    let errno = || unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *errno() = libc::EDOM };

    client.write_all(b"x").unwrap();
    moved.read(1).unwrap();
    epoll.wait(0);
    // SAFETY: as above.
    assert_eq!(unsafe { *errno() }, libc::EDOM);
    moved.read(1).unwrap_err();
    // SAFETY: as above.
    assert_eq!(unsafe { *errno() }, libc::EAGAIN);
}

#[test]
fn sessions_are_listed_with_the_bytes_that_passed() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = watched_connection(&epoll);
    client.write_all(b"four").unwrap();
    moved.read(100).unwrap();
    moved.write(b"seven77").unwrap();

    let listed = vfd::sessions().into_iter().find(|session| session.fd == moved.fd()).unwrap();

    assert_eq!((listed.owner, listed.bytes_in, listed.bytes_out), (42, 4, 7));
    assert!(listed.region_bytes > 2 * RING_BYTES);
}
