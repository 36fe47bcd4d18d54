//! One file descriptor with a message: exactly one, or none, and never a leak.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use rustix::io::FdFlags;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType,
};
use shm_fifo::fd_passing::{AbstractAddress, recv_with_fd, send_with_fd, send_with_fd_to};
use std::fs::File;
use std::io::{ErrorKind, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use support::{Watchdog, alone, open_fds};

/// What identifies the file behind a descriptor.
fn identity(fd: impl AsFd) -> (u64, u64) {
    let metadata = File::from(fd.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap();
    (metadata.dev(), metadata.ino())
}

/// Sends `bytes` with any number of descriptors, as a peer of bad manners could.
fn send_with_fds(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
}

/// An unconnected datagram socket with an address the kernel chose.
fn autobound() -> (OwnedFd, AbstractAddress) {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed()).unwrap();
    let name = rustix::net::getsockname(&socket).unwrap();
    let name = SocketAddrUnix::try_from(name).unwrap();
    let digits = name.abstract_name().expect("autobind gives abstract names").to_vec();
    (socket, AbstractAddress::from_digits(&digits).expect("five hexadecimal digits"))
}

#[test]
fn a_descriptor_arrives_with_its_bytes_and_is_close_on_exec() {
    let _alone = alone();
    let (here, there) = UnixStream::pair().unwrap();
    let file = File::open("/proc/self/exe").unwrap();

    let sent = send_with_fd(&here, b"+OK\r\n", file.as_fd()).unwrap();
    let mut buffer = [0; 16];
    let (received, fd) = recv_with_fd(&there, &mut buffer, 0).unwrap();

    assert_eq!((sent, &buffer[..received]), (5, &b"+OK\r\n"[..]));
    let fd = fd.expect("one was sent");
    assert_eq!(identity(&fd), identity(&file));
    assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
}

#[test]
fn a_descriptor_arrives_behind_what_else_the_socket_asks_for() {
    let _alone = alone();
    let (here, there) = UnixStream::pair().unwrap();
    // Who sends it comes first (unix(7)).
    rustix::net::sockopt::set_socket_passcred(&there, true).unwrap();
    let file = File::open("/proc/self/exe").unwrap();

    send_with_fd(&here, b"+OK\r\n", file.as_fd()).unwrap();
    let (received, fd) = recv_with_fd(&there, &mut [0; 16], 0).unwrap();

    assert_eq!(received, 5);
    assert_eq!(identity(fd.expect("one was sent")), identity(&file));
}

#[test]
fn a_message_without_a_descriptor_arrives_without_one() {
    let _alone = alone();
    let (mut here, there) = UnixStream::pair().unwrap();
    here.write_all(b"-ERR no\r\n").unwrap();
    let mut buffer = [0; 16];
    let (received, fd) = recv_with_fd(&there, &mut buffer, 0).unwrap();
    assert_eq!((received, fd.is_none()), (9, true));
}

#[test]
fn the_end_of_the_stream_is_no_bytes_and_no_descriptor() {
    let _alone = alone();
    let (here, there) = UnixStream::pair().unwrap();
    drop(here);
    let (received, fd) = recv_with_fd(&there, &mut [0; 16], 0).unwrap();
    assert_eq!((received, fd.is_none()), (0, true));
}

#[test]
fn the_descriptor_goes_with_the_first_bytes_of_a_message_read_in_parts() {
    let _alone = alone();
    let (here, there) = UnixStream::pair().unwrap();
    send_with_fd(&here, b"+OK\r\n", File::open("/dev/null").unwrap().as_fd()).unwrap();
    let first = recv_with_fd(&there, &mut [0; 2], 0).unwrap();
    let second = recv_with_fd(&there, &mut [0; 8], 0).unwrap();
    assert!(matches!(first, (2, Some(_))));
    assert!(matches!(second, (3, None)));
}

#[test]
fn hostile_surplus_descriptors_are_all_closed() {
    let _alone = alone();
    let (here, there) = UnixStream::pair().unwrap();
    let file = File::open("/dev/null").unwrap();
    // Four still fit the control buffer; more of them cut it.
    for count in [2, 3, 4, 5, 16] {
        let before = open_fds();
        send_with_fds(&here, b"x", &vec![file.as_fd(); count]);
        let (received, fd) = recv_with_fd(&there, &mut [0; 16], 0).unwrap();
        assert_eq!((received, fd.is_none()), (1, true), "{count} descriptors");
        assert_eq!(open_fds(), before, "{count} descriptors");
    }
}

#[test]
fn a_full_socket_is_an_error_at_once() {
    let _watchdog = Watchdog::start();
    let _alone = alone();
    let (here, _there) = UnixStream::pair().unwrap();
    let file = File::open("/dev/null").unwrap();
    let filler = [0; 4096];
    let error = loop {
        if let Err(error) = send_with_fd(&here, &filler, file.as_fd()) {
            break error;
        }
    };
    // Either the buffer is full or too many descriptors are on their way.
    let too_many = error.raw_os_error() == Some(rustix::io::Errno::TOOMANYREFS.raw_os_error());
    assert!(error.kind() == ErrorKind::WouldBlock || too_many, "{error}");
}

#[test]
fn sending_to_a_peer_that_is_gone_is_an_error_and_no_signal() {
    let _alone = alone();
    let (here, there) = UnixStream::pair().unwrap();
    drop(there);
    let file = File::open("/dev/null").unwrap();
    let error = send_with_fd(&here, b"x", file.as_fd()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_descriptor_reaches_an_autobound_datagram_socket() {
    let _alone = alone();
    let (receiver, address) = autobound();
    let sender = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
    let file = File::open("/proc/self/exe").unwrap();

    let sent = send_with_fd_to(&sender, address, &[0], file.as_fd()).unwrap();
    let mut buffer = [0xFF; 16];
    let (received, fd) = recv_with_fd(&receiver, &mut buffer, 0).unwrap();

    assert_eq!((sent, received, buffer[0]), (1, 1, 0));
    assert_eq!(identity(fd.expect("one was sent")), identity(&file));
}

#[test]
fn an_address_that_nobody_has_refuses_the_message() {
    let _alone = alone();
    let (receiver, address) = autobound();
    drop(receiver);
    let sender = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
    let file = File::open("/dev/null").unwrap();
    let error = send_with_fd_to(&sender, address, &[0], file.as_fd()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn only_five_lower_case_hexadecimal_digits_are_an_address() {
    assert_eq!(AbstractAddress::from_digits(b"0a1f9").unwrap().digits(), b"0a1f9");
    let strangers: [&[u8]; 7] =
        [b"", b"0001", b"000001", b"0001F", b"0001g", b"\x000001", b"../../"];
    for stranger in strangers {
        assert_eq!(AbstractAddress::from_digits(stranger), None, "{stranger:?}");
    }
}
