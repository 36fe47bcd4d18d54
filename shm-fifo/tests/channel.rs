//! Channels as a program uses them: between threads, between processes, and
//! when the other side dies, lies or falls asleep.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{ClockId, Timespec, clock_gettime};
use shm_fifo::testing::pattern;
use shm_fifo::{Channel, Interest, Region, SpinPolicy, WaitMode};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use support::process::{channel_over, channel_to_process, roles};
use support::{Random, Watchdog};

roles! { echo_as_process, write_and_wait }

const RING_BYTES: usize = 4096;

fn park_only() -> SpinPolicy {
    SpinPolicy::new(WaitMode::Park, 0)
}

fn is_would_block<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Sends back what comes until the end of the stream.
fn echo(channel: &mut Channel) {
    let mut buffer = vec![0; 3000];
    loop {
        match channel.read(&mut buffer).unwrap() {
            0 => return,
            length => channel.write_all(&buffer[..length]).unwrap(),
        }
    }
}

/// Sends messages of random lengths one by one and asserts that each comes back.
fn assert_echoes(channel: &mut Channel, messages: usize) {
    let mut random = Random::seeded(42);
    let mut position = 0;
    for _ in 0..messages {
        // Half of them fit inline, the longest fills no ring by itself.
        let longest = [48, RING_BYTES][random.below(2)];
        let message = pattern(position, 1 + random.below(longest));
        position += message.len() as u64;
        channel.write_all(&message).unwrap();
        let mut reply = vec![0; message.len()];
        channel.read_exact(&mut reply).unwrap();
        assert!(reply == message, "at position {position}");
    }
}

#[test]
fn random_messages_are_echoed_between_threads() {
    let _watchdog = Watchdog::start();
    let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
    let echoing = thread::spawn(move || echo(&mut there));
    assert_echoes(&mut here, 20_000);
    drop(here);
    echoing.join().unwrap();
}

fn echo_as_process(socket: UnixStream) {
    echo(&mut channel_over(socket));
}

#[test]
fn proc_random_messages_are_echoed_between_processes() {
    let _watchdog = Watchdog::start();
    let (mut here, process) = channel_to_process(RING_BYTES, "echo_as_process");
    assert_echoes(&mut here, 20_000);
    drop(here);
    process.assert_success();
}

fn write_and_wait(socket: UnixStream) {
    let mut channel = channel_over(socket);
    channel.write_all(&pattern(0, 1000)).unwrap();
    drop(channel.read(&mut [0]));
}

