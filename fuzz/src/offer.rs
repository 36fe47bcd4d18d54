//! What a server says to a client that connects, and clients to a listener.

use crate::input::Input;
use crate::process::open_fds;
use rustix::fs::{MemfdFlags, SealFlags};
use shm_fifo::fd_passing::send_with_fd;
use shm_fifo::{Channel, Listener, Region};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

const OFFER: &[u8] = b"SHMFIFO\x01";

/// Meets whoever `data` describes.
///
/// # Panics
/// If a bad offer is taken or a good one refused, a client keeps another from the listener, or
/// a file descriptor is leaked.
pub fn run(data: &[u8]) {
    let before = open_fds();
    let mut input = Input::new(data);
    if input.below(2) == 0 {
        be_offered(&mut input);
    } else {
        be_connected_to(&mut input);
    }
    assert_eq!(open_fds(), before, "a file descriptor was leaked");
}

/// A client hears what a server says, which ends then: nobody waits.
fn be_offered(input: &mut Input<'_>) {
    let (here, mut there) = UnixStream::pair().expect("a socket pair");
    let mut said = OFFER[..input.below(OFFER.len() + 1)].to_vec();
    let count = input.below(12);
    said.extend(input.bytes(count));
    let (fd, is_region) = passed(input);
    let is_good = is_region && said.starts_with(OFFER);
    match fd {
        Some(fd) if !said.is_empty() => {
            assert_eq!(send_with_fd(&there, &said, fd.as_fd()).expect("room"), said.len());
        }
        _ => there.write_all(&said).expect("room"),
    }
    there.write_all(input.rest()).expect("room");
    drop(there);
    match Channel::open(here) {
        Ok(mut channel) => {
            assert!(is_good);
            let end = channel.recv_into(&mut Vec::new()).map_err(|error| error.kind());
            assert!(matches!(end, Ok(None) | Err(ErrorKind::InvalidData)), "{end:?}");
        }
        Err(error) => {
            assert!(!is_good, "{error}");
            let kinds = [ErrorKind::InvalidData, ErrorKind::UnexpectedEof];
            assert!(kinds.contains(&error.kind()), "{error:?}");
        }
    }
}

/// A descriptor to pass, and whether it is one of a region.
fn passed(input: &mut Input<'_>) -> (Option<OwnedFd>, bool) {
    match input.below(5) {
        0 => (None, false),
        1 => (Some(File::open("/dev/null").expect("it is there").into()), false),
        2 => {
            let region = Region::create(4096).expect("a region");
            (Some(region.fd().expect("a descriptor")), true)
        }
        kind => {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let file = File::from(rustix::fs::memfd_create("region", flags).expect("a memfd"));
            file.set_len(u64::from(input.u16())).expect("it is small");
            if kind == 3 {
                rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).expect("it may be sealed");
            }
            (Some(file.into()), false)
        }
    }
}

/// Clients come, speak and go; a good one is served all the same.
fn be_connected_to(input: &mut Input<'_>) {
    let name = format!("shm-fifo-fuzz-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).expect("a short name");
    let listener = UnixListener::bind_addr(&address).expect("a free name");
    let listener = Listener::from_socket(listener).expect("a socket");
    let mut clients = Vec::new();
    let mut channels = Vec::new();
    while !input.is_empty() && clients.len() < 20 {
        match input.below(4) {
            0 => {
                let mut client = UnixStream::connect_addr(&address).expect("it listens");
                let count = input.below(20);
                client.write_all(input.bytes(count)).expect("room");
                clients.push(client);
            }
            1 => drop(clients.pop()),
            2 => channels.extend(listener.try_accept()),
            _ => drop(channels.pop()),
        }
    }
    let good = UnixStream::connect_addr(&address).expect("it listens");
    // As many as may have gone, and those that wait.
    channels.extend((0..40).filter_map(|_| listener.try_accept().ok()));
    let mut last = channels.pop().expect("the good one at least");
    last.send(b"hello").expect("the good one is alive");
    let mut good = Channel::open(good).expect("it was offered a region");
    assert_eq!(good.recv_into(&mut Vec::new()).expect("a frame"), Some(5));
    for channel in &mut channels {
        let heard = channel.try_recv_into(&mut Vec::new()).map_err(|error| error.kind());
        let harmless = [ErrorKind::WouldBlock, ErrorKind::InvalidData];
        assert!(
            heard.is_ok_and(|frame| frame.is_none())
                || heard.is_err_and(|kind| harmless.contains(&kind))
        );
    }
}
