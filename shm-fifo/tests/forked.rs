//! Every public method of what maps a region, called in a forked child: none of them touches
//! what is not mapped there, takes a doorbell of the parent's, or ends what is the parent's.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::vfd::{self, Errno};
use shm_fifo::{
    Channel, Interest, Region, SpinPolicy, channel::Endpoint, doorbell::EventDoorbells,
    duplex::Duplex,
};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use support::Watchdog;
use support::process::{OtherProcess, roles};

const RING_BYTES: usize = 4096;

roles! { call_all_of_a_channel, call_all_of_a_duplex, call_all_of_virtual_fds }

/// What a child found wrong, each with its line. It may not panic: that would allocate, and
/// unwind into the parent's copy of the test.
macro_rules! expect {
    ($wrong:ident: $($right:expr),+ $(,)?) => {
        $(if !$right { $wrong = line!(); })+
    };
}

/// Forks. The child does `calls`, which say the line of a call that went wrong, or 0.
fn assert_right_in_a_child(calls: impl FnOnce() -> u32) {
    // SAFETY: roles have one thread, so the child is as whole as its parent.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let wrong = calls();
        if wrong != 0 {
            eprintln!("line {wrong} is not right in a forked child");
        }
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(i32::from(wrong != 0)) };
    }
    let mut status = -1;
    // SAFETY: our own child, and a live integer.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "by a signal, if it is less than 256");
}

fn is_refused<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn endpoints() -> (Endpoint, Endpoint) {
    let region = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(region.fd().unwrap()).unwrap();
    (region.into_endpoint(), attached.into_endpoint())
}

fn call_all(channel: &mut Channel) -> u32 {
    let mut wrong = 0;
    let mut buffer = [0; 8];
    channel.set_policy(SpinPolicy::default());
    channel.set_timeout(Some(Duration::from_secs(1)));
    channel.set_deadline(Some(Instant::now() + Duration::from_secs(1)));
    expect!(wrong:
        is_refused(channel.try_read(&mut buffer)),
        is_refused(channel.try_read_vectored(&mut [IoSliceMut::new(&mut buffer)])),
        is_refused(channel.read(&mut buffer)),
        is_refused(channel.read_vectored(&mut [IoSliceMut::new(&mut buffer)])),
        is_refused(channel.try_write(b"x")),
        is_refused(channel.try_write_vectored(&[IoSlice::new(b"x")])),
        is_refused(channel.write(b"x")),
        is_refused(channel.write_vectored(&[IoSlice::new(b"x")])),
        is_refused(channel.read_in_place(1, |_| ())),
        is_refused(channel.try_read_in_place(1, |_| ())),
        is_refused(channel.write_in_place(1, |_| ())),
        is_refused(channel.try_write_in_place(1, |_| ())),
        is_refused(channel.splice_to(io::stdin(), 1)),
        is_refused(channel.splice_from(io::stdin(), 1)),
        channel.flush().is_ok(),
        channel.is_ready(Interest::BOTH),
        is_refused(channel.wait(Interest::READABLE, None)),
        channel.spin(Interest::READABLE),
        !channel.may_spin(),
        !channel.park(Interest::BOTH),
        !channel.listen(),
        channel.as_fd().as_raw_fd() == channel.as_raw_fd(),
        // Where it was.
        channel.stats().bytes_sent == 5,
        format!("{channel:?}").contains("NotInherited"),
    );
    channel.unpark(Interest::BOTH);
    let _ = channel.life_fd();
    wrong
}

fn call_all_of_a_channel(_: UnixStream) {
    let (socket, peers_socket) = UnixStream::pair().unwrap();
    let [events, peers_events] = EventDoorbells::pair().unwrap();
    let ((here, there), (here_too, there_too)) = (endpoints(), endpoints());
    let pairs = [
        (Channel::new(here, socket.into()), Channel::new(there, peers_socket.into())),
        (Channel::with_events(here_too, events), Channel::with_events(there_too, peers_events)),
    ];
    for (mut here, mut there) in pairs {
        here.write_all(b"hello").unwrap();
        let (unused, _) = endpoints();
        let mut unused = Some(unused);
        // So that a doorbell is on its way to the parent.
        assert!(here.park(Interest::READABLE));
        there.write_all(b"x").unwrap();

        assert_right_in_a_child(|| {
            let unused = unused.take().unwrap();
            let is_told_apart = format!("{unused:?}").starts_with("Endpoint");
            let mut made_here = Channel::new(unused, UnixStream::pair().unwrap().0.into());
            let wrong = call_all(&mut here);
            drop(std::mem::replace(&mut here, Channel::pair(RING_BYTES).unwrap().0));
            let is_refused = is_refused(made_here.try_read(&mut [0; 8]));
            if is_told_apart && is_refused { wrong } else { line!() }
        });

        // The parent's doorbell is still there, and so is the peer.
        here.set_timeout(Some(Duration::from_secs(20)));
        there.set_timeout(Some(Duration::from_secs(20)));
        here.unpark(Interest::READABLE);
        here.listen();
        assert_eq!(here.stats().doorbells_received, 1);
        let mut received = [0; 5];
        there.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"hello");
        here.read_exact(&mut received[..1]).unwrap();
        assert_eq!(received[0], b'x');
    }
}

#[test]
fn proc_every_method_of_a_channel_is_harmless_in_a_forked_child() {
    let _watchdog = Watchdog::start();
    OtherProcess::assert_plays("call_all_of_a_channel");
}