#[test]
fn proc_what_a_killed_process_published_is_read_before_the_end() {
    let _watchdog = Watchdog::start();
    let (mut here, mut process) = channel_to_process(RING_BYTES, "write_and_wait");
    here.wait(Interest::READABLE, None).unwrap();

    process.kill();
    let mut rest = Vec::new();
    here.read_to_end(&mut rest).unwrap();

    assert_eq!(rest, pattern(0, 1000));
    assert_eq!(here.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn proc_a_writer_blocked_on_a_full_ring_learns_that_its_reader_was_killed() {
    let _watchdog = Watchdog::start();
    let (mut here, mut process) = channel_to_process(RING_BYTES, "write_and_wait");
    here.wait(Interest::READABLE, None).unwrap();
    while here.try_write(&[0; RING_BYTES]).is_ok() {}

    let killer = thread::spawn(move || process.kill());
    let error = here.write_all(&[0; 4 * RING_BYTES]).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    killer.join().unwrap();
}

#[test]
fn a_dropped_peer_leaves_its_bytes_and_then_the_end() {
    let _watchdog = Watchdog::start();
    let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
    there.write_all(b"last words").unwrap();
    drop(there);

    let mut buffer = [0; 4];
    assert_eq!(here.read(&mut buffer).unwrap(), 4);
    assert_eq!(here.read(&mut buffer).unwrap(), 4);
    assert_eq!(here.read(&mut buffer).unwrap(), 2);
    assert_eq!(here.read(&mut buffer).unwrap(), 0);
    assert_eq!(here.try_read(&mut buffer).unwrap(), 0);
}

#[test]
fn writing_to_a_dropped_peer_is_a_broken_pipe() {
    let _watchdog = Watchdog::start();
    let (mut here, there) = Channel::pair(RING_BYTES).unwrap();
    drop(there);
    assert_eq!(here.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(here.try_write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_sleeping_reader_wakes_when_its_peer_is_dropped() {
    let _watchdog = Watchdog::start();
    let (mut here, there) = Channel::pair(RING_BYTES).unwrap();
    here.set_policy(park_only());
    let dropper = thread::spawn(move || drop(there));
    assert_eq!(here.read(&mut [0; 4]).unwrap(), 0);
    dropper.join().unwrap();
}

#[test]
fn a_sleeping_reader_wakes_although_a_copy_of_the_dropped_socket_lives() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    let (one, other) = UnixStream::pair().unwrap();
    // As a forked child of the peer has one.
    let _copy = other.try_clone().unwrap();
    let mut here = Channel::new(created.into_endpoint(), one.into());
    let there = Channel::new(attached.into_endpoint(), other.into());
    here.set_policy(park_only());

    let reader = thread::spawn(move || here.read(&mut [0; 4]).unwrap());
    drop(there);

    assert_eq!(reader.join().unwrap(), 0);
}

#[test]
fn a_doorbell_in_non_blocking_mode_is_slept_on_all_the_same() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    let (one, other) = UnixStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    let mut here = Channel::new(created.into_endpoint(), one.into());
    let mut there = Channel::new(attached.into_endpoint(), other.into());
    here.set_policy(park_only());

    here.set_timeout(Some(Duration::from_millis(20)));
    assert_eq!(here.read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::TimedOut);
    // Two more than one: a signal may end a sleep.
    assert!((1..4).contains(&here.stats().parks), "{:?}", here.stats());

    here.set_timeout(None);
    let reader = thread::spawn(move || here.read(&mut [0; 4]).unwrap());
    there.write_all(b"woke").unwrap();
    assert_eq!(reader.join().unwrap(), 4);
}

#[test]
fn a_sleeping_writer_wakes_when_its_peer_is_dropped() {
    let _watchdog = Watchdog::start();
    let (mut here, there) = Channel::pair(RING_BYTES).unwrap();
    here.set_policy(park_only());
    here.write_all(&[1; RING_BYTES]).unwrap();
    let dropper = thread::spawn(move || drop(there));
    assert_eq!(here.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    dropper.join().unwrap();
}

#[test]
fn reading_and_writing_end_at_the_timeout() {
    let _watchdog = Watchdog::start();
    for mode in [WaitMode::Park, WaitMode::Adaptive, WaitMode::Spin] {
        let (mut here, _there) = Channel::pair(RING_BYTES).unwrap();
        here.set_policy(SpinPolicy::new(mode, 50_000));
        here.set_timeout(Some(Duration::from_millis(20)));
        here.write_all(&[1; RING_BYTES]).unwrap();

        let started = Instant::now();
        let read = here.read(&mut [0; 4]);
        let read_took = started.elapsed();
        let write = here.write(b"x");

        assert_eq!(read.unwrap_err().kind(), ErrorKind::TimedOut, "{mode:?}");
        assert_eq!(write.unwrap_err().kind(), ErrorKind::TimedOut, "{mode:?}");
        assert!(read_took >= Duration::from_millis(20), "{mode:?}: {read_took:?}");
    }
}

#[test]
fn a_channel_works_on_after_a_timeout_and_without_one() {
    let _watchdog = Watchdog::start();
    let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
    here.set_timeout(Some(Duration::from_millis(1)));
    assert_eq!(here.read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::TimedOut);

    here.set_timeout(None);
    let writer = thread::spawn(move || {
        there.write_all(b"late").unwrap();
        there
    });
    let mut buffer = [0; 4];
    here.read_exact(&mut buffer).unwrap();

    assert_eq!(&buffer, b"late");
    drop(writer.join().unwrap());
}

#[test]
fn waiting_past_the_deadline_is_timed_out_but_not_where_something_is_ready() {
    let _watchdog = Watchdog::start();
    let (mut here, _there) = Channel::pair(RING_BYTES).unwrap();
    let past = Some(Instant::now());
    let timed_out = here.wait(Interest::READABLE, past).unwrap_err();
    assert_eq!(timed_out.kind(), ErrorKind::TimedOut);
    here.wait(Interest::WRITABLE, past).unwrap();
    here.wait(Interest::BOTH, past).unwrap();
}

#[test]
fn nothing_to_do_is_would_block() {
    let (mut here, _there) = Channel::pair(RING_BYTES).unwrap();
    assert!(is_would_block(&here.try_read(&mut [0; 4])));
    assert_eq!(here.try_write(&[1; 2 * RING_BYTES]).unwrap(), RING_BYTES);
    assert!(is_would_block(&here.try_write(b"x")));
}

#[test]
fn pieces_are_written_and_read_as_one_message() {
    let _watchdog = Watchdog::start();
    let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
    for length in [0, 1, 48, 49, 1000, RING_BYTES] {
        let message = pattern(length as u64, length);
        let (header, body) = message.split_at(length / 3);
        let sources = [IoSlice::new(header), IoSlice::new(&[]), IoSlice::new(body)];
        assert_eq!(here.write_vectored(&sources).unwrap(), length);

        let mut target = vec![0; length];
        let (front, back) = target.split_at_mut(length / 2);
        let mut targets = [IoSliceMut::new(front), IoSliceMut::new(back)];
        assert_eq!(there.read_vectored(&mut targets).unwrap(), length);
        assert!(target == message, "{length}");
    }
    assert!(is_would_block(&there.try_read_vectored(&mut [IoSliceMut::new(&mut [0])])));
    here.write_all(&[1; RING_BYTES]).unwrap();
    assert!(is_would_block(&here.try_write_vectored(&[IoSlice::new(&[]), IoSlice::new(b"x")])));
}

#[test]
fn empty_slices_are_read_and_written_at_once() {
    let _watchdog = Watchdog::start();
    let (mut here, _there) = Channel::pair(RING_BYTES).unwrap();
    assert_eq!(here.read(&mut []).unwrap(), 0);
    assert_eq!(here.write(&[]).unwrap(), 0);
}

#[test]
fn readiness_tells_reading_from_writing() {
    let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
    assert!(!here.is_ready(Interest::READABLE));
    assert!(here.is_ready(Interest::WRITABLE));
    here.write_all(&[1; RING_BYTES]).unwrap();
    assert!(!here.is_ready(Interest::BOTH));
    there.write_all(b"x").unwrap();
    assert!(here.is_ready(Interest::READABLE));
    assert!(!here.is_ready(Interest::WRITABLE));
    assert!(here.is_ready(Interest::BOTH));
}

#[test]
fn space_is_worth_waking_for_from_a_quarter_of_the_ring() {
    let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
    here.write_all(&[1; RING_BYTES]).unwrap();
    there.read_exact(&mut [0; RING_BYTES / 4 - 1]).unwrap();
    assert!(!here.is_ready(Interest::WRITABLE));
    there.read_exact(&mut [0; 1]).unwrap();
    assert!(here.is_ready(Interest::WRITABLE));
}

/// Sends `total` bytes and receives as many, never blocking in one direction only.
fn exchange(channel: &mut Channel, total: usize) {
    let (mut sent, mut received) = (0, 0);
    let mut buffer = vec![0; 2 * RING_BYTES];
    while sent < total || received < total {
        let mut moved = false;
        if sent < total {
            let message = pattern(sent as u64, (total - sent).min(buffer.len()));
            match channel.try_write(&message) {
                Ok(length) => {
                    sent += length;
                    moved = true;
                }
                refused => assert!(is_would_block(&refused), "{refused:?}"),
            }
        }
        if received < total {
            match channel.try_read(&mut buffer) {
                Ok(length) => {
                    assert!(buffer[..length] == pattern(received as u64, length));
                    received += length;
                    moved = true;
                }
                refused => assert!(is_would_block(&refused), "{refused:?}"),
            }
        }
        if !moved {
            let interest = Interest { readable: received < total, writable: sent < total };
            channel.wait(interest, None).unwrap();
        }
    }
}

#[test]
fn a_transfer_in_both_directions_at_once_does_not_deadlock() {
    let _watchdog = Watchdog::start();
    const TOTAL: usize = 4 * 1024 * 1024;
    for policy in [SpinPolicy::default(), park_only()] {
        let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
        here.set_policy(policy.clone());
        there.set_policy(policy);
        let other = thread::spawn(move || {
            exchange(&mut there, TOTAL);
            there
        });
        exchange(&mut here, TOTAL);
        drop(other.join().unwrap());
        let stats = here.stats();
        assert_eq!((stats.bytes_received, stats.bytes_sent), (TOTAL as u64, TOTAL as u64));
    }
}

/// Round trips of one short message where both sides do nothing but sleep and wake.
fn ping_pong(policy: &SpinPolicy, round_trips: u64) {
    let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
    here.set_policy(policy.clone());
    there.set_policy(policy.clone());
    let other = thread::spawn(move || {
        let mut message = [0; 8];
        for _ in 0..round_trips {
            there.read_exact(&mut message).unwrap();
            there.write_all(&message).unwrap();
        }
        there
    });
    for number in 0..round_trips {
        let mut reply = [0; 8];
        here.write_all(&number.to_le_bytes()).unwrap();
        here.read_exact(&mut reply).unwrap();
        assert_eq!(u64::from_le_bytes(reply), number);
    }
    drop(other.join().unwrap());
}

#[test]
fn no_wake_up_is_lost_when_both_sides_always_park() {
    let _watchdog = Watchdog::start();
    ping_pong(&park_only(), 100_000);
}

#[test]
fn no_wake_up_is_lost_when_both_sides_adapt() {
    let _watchdog = Watchdog::start();
    ping_pong(&SpinPolicy::default(), 100_000);
}

#[test]
fn no_wake_up_is_lost_when_spins_end_about_when_the_answer_comes() {
    let _watchdog = Watchdog::start();
    // The most races between announcing a sleep and being answered.
    for budget_ns in [200, 1_000, 5_000] {
        ping_pong(&SpinPolicy::new(WaitMode::Spin, budget_ns), 30_000);
    }
}

#[test]
fn no_wake_up_is_lost_by_a_writer_that_sleeps_for_space() {
    let _watchdog = Watchdog::start();
    const TOTAL: usize = 32 * 1024 * 1024;
    let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
    here.set_policy(park_only());
    there.set_policy(park_only());
    let reader = thread::spawn(move || {
        let mut random = Random::seeded(7);
        let mut buffer = vec![0; 6000];
        let mut received = 0;
        while received < TOTAL {
            let wanted = 1 + random.below(buffer.len());
            let length = there.read(&mut buffer[..wanted]).unwrap();
            assert!(buffer[..length] == pattern(received as u64, length));
            received += length;
        }
    });
    let mut random = Random::seeded(8);
    let mut sent = 0;
    while sent < TOTAL {
        let length = (1 + random.below(6000)).min(TOTAL - sent);
        here.write_all(&pattern(sent as u64, length)).unwrap();
        sent += length;
    }
    reader.join().unwrap();
}

#[test]
fn a_sleeping_writer_is_rung_by_a_reader_that_never_sleeps() {
    let _watchdog = Watchdog::start();
    const TOTAL: usize = 1024 * 1024;
    let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
    here.set_policy(park_only());
    let writer = thread::spawn(move || here.write_all(&pattern(0, TOTAL)));
    let mut received = 0;
    let mut buffer = [0; 1000];
    while received < TOTAL {
        match there.try_read(&mut buffer) {
            Ok(length) => received += length,
            refused => assert!(is_would_block(&refused), "{refused:?}"),
        }
        thread::yield_now();
    }
    writer.join().unwrap().unwrap();
}

#[test]
fn a_sleeping_writer_is_rung_before_its_reader_sleeps_for_space() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    let file = File::from(created.fd().unwrap());
    let (one, other) = UnixStream::pair().unwrap();
    let mut here = Channel::new(created.into_endpoint(), one.into());
    let mut there = Channel::new(attached.into_endpoint(), other.into());
    there.set_policy(park_only());
    let peer = thread::spawn(move || {
        there.write_all(&[1; RING_BYTES + 1000]).unwrap();
        there.read_exact(&mut [0; 2 * RING_BYTES]).unwrap();
        there
    });
    // The peer's `producer_parked`, in the direction to the creator.
    let mut parked = [0; 4];
    while parked == [0; 4] {
        file.read_exact_at(&mut parked, 1024 + 384).unwrap();
    }

    // Less than half a ring, but enough to wake a writer for.
    here.read_exact(&mut [0; RING_BYTES / 2 - 1]).unwrap();
    here.write_all(&[2; 2 * RING_BYTES]).unwrap();

    drop(peer.join().unwrap());
}

#[test]
fn the_last_bytes_come_before_the_end_at_whatever_moment_the_peer_ends() {
    let _watchdog = Watchdog::start();
    let (give, take) = mpsc::channel::<Channel>();
    let writer = thread::spawn(move || {
        for mut channel in take {
            channel.write_all(b"last words").unwrap();
        }
    });
    for _ in 0..5000 {
        let (mut here, there) = Channel::pair(RING_BYTES).unwrap();
        give.send(there).unwrap();
        let first = loop {
            match here.try_read(&mut [0; 16]) {
                Ok(length) => break length,
                refused => assert!(is_would_block(&refused), "{refused:?}"),
            }
        };
        assert_eq!(first, 10);
    }
    drop(give);
    writer.join().unwrap();
}

#[test]
fn a_sleeping_reader_uses_no_cpu() {
    let _watchdog = Watchdog::start();
    for mode in [WaitMode::Park, WaitMode::Adaptive] {
        let (mut here, _there) = Channel::pair(RING_BYTES).unwrap();
        here.set_policy(SpinPolicy::new(mode, 50_000));
        here.set_timeout(Some(Duration::from_millis(300)));

        let before = cpu_time_of_this_thread();
        let read = here.read(&mut [0; 4]);
        let used = cpu_time_of_this_thread() - before;

        assert_eq!(read.unwrap_err().kind(), ErrorKind::TimedOut);
        // A spin budget and a few system calls; a busy reader would use 300 ms.
        assert!(used < Duration::from_millis(30), "{mode:?}: {used:?}");
    }
}

fn cpu_time_of_this_thread() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

#[test]
fn a_stranger_on_the_doorbell_socket_breaks_the_channel() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let _attached = Region::attach(created.fd().unwrap()).unwrap();
    let (here, mut there) = UnixStream::pair().unwrap();
    let mut channel = Channel::new(created.into_endpoint(), here.into());
    there.write_all(b"\0\0*1\r\n").unwrap();

    let read = channel.read(&mut [0; 4]).unwrap_err();
    let write = channel.write(b"x").unwrap_err();
    let told = there.read(&mut [0; 4]).unwrap();

    assert_eq!(read.kind(), ErrorKind::InvalidData);
    assert_eq!(write.kind(), ErrorKind::InvalidData);
    assert_eq!(told, 0, "the stranger sees the end of the socket");
}

#[test]
fn hostile_doorbells_without_end_do_not_outlast_the_timeout() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let (here, mut there) = UnixStream::pair().unwrap();
    let mut channel = Channel::new(created.into_endpoint(), here.into());
    channel.set_policy(park_only());
    channel.set_timeout(Some(Duration::from_millis(20)));
    // It ends when the channel does.
    let flood = thread::spawn(move || while there.write_all(&[0; 64]).is_ok() {});

    let read = channel.read(&mut [0; 4]);

    assert_eq!(read.unwrap_err().kind(), ErrorKind::TimedOut);
    drop(channel);
    flood.join().unwrap();
}

#[test]
fn surplus_doorbells_are_no_data() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    there.try_clone().unwrap().write_all(&[0; 1000]).unwrap();
    let mut here = Channel::new(created.into_endpoint(), here.into());
    let mut there = Channel::new(attached.into_endpoint(), there.into());

    let writer = thread::spawn(move || {
        there.write_all(b"data").unwrap();
        there
    });
    let mut buffer = [0; 8];
    let length = here.read(&mut buffer).unwrap();

    assert_eq!(&buffer[..length], b"data");
    drop(writer.join().unwrap());
}

