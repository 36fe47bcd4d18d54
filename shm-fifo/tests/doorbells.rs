//! What a channel does whatever rings it, a socket or eventfds: sleeps, ends,
//! deadlines, event loops, and the counting of all that.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use shm_fifo::fd_passing::{recv_with_fd, send_with_fd};
use shm_fifo::testing::pattern;
use shm_fifo::{Channel, Interest, Region, SpinPolicy, WaitMode, doorbell::EventDoorbells};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};
use support::Watchdog;
use support::process::{OtherProcess, roles};

roles! { write_and_fork, write_and_wait }

const RING_BYTES: usize = 4096;

/// Two ends of one region.
fn ends() -> (shm_fifo::channel::Endpoint, shm_fifo::channel::Endpoint) {
    let created = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    (created.into_endpoint(), attached.into_endpoint())
}

fn pair_with_events() -> (Channel, Channel) {
    let (one, other) = ends();
    let [here, there] = EventDoorbells::pair().unwrap();
    (Channel::with_events(one, here), Channel::with_events(other, there))
}

/// Two connected channels that never spin, for each kind of doorbell.
fn pairs() -> [(Channel, Channel); 2] {
    [Channel::pair(RING_BYTES).unwrap(), pair_with_events()].map(|(mut one, mut other)| {
        for channel in [&mut one, &mut other] {
            channel.set_policy(SpinPolicy::new(WaitMode::Park, 0));
        }
        (one, other)
    })
}

/// What an event loop that has nothing else to do sleeps on, for ever or not at all.
fn is_rung(channel: &Channel, for_ever: bool) -> bool {
    let doorbell = PollFd::new(channel, PollFlags::IN);
    let life = channel.life_fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let mut fds: Vec<_> = std::iter::once(doorbell).chain(life).collect();
    let at_once = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, (!for_ever).then_some(&at_once)).unwrap() > 0
}

#[test]
fn no_wake_up_is_lost_between_sleepers() {
    let _watchdog = Watchdog::start();
    for (mut here, mut there) in pairs() {
        let other = thread::spawn(move || {
            let mut message = [0; 8];
            while there.read_exact(&mut message).is_ok() {
                there.write_all(&message).unwrap();
            }
        });
        for number in 0..30_000_u64 {
            let mut reply = [0; 8];
            here.write_all(&number.to_le_bytes()).unwrap();
            here.read_exact(&mut reply).unwrap();
            assert_eq!(u64::from_le_bytes(reply), number);
        }
        drop(here);
        other.join().unwrap();
    }
}

#[test]
fn no_wake_up_is_lost_by_a_writer_that_sleeps_for_space() {
    let _watchdog = Watchdog::start();
    const TOTAL: usize = 4 * 1024 * 1024;
    for (mut here, mut there) in pairs() {
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; TOTAL];
            there.read_exact(&mut buffer).unwrap();
            assert!(buffer == pattern(0, TOTAL));
        });
        here.write_all(&pattern(0, TOTAL)).unwrap();
        reader.join().unwrap();
    }
}

#[test]
fn an_event_loop_that_parked_is_rung() {
    let _watchdog = Watchdog::start();
    for (mut here, mut there) in pairs() {
        let writer = thread::spawn(move || {
            for number in 0..2000_u64 {
                there.write_all(&number.to_le_bytes()).unwrap();
                // Most of the time asleep, so that most bytes find a sleeper.
                there.read_exact(&mut [0]).unwrap();
            }
        });
        for number in 0..2000_u64 {
            while !here.is_ready(Interest::READABLE) {
                if here.park(Interest::READABLE) {
                    is_rung(&here, true);
                    here.listen();
                    here.unpark(Interest::READABLE);
                }
            }
            let mut message = [0; 8];
            assert_eq!(here.try_read(&mut message).unwrap(), 8);
            assert_eq!(u64::from_le_bytes(message), number);
            here.write_all(&[1]).unwrap();
        }
        writer.join().unwrap();
    }
}

#[test]
fn an_event_loop_may_not_sleep_beside_something_to_do() {
    for (mut here, mut there) in pairs() {
        assert!(!here.park(Interest::WRITABLE));
        there.write_all(b"x").unwrap();
        assert!(!here.park(Interest::READABLE));
        here.try_read(&mut [0]).unwrap();
        drop(there);
        assert!(!here.park(Interest::READABLE));
    }
}