fn call_all_of_a_duplex(_: UnixStream) {
    let (socket, peers_socket) = UnixStream::pair().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let fd = socket.as_raw_fd();
    let (here, there) = endpoints();
    let (here, there) = (Duplex::new(here), Duplex::new(there));
    here.write(fd, &[IoSlice::new(b"hello")]).unwrap();
    (&peers_socket).write_all(&[0]).unwrap();
    let (unused, _) = endpoints();
    let mut unused = Some(unused);

    assert_right_in_a_child(|| {
        let mut wrong = 0;
        let mut buffer = [0; 8];
        for duplex in [&here, &Duplex::new(unused.take().unwrap())] {
            duplex.enter();
            expect!(wrong:
                is_refused(duplex.read(fd, &mut buffer)),
                is_refused(duplex.peek(fd, &mut buffer)),
                is_refused(duplex.write(fd, &[IoSlice::new(b"x")])),
                is_refused(duplex.take_back(|piece| Ok(piece.len()))),
                !duplex.has_peer_entered(),
                duplex.available_bytes() == 0,
                duplex.is_ready(Interest::BOTH),
                !duplex.is_at_end(),
                !duplex.peer_closed(),
                duplex.arrivals() == 0,
                !duplex.may_spin(&SpinPolicy::default()),
                !duplex.park(fd, Interest::BOTH, None),
                !duplex.listen(fd),
                format!("{duplex:?}").contains("NotInherited"),
            );
            duplex.unpark(Interest::BOTH);
            duplex.close_writing(fd);
            duplex.close(fd);
        }
        wrong
    });

    // Nothing was taken off the parent's socket, and nothing was ended.
    let mut doorbell = [1; 8];
    assert_eq!((&socket).read(&mut doorbell).unwrap(), 1);
    let mut received = [0; 8];
    assert_eq!(there.read(fd, &mut received).unwrap(), 5);
    assert!(!there.is_at_end() && !here.is_at_end());
}

#[test]
fn proc_every_method_of_a_duplex_is_harmless_in_a_forked_child() {
    let _watchdog = Watchdog::start();
    OtherProcess::assert_plays("call_all_of_a_duplex");
}

fn call_all_of_virtual_fds(_: UnixStream) {
    vfd::prepare().unwrap();
    let (socket, peers_socket) = UnixStream::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    let fd = socket.as_raw_fd();
    // SAFETY: no pointer; the results are new descriptors that nobody else has.
    let [epoll, childs_own] = [(), ()]
        .map(|()| unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) });
    let watched = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
    let watch = |epoll: &OwnedFd, fd| {
        vfd::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, Some(watched))
    };
    watch(&epoll, fd).unwrap();
    let (here, there) = endpoints();
    let mut there = Channel::new(there, peers_socket.into());
    vfd::start(fd, here, 42, b"").unwrap();
    // One that has ended with something unread, for the sweep to look at.
    let (ended, _its_peer) = UnixStream::pair().unwrap();
    let (last_words, _unread) = endpoints();
    vfd::start(ended.as_raw_fd(), last_words, 43, b"bye").unwrap();
    vfd::before_close(ended.as_raw_fd());
    there.write_all(b"x").unwrap();
    assert!(vfd::set_mark(fd, 5));
    let (unused, _) = endpoints();
    let mut unused = Some(unused);

    assert_right_in_a_child(|| {
        let mut wrong = 0;
        let mut events = [watched; 4];
        let is_dead = |result| result == Some(Err(Errno(libc::EPIPE)));
        expect!(wrong:
            vfd::in_forked_child(),
            vfd::sessions().is_empty(),
            vfd::is_virtual(fd),
            is_dead(vfd::read(fd, &mut [0; 8])),
            is_dead(vfd::write(fd, &[IoSlice::new(b"x")])),
            vfd::epoll_wait(epoll.as_raw_fd(), &mut events, -1).is_none(),
            vfd::filter_events(epoll.as_raw_fd(), &mut events, 4) == 4,
            watch(&childs_own, fd) == Ok(()),
            vfd::epoll_wait(childs_own.as_raw_fd(), &mut events, -1).is_none(),
            is_refused(vfd::start(ended.as_raw_fd(), unused.take().unwrap(), 44, b"x")),
            !vfd::is_virtual(ended.as_raw_fd()),
            vfd::mark(fd) == 5,
            vfd::usage().sessions == 1,
            vfd::stats().sessions_started == 2,
        );
        for _ in 0..8 {
            vfd::sweep();
        }
        vfd::before_close(fd);
        wrong
    });

    // Nothing was ended, and nothing was read.
    assert_eq!(vfd::sessions().len(), 1);
    let mut events = [watched; 4];
    assert_eq!(vfd::epoll_wait(epoll.as_raw_fd(), &mut events, -1), Some(Ok(1)));
    assert_eq!(vfd::read(fd, &mut [0; 8]), Some(Ok(1)));
    assert_eq!(vfd::write(fd, &[IoSlice::new(b"hello")]), Some(Ok(5)));
    assert_eq!(there.read(&mut [0; 8]).unwrap(), 5);
    vfd::before_close(fd);
}

#[test]
fn proc_every_function_of_virtual_fds_is_harmless_in_a_forked_child() {
    let _watchdog = Watchdog::start();
    OtherProcess::assert_plays("call_all_of_virtual_fds");
}