/// Whether a doorbell waits on the channel's socket.
fn is_rung(channel: &Channel) -> bool {
    let mut entries = [PollFd::new(channel, PollFlags::IN)];
    poll(&mut entries, Some(&Timespec::default())).unwrap() == 1
}

#[test]
fn an_event_loop_is_rung_once_for_each_announcement() {
    let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
    there.write_all(b"a").unwrap();
    assert!(!is_rung(&here), "nobody sleeps");
    assert!(!here.park(Interest::READABLE), "there is something to read");
    assert_eq!(here.read(&mut [0]).unwrap(), 1);
    assert!(here.park(Interest::READABLE));
    there.write_all(b"b").unwrap();
    there.write_all(b"c").unwrap();
    assert!(is_rung(&here));
    assert!(!here.listen(), "one look takes them all");
    assert!(!is_rung(&here), "the second write rang nobody");
}

#[test]
fn an_announcement_taken_back_needs_no_doorbell() {
    let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
    assert!(here.park(Interest::READABLE));
    here.unpark(Interest::READABLE);
    there.write_all(b"a").unwrap();
    assert!(!is_rung(&here));
}

#[test]
fn an_event_loop_that_waits_for_space_is_rung_when_there_is_some() {
    let (mut here, mut there) = Channel::pair(RING_BYTES).unwrap();
    while here.try_write(&[0; RING_BYTES]).is_ok() {}
    assert!(here.park(Interest::WRITABLE));
    let mut buffer = vec![0; RING_BYTES];
    assert_eq!(there.try_read(&mut buffer).unwrap(), RING_BYTES);
    // At the latest before it sleeps itself.
    assert!(there.park(Interest::READABLE));
    assert!(is_rung(&here));
    assert!(here.is_ready(Interest::WRITABLE));
}

#[test]
fn listening_hears_the_end_of_the_peer() {
    let (mut here, there) = Channel::pair(RING_BYTES).unwrap();
    assert!(here.park(Interest::READABLE));
    drop(there);
    assert!(!here.listen());
    assert_eq!(here.try_read(&mut [0]).unwrap(), 0);
    assert!(!here.park(Interest::READABLE), "the end is there to be read");
}