#[test]
fn an_event_loop_hears_of_the_end() {
    let _watchdog = Watchdog::start();
    for (mut here, there) in pairs() {
        assert!(here.park(Interest::READABLE));
        drop(there);
        assert!(is_rung(&here, true));
        assert!(!here.listen());
        assert_eq!(here.try_read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn what_happens_is_counted_exactly() {
    for (mut here, mut there) in pairs() {
        // Nobody sleeps: no doorbell.
        here.write_all(b"one").unwrap();
        here.write_all(b"three").unwrap();
        assert_eq!(there.read(&mut [0; 100]).unwrap(), 8);
        assert!(!is_rung(&there, false));
        // One sleep, one doorbell, however much is written.
        assert!(there.park(Interest::READABLE));
        here.write_all(b"seven").unwrap();
        here.write_all(b"eleven").unwrap();
        assert!(is_rung(&there, false));
        assert!(!there.listen(), "one look takes them all");
        assert!(!is_rung(&there, false));
        // A sleep that ends by its deadline.
        here.set_timeout(Some(Duration::from_millis(1)));
        assert_eq!(here.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);

        let (sender, receiver) = (here.stats(), there.stats());

        assert_eq!((sender.bytes_sent, sender.bytes_received), (19, 0));
        assert_eq!((sender.writes, sender.reads), (4, 0));
        assert_eq!((sender.doorbells_sent, sender.doorbells_received), (1, 0));
        assert!(sender.parks >= 1);
        assert_eq!((sender.spins_won, sender.spins_lost), (0, 0), "the policy forbids them");
        assert_eq!((receiver.bytes_sent, receiver.bytes_received), (0, 8));
        assert_eq!((receiver.writes, receiver.reads), (0, 1));
        assert_eq!((receiver.doorbells_sent, receiver.doorbells_received), (0, 1));
        assert_eq!(receiver.parks, 1);
    }
}

#[test]
fn spins_are_counted() {
    for (mut here, _there) in pairs() {
        here.set_policy(SpinPolicy::new(WaitMode::Spin, 1000));
        here.set_timeout(Some(Duration::from_millis(1)));
        assert_eq!(here.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        let stats = here.stats();
        assert_eq!((stats.spins_won, stats.spins_lost), (0, 1));
    }
}

#[test]
fn reading_and_writing_end_at_the_deadline() {
    let _watchdog = Watchdog::start();
    for (mut here, mut there) in pairs() {
        let deadline = Instant::now() + Duration::from_millis(50);
        here.set_deadline(Some(deadline));
        // Each read begins anew, and a timeout would with it.
        here.set_timeout(Some(Duration::from_secs(3600)));
        there.write_all(&[1; 10]).unwrap();
        let read = here.read_exact(&mut [0; 20]);
        assert_eq!(read.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(Instant::now() >= deadline);
        let write = here.write_all(&[1; 2 * RING_BYTES]);
        assert_eq!(write.unwrap_err().kind(), ErrorKind::TimedOut);

        here.set_deadline(None);
        there.write_all(&[1; 10]).unwrap();
        here.read_exact(&mut [0; 10]).unwrap();
    }
}

#[test]
fn the_sooner_of_timeout_and_deadline_counts() {
    let _watchdog = Watchdog::start();
    for (mut here, _there) in pairs() {
        here.set_deadline(Some(Instant::now() + Duration::from_secs(3600)));
        here.set_timeout(Some(Duration::from_millis(5)));
        assert_eq!(here.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn sleepers_wake_when_their_peer_is_dropped() {
    let _watchdog = Watchdog::start();
    for (mut here, there) in pairs() {
        let reader = thread::spawn(move || here.read(&mut [0; 4]).unwrap());
        drop(there);
        assert_eq!(reader.join().unwrap(), 0);
    }
    for (mut here, there) in pairs() {
        let writer = thread::spawn(move || here.write_all(&[1; 2 * RING_BYTES]).unwrap_err());
        drop(there);
        assert_eq!(writer.join().unwrap().kind(), ErrorKind::BrokenPipe);
    }
}

#[test]
fn a_sleeper_wakes_when_its_peer_has_seen_it_break_the_protocol() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    let file = File::from(created.fd().unwrap());
    let [one, other] = EventDoorbells::pair().unwrap();
    let mut here = Channel::with_events(created.into_endpoint(), one);
    let mut there = Channel::with_events(attached.into_endpoint(), other);
    // The attacher's tail, in the direction to the creator.
    file.write_all_at(&u64::MAX.to_ne_bytes(), 1024 + 56).unwrap();

    let sleeper = thread::spawn(move || there.read(&mut [0]).unwrap());
    assert_eq!(here.read(&mut [0]).unwrap_err().kind(), ErrorKind::InvalidData);

    assert_eq!(sleeper.join().unwrap(), 0);
}

#[test]
fn hostile_eventfds_without_a_doorbell_do_not_stop_a_loop() {
    let _watchdog = Watchdog::start();
    let (one, _other) = ends();
    let [events, peers] = EventDoorbells::pair().unwrap();
    // The file description is the peer's too: it can make it blocking.
    rustix::fs::fcntl_setfl(&peers.peer, rustix::fs::OFlags::empty()).unwrap();
    let mut here = Channel::with_events(one, events);
    here.listen();
    rustix::io::write(&peers.peer, &7_u64.to_ne_bytes()).unwrap();
    here.listen();
    here.listen();
    assert_eq!(here.stats().doorbells_received, 7);
    rustix::io::write(&peers.peer, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    here.listen();
    assert_eq!(here.stats().doorbells_received, u64::MAX);
}

/// A channel with eventfds to a process that plays `role`, and the socket by which
/// it got them: whoever is left of it may wait for the end of that.
fn channel_to_process(role: &str, life: Life) -> (Channel, OtherProcess, UnixStream) {
    let region = Region::create(RING_BYTES).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let [mut own, others] = EventDoorbells::pair().unwrap();
    for fd in [&region.fd().unwrap(), &others.own, &others.peer, &others.life] {
        send_with_fd(&here, &[0], fd.as_fd()).unwrap();
    }
    drop(others);
    let process = OtherProcess::play(role, there);
    if life == Life::Pidfd {
        let pid = Pid::from_raw(process.id().try_into().unwrap()).unwrap();
        own.life = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    }
    (Channel::with_events(region.into_endpoint(), own), process, here)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Socket,
    Pidfd,
}

/// The other end of [`channel_to_process`], within that process.
fn channel_over(socket: UnixStream) -> Channel {
    let next = || -> OwnedFd {
        let (_, fd) = recv_with_fd(&socket, &mut [0], 0).unwrap();
        fd.expect("a descriptor came")
    };
    let region = Region::attach(next()).unwrap();
    let events = EventDoorbells { own: next(), peer: next(), life: next() };
    Channel::with_events(region.into_endpoint(), events)
}

fn write_and_wait(socket: UnixStream) {
    let mut channel = channel_over(socket);
    channel.write_all(&pattern(0, 1000)).unwrap();
    drop(channel.read(&mut [0]));
}

/// Leaves a child behind that has copies of all descriptors until the socket ends.
fn write_and_fork(socket: UnixStream) {
    let mut held = socket.try_clone().unwrap();
    let mut channel = channel_over(socket);
    // SAFETY: a role has one thread, so the child is as whole as its parent.
    if unsafe { libc::fork() } == 0 {
        drop(io::copy(&mut held, &mut io::sink()));
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(0) };
    }
    channel.write_all(&pattern(0, 1000)).unwrap();
    drop(channel.read(&mut [0]));
}

#[test]
fn proc_what_a_killed_process_published_is_read_before_its_end_is_heard() {
    let _watchdog = Watchdog::start();
    for life in [Life::Socket, Life::Pidfd] {
        let (mut here, mut process, _) = channel_to_process("write_and_wait", life);
        here.wait(Interest::READABLE, None).unwrap();

        process.kill();
        let mut rest = Vec::new();
        here.read_to_end(&mut rest).unwrap();

        assert_eq!(rest, pattern(0, 1000), "{life:?}");
        assert_eq!(here.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

#[test]
fn proc_a_pidfd_tells_of_a_killed_process_whose_child_lives_on() {
    let _watchdog = Watchdog::start();
    for (life, heard) in [(Life::Socket, false), (Life::Pidfd, true)] {
        let (mut here, mut process, _held) = channel_to_process("write_and_fork", life);
        here.read_exact(&mut [0; 1000]).unwrap();

        process.kill();
        here.set_timeout(Some(Duration::from_millis(20)));
        let read = here.read(&mut [0]);

        // The child holds the other end of the socket pair.
        let expected = if heard { Ok(0) } else { Err(ErrorKind::TimedOut) };
        assert_eq!(read.map_err(|error| error.kind()), expected, "{life:?}");
    }
}
