//! Doorbells that are told once and may stay on the socket: what comes behind them is heard.

use crate::program::{DATA, Epoll, IN, Moved, watched_connection};
use crate::support::Watchdog;
use shm_fifo::{Channel, vfd};
use std::io::Write as _;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;

/// So many may be unread at a time: the smallest buffer that a socket may have holds as many.
const MOST_UNREAD: usize = 6;

/// Waits until the connection is parked: its next message comes with a doorbell.
fn park(epoll: &Epoll, moved: &Moved) {
    while vfd::sessions().iter().any(|session| session.fd == moved.fd() && session.hot) {
        assert_eq!(epoll.wait(5), []);
    }
}

/// How many bytes are on the socket.
fn unread(moved: &Moved) -> usize {
    let mut bytes = [0_u8; 4 * MOST_UNREAD];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: room for that many bytes.
    let count =
        unsafe { libc::recv(moved.0.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), flags) };
    usize::try_from(count).unwrap_or(0)
}

/// The client's end of the socket.
fn socket_of(client: &Channel) -> UnixStream {
    client.as_fd().try_clone_to_owned().unwrap().into()
}

/// A connection with a doorbell unread on its socket, and nothing in its rings.
fn with_one_unread(epoll: &Epoll) -> (Moved, Channel) {
    let (moved, mut client) = watched_connection(epoll);
    park(epoll, &moved);
    client.write_all(b"x").unwrap();
    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(moved.read(8).unwrap(), b"x");
    assert_eq!(unread(&moved), 1);
    (moved, client)
}

/// Makes the buffer of what the client sends as small as the kernel permits.
fn shrink_buffer(client: &Channel) {
    rustix::net::sockopt::set_socket_send_buffer_size(client, 1).unwrap();
}

#[test]
fn the_smallest_buffer_has_room_for_the_next_one_always() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = with_one_unread(&epoll);
    shrink_buffer(&client);
    let lost_before = vfd::stats().missed_doorbells;
    for _ in 0..5 * MOST_UNREAD {
        park(&epoll, &moved);
        // One too many, as where the client reads what there is space for as well.
        let rung = socket_of(&client).write(&[0]);
        assert_eq!(rung.unwrap(), 1);
        let before = client.stats().doorbells_sent;
        client.write_all(b"x").unwrap();
        assert_eq!(epoll.wait(-1), [(IN, DATA)]);
        assert_eq!(moved.read(8).unwrap(), b"x");
        assert!(client.stats().doorbells_sent <= before + 1);
    }
    assert_eq!(vfd::stats().missed_doorbells, lost_before);
}

#[test]
fn a_doorbell_that_says_no_more_than_the_ring_is_left_there_with_some_others_at_most() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, mut client) = with_one_unread(&epoll);
    let mut were_taken = false;
    for _ in 0..2 * MOST_UNREAD {
        let before = unread(&moved);
        park(&epoll, &moved);
        client.write_all(b"x").unwrap();
        assert_eq!(epoll.wait(-1), [(IN, DATA)]);
        assert_eq!(moved.read(8).unwrap(), b"x");
        were_taken |= unread(&moved) < before;
        assert!(unread(&moved) <= MOST_UNREAD);
    }
    assert!(were_taken);
    assert_eq!(vfd::stats().missed_doorbells, 0);
}

#[test]
fn who_goes_from_one_loop_to_another_takes_along_how_many_there_are() {
    let _watchdog = Watchdog::start();
    let loops = [Epoll::new(), Epoll::new()];
    let (moved, mut client) = with_one_unread(&loops[0]);
    for round in 0..2 * MOST_UNREAD {
        let (from, to) = (&loops[round % 2], &loops[(round + 1) % 2]);
        from.control(libc::EPOLL_CTL_DEL, moved.fd(), 0, 0).unwrap();
        client.write_all(b"x").unwrap();
        socket_of(&client).write_all(&[0]).unwrap();
        to.control(libc::EPOLL_CTL_ADD, moved.fd(), IN, DATA).unwrap();
        // Often enough for the kernel to be asked as well.
        for _ in 0..1000 {
            assert_eq!(to.wait(0), [(IN, DATA)]);
        }
        assert_eq!(moved.read(8).unwrap(), b"x");
        assert!(unread(&moved) <= MOST_UNREAD);
    }
}

#[test]
fn the_end_behind_them_is_heard() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, client) = with_one_unread(&epoll);

    // Of the socket alone: the words in the rings do not say it.
    socket_of(&client).shutdown(Shutdown::Write).unwrap();

    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(moved.read(8).unwrap(), b"");
}

#[test]
fn a_byte_that_is_none_is_found_behind_any_number_of_them() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, client) = with_one_unread(&epoll);

    let mut flood = vec![0; 3000];
    flood.push(b'x');
    socket_of(&client).write_all(&flood).unwrap();

    assert_eq!(epoll.wait(-1), [(IN, DATA)]);
    assert_eq!(moved.read(8).unwrap(), b"");
}

#[test]
fn who_closes_with_doorbells_unread_ends_the_socket_without_an_error() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let (moved, client) = with_one_unread(&epoll);
    let socket = socket_of(&client);

    drop(moved);

    let mut bytes = [0; 8];
    let read = std::io::Read::read(&mut &socket, &mut bytes).unwrap();
    assert!(bytes[..read].iter().all(|&byte| byte == 0), "doorbells, and then the end");
    while std::io::Read::read(&mut &socket, &mut bytes).unwrap() > 0 {}
}
