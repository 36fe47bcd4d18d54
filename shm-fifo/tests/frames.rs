//! Frames arrive as they were sent, whatever their lengths, the ring's and the peer's manners.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use proptest::prelude::*;
use shm_fifo::fifo::Corrupt;
use shm_fifo::frame::{FrameError, FrameReader, FrameWriter, LENGTH_BYTES};
use shm_fifo::testing::{HeapFifo, Word, pattern};
use shm_fifo::{Channel, Interest};
use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::thread;
use std::time::Duration;
use support::process::{OtherProcess, roles};
use support::{Random, Watchdog};

roles! { send_a_part_and_wait, send_frames_for_ever, swallow_frames_for_ever }

const RING_BYTES: usize = 4096;
/// The longest frame that passes that ring whole.
const LONGEST_WHOLE: usize = RING_BYTES / 2 - LENGTH_BYTES;

fn pair() -> (Channel, Channel) {
    Channel::pair(RING_BYTES).unwrap()
}

/// A frame that is told from any other.
fn frame(number: usize, length: usize) -> Vec<u8> {
    pattern(number as u64 * 7, length)
}

fn assert_kind<T: std::fmt::Debug>(result: std::io::Result<T>, kind: ErrorKind) {
    assert_eq!(result.unwrap_err().kind(), kind);
}

// The core, against a model.

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Read,
}

fn steps(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![(0..=longest).prop_map(Step::Write), Just(Step::Read), Just(Step::Read)];
    prop::collection::vec(step, 1..100)
}

/// Writes and reads frames, without waiting, and compares with a queue of them.
fn run_core(steps: &[Step], capacity: usize, start: u64) {
    let memory = HeapFifo::new(capacity, start);
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    let (mut writer, mut reader) = (FrameWriter::new(1000), FrameReader::new(1000));
    let mut model: VecDeque<Vec<u8>> = VecDeque::new();
    let mut under_way: Option<Vec<u8>> = None;
    let mut target = vec![0; 1000];
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Write(length) => {
                let next = under_way.take().unwrap_or_else(|| frame(number, *length));
                if writer.write(&mut producer, &next).unwrap() {
                    assert!(!writer.is_inside_frame());
                    model.push_back(next);
                } else {
                    let ready = writer.watch(&producer, &next).is_ready(producer.position());
                    assert!(!ready || writer.is_inside_frame(), "who waits may sleep");
                    under_way = writer.is_inside_frame().then_some(next);
                }
            }
            Step::Read => match reader.read(&mut consumer, &mut target).unwrap() {
                Some(length) => assert_eq!(Some(&target[..length]), model.pop_front().as_deref()),
                None => {
                    assert!(model.is_empty(), "whole frames are there");
                    let ready = reader.watch(&consumer).is_ready(consumer.position());
                    assert!(!ready, "who waits may sleep");
                }
            },
        }
    }
    // Whatever is under way comes to its end.
    while let Some(next) = under_way.take() {
        if writer.write(&mut producer, &next).unwrap() {
            model.push_back(next);
        } else {
            under_way = Some(next);
        }
        if let Some(length) = reader.read(&mut consumer, &mut target).unwrap() {
            assert_eq!(Some(&target[..length]), model.pop_front().as_deref());
        }
    }
    while let Some(expected) = model.pop_front() {
        let length = reader.read(&mut consumer, &mut target).unwrap();
        assert_eq!(length.map(|length| &target[..length]), Some(&expected[..]));
    }
    assert_eq!(reader.end(&mut consumer), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 4096 }))]

    #[test]
    fn frames_of_any_length_pass_a_small_ring(
        steps in steps(300),
        capacity_log2 in 6..9_u32,
        below in 0..600_u64,
    ) {
        run_core(&steps, 1 << capacity_log2, u64::MAX - below);
    }

    #[test]
    fn short_frames_pass_a_small_ring(steps in steps(50), below in 0..300_u64) {
        run_core(&steps, 128, u64::MAX - below);
    }
}

#[test]
fn a_frame_longer_than_the_target_is_left_for_a_longer_one() {
    let memory = HeapFifo::new(64, 0);
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    assert!(FrameWriter::new(10).write(&mut producer, b"four").unwrap());
    let mut reader = FrameReader::new(10);
    let too_long = Err(FrameError::TooLong { length: 4, max: 3 });
    assert_eq!(reader.read(&mut consumer, &mut [0; 3]), too_long);
    assert_eq!(reader.end(&mut consumer), Err(FrameError::Cut));
    assert_eq!(reader.read(&mut consumer, &mut [0; 4]), Ok(Some(4)));
    let too_long = Err(FrameError::TooLong { length: 11, max: 10 });
    assert_eq!(FrameWriter::new(10).write(&mut producer, &[0; 11]), too_long);
    assert_eq!(reader.end(&mut consumer), Ok(()));
}

#[test]
fn hostile_positions_are_corrupt() {
    let memory = HeapFifo::new(64, 0);
    let mut consumer = memory.consumer();
    memory.scribble(Word::Tail, 1 << 40);
    let result = FrameReader::new(10).read(&mut consumer, &mut [0; 10]);
    assert!(matches!(result, Err(FrameError::Corrupt(Corrupt { value, .. })) if value == 1 << 40));
}

// Waiting for as much as is needed.

#[test]
fn who_waits_for_more_than_there_is_may_sleep() {
    let memory = HeapFifo::new(64, 0);
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    producer.write(&[1; 40]).unwrap();
    assert!(producer.watch().is_ready(40), "a quarter is free");
    assert!(producer.watch_for(24).is_ready(40));
    assert!(producer.watch_for(25).park(40));
    assert!(consumer.watch_for(40).is_ready(0));
    assert!(consumer.watch_for(41).park(0));
    consumer.read(&mut [0; 1]).unwrap();
    assert!(producer.watch_for(25).is_ready(40));
    consumer.read(&mut [0; 39]).unwrap();
    assert!(producer.watch_for(1000).is_ready(40), "all of it is the most there is");
    producer.close();
    assert!(consumer.watch_for(10).is_ready(40), "and the end is something");
}

/// Both ends poll without ever sleeping, but for the writer, which sleeps for half of the ring:
/// the reader's looks, one for each half ring, must come in time.
#[test]
fn a_reader_that_never_sleeps_wakes_a_writer_that_wants_half_of_the_ring() {
    let _watchdog = Watchdog::start();
    let (mut writer, mut reader) = pair();
    let sending = thread::spawn(move || {
        let mut random = Random::seeded(7);
        for number in 0..20_000 {
            writer.send(&frame(number, random.below(LONGEST_WHOLE + 1))).unwrap();
        }
        writer.stats().parks
    });
    let (mut random, mut received, mut number) = (Random::seeded(7), Vec::new(), 0);
    while number < 20_000 {
        match reader.try_recv_into(&mut received) {
            Ok(Some(_)) => {
                assert_eq!(received, frame(number, random.below(LONGEST_WHOLE + 1)));
                number += 1;
            }
            Ok(None) => panic!("the end before the last frame"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    sending.join().unwrap();
}

// Channels.

#[test]
fn frames_of_all_lengths_pass_a_channel() {
    let _watchdog = Watchdog::start();
    let (mut writer, mut reader) = pair();
    let lengths = |number: usize| match number % 4 {
        0 => number % 60,
        1 => number % (2 * LONGEST_WHOLE),
        2 => LONGEST_WHOLE - 2 + number % 5,
        _ => number * 13 % (5 * RING_BYTES),
    };
    let sending = thread::spawn(move || {
        (0..3000).for_each(|number| writer.send(&frame(number, lengths(number))).unwrap());
    });
    let mut received = Vec::new();
    for number in 0..3000 {
        assert_eq!(reader.recv_into(&mut received).unwrap(), Some(lengths(number)));
        assert_eq!(received, frame(number, lengths(number)));
    }
    sending.join().unwrap();
    assert_eq!(reader.recv_into(&mut received).unwrap(), None);
    assert_eq!(reader.recv_into(&mut received).unwrap(), None, "the end stays");
}

#[test]
fn a_frame_is_sent_whole_or_not_at_all_and_the_channel_says_when() {
    let _watchdog = Watchdog::start();
    let (mut writer, mut reader) = pair();
    writer.try_send(&[1; LONGEST_WHOLE]).unwrap();
    writer.try_send(&[2; LONGEST_WHOLE - 9]).unwrap();
    assert_kind(writer.try_send(&[3; 6]), ErrorKind::WouldBlock);
    assert_eq!(writer.stats().bytes_sent, (RING_BYTES - 9) as u64);
    assert!(!writer.is_ready(Interest::WRITABLE));
    assert!(writer.park(Interest::WRITABLE));
    writer.unpark(Interest::WRITABLE);
    writer.try_send(&[3; 5]).unwrap();

    let mut received = Vec::new();
    assert_eq!(reader.try_recv_into(&mut received).unwrap(), Some(LONGEST_WHOLE));
    assert_kind(writer.try_send(&[4; LONGEST_WHOLE + 1]), ErrorKind::InvalidInput);
    assert!(writer.is_ready(Interest::WRITABLE));
    writer.try_send(&[4; LONGEST_WHOLE]).unwrap();
    writer.set_timeout(Some(Duration::from_millis(1)));
    assert_kind(writer.send(b"five"), ErrorKind::TimedOut);
    writer.set_max_frame_bytes(3);
    assert_kind(writer.send(b"five"), ErrorKind::InvalidInput);

    let mut lengths = Vec::new();
    assert_eq!(reader.for_each_frame(|frame| lengths.push(frame.len())).unwrap(), 3);
    assert_eq!(lengths, [LONGEST_WHOLE - 9, 5, LONGEST_WHOLE]);
    assert_kind(reader.for_each_frame(|_| ()), ErrorKind::WouldBlock);
    drop(writer);
    assert_eq!(reader.for_each_frame(|_| ()).unwrap(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "Miri has neither memfd_create nor shared mappings")]
fn a_limit_that_is_lowered_is_for_frames_that_begin_later() {
    let (mut writer, mut reader) = pair();
    let long = frame(1, RING_BYTES);
    let mut received = Vec::new();
    writer.write_all(&u32::try_from(RING_BYTES).unwrap().to_le_bytes()).unwrap();
    writer.write_all(&long[..100]).unwrap();
    assert_kind(reader.try_recv_into(&mut received), ErrorKind::WouldBlock);

    reader.set_max_frame_bytes(10);

    writer.write_all(&long[100..]).unwrap();
    assert_eq!(reader.recv_into(&mut received).unwrap(), Some(RING_BYTES));
    assert!(received == long);
    writer.send(&[1; 11]).unwrap();
    assert_kind(reader.recv_into(&mut received), ErrorKind::InvalidData);
}

#[test]
fn a_frame_that_comes_in_pieces_takes_no_more_memory_than_it_is_long() {
    let _watchdog = Watchdog::start();
    const LENGTH: usize = 5000;
    let (mut writer, mut reader) = pair();
    reader.set_max_frame_bytes(LENGTH);
    let bytes = [&u32::try_from(LENGTH).unwrap().to_le_bytes()[..], &[7; LENGTH]].concat();
    let mut received = Vec::new();
    writer.write_all(&bytes[..3000]).unwrap();
    assert_kind(reader.try_recv_into(&mut received), ErrorKind::WouldBlock);
    writer.write_all(&bytes[3000..]).unwrap();
    assert_eq!(reader.try_recv_into(&mut received).unwrap(), Some(LENGTH));
    assert!(received.capacity() <= LENGTH, "{}", received.capacity());
}

#[test]
fn who_was_refused_waits_for_space_for_all_of_its_frame() {
    let _watchdog = Watchdog::start();
    let (mut writer, mut reader) = pair();
    writer.try_send(&[1; LONGEST_WHOLE]).unwrap();
    writer.try_send(&[2; 700]).unwrap();
    assert!(writer.is_ready(Interest::WRITABLE), "more than a quarter of the ring is free");
    assert_kind(writer.try_send(&[3; 1500]), ErrorKind::WouldBlock);
    assert!(!writer.is_ready(Interest::WRITABLE), "but not as much as that frame takes");
    assert!(writer.park(Interest::WRITABLE));
    assert_eq!(reader.try_recv_into(&mut Vec::new()).unwrap(), Some(LONGEST_WHOLE));
    writer.unpark(Interest::WRITABLE);
    assert!(writer.listen() || writer.stats().doorbells_received == 1, "half a ring was read");
    assert!(writer.is_ready(Interest::WRITABLE));
    writer.try_send(&[3; 1500]).unwrap();
}

#[test]
fn a_part_of_a_frame_is_kept_and_waited_for() {
    let _watchdog = Watchdog::start();
    let (mut writer, mut reader) = pair();
    let mut received = Vec::new();
    let mut raw = 100_u32.to_le_bytes().to_vec();
    raw.extend(frame(1, 100));
    for part in [&raw[..2], &raw[2..50]] {
        writer.write_all(part).unwrap();
        assert_kind(reader.try_recv_into(&mut received), ErrorKind::WouldBlock);
        assert!(!reader.is_ready(Interest::READABLE), "nothing to do until all of it is there");
        assert!(reader.park(Interest::READABLE));
        reader.unpark(Interest::READABLE);
    }
    reader.set_timeout(Some(Duration::from_millis(1)));
    assert_kind(reader.recv_into(&mut received), ErrorKind::TimedOut);
    writer.write_all(&raw[50..]).unwrap();
    assert!(reader.is_ready(Interest::READABLE));
    assert_eq!(reader.recv_into(&mut received).unwrap(), Some(100));
    assert_eq!(received, frame(1, 100));

    // One that streams through, with a timeout in the middle.
    let long = frame(2, 3 * RING_BYTES);
    writer.write_all(&u32::try_from(long.len()).unwrap().to_le_bytes()).unwrap();
    let mut sent = 0;
    while sent < long.len() {
        sent += writer.try_write(&long[sent..]).unwrap();
        if sent < long.len() {
            assert_kind(reader.recv_into(&mut received), ErrorKind::TimedOut);
            assert_eq!(received, frame(1, 100), "untouched");
        }
    }
    assert_eq!(reader.recv_into(&mut received).unwrap(), Some(long.len()));
    assert_eq!(received, long);
}

#[test]
fn a_frame_that_breaks_off_ends_the_channel_for_both() {
    let _watchdog = Watchdog::start();
    let (mut writer, mut reader) = pair();
    writer.set_timeout(Some(Duration::from_millis(1)));
    assert_kind(writer.send(&[0; 2 * RING_BYTES]), ErrorKind::TimedOut);
    assert_kind(writer.send(b"more"), ErrorKind::BrokenPipe);
    assert_kind(writer.try_send(b"more"), ErrorKind::BrokenPipe);
    assert_kind(reader.recv_into(&mut Vec::new()), ErrorKind::UnexpectedEof);
    assert_kind(reader.for_each_frame(|_| ()), ErrorKind::UnexpectedEof);
}

#[test]
fn an_end_inside_a_length_is_no_end_between_frames() {
    let _watchdog = Watchdog::start();
    let (mut writer, mut reader) = pair();
    writer.send(b"whole").unwrap();
    writer.write_all(&[5, 0, 0]).unwrap();
    drop(writer);
    let mut received = Vec::new();
    assert_eq!(reader.recv_into(&mut received).unwrap(), Some(5));
    assert_kind(reader.recv_into(&mut received), ErrorKind::UnexpectedEof);
}

#[test]
fn hostile_lengths_end_the_channel_before_anything_is_allocated() {
    let _watchdog = Watchdog::start();
    for length in [1025, 1 << 20, u32::MAX] {
        let (mut writer, mut reader) = pair();
        reader.set_max_frame_bytes(1024);
        writer.write_all(&length.to_le_bytes()).unwrap();
        let mut received = Vec::new();
        let error = reader.recv_into(&mut received).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let told = format!("a frame of {length} bytes is longer than the limit of 1024");
        assert_eq!(error.to_string(), told);
        assert_eq!(received.capacity(), 0);
        assert_kind(reader.recv_into(&mut received), ErrorKind::InvalidData);
        assert_kind(reader.send(b"x"), ErrorKind::InvalidData);
        assert_kind(writer.send(b"x"), ErrorKind::BrokenPipe);
    }
}

#[test]
fn what_is_received_is_not_printed_with_the_channel() {
    let (mut writer, mut reader) = pair();
    writer.send(&[0xA5; 20]).unwrap();
    writer.write_all(&10_000_u32.to_le_bytes()).unwrap();
    writer.write_all(&[0xA5; 20]).unwrap();
    assert_eq!(reader.for_each_frame(|_| ()).unwrap(), 1);
    let said = format!("{reader:?}");
    assert!(!said.contains("165, 165"), "{said}");
}

#[test]
fn hostile_claims_take_only_the_memory_of_what_comes() {
    let _watchdog = Watchdog::start();
    let (mut writer, mut reader) = pair();
    writer.write_all(&(8_u32 << 20).to_le_bytes()).unwrap();
    writer.write_all(&[0; 100]).unwrap();
    let mut received = Vec::new();
    assert_kind(reader.try_recv_into(&mut received), ErrorKind::WouldBlock);
    assert!(received.capacity() < RING_BYTES);
    let said = format!("{reader:?}");
    assert!(said.contains("partial_bytes: 100,"), "nor anywhere else: {said}");
}

// Two processes.

/// A channel to a process that plays `role`.
fn channel_to(role: &str) -> (Channel, OtherProcess) {
    let (channel, childs) = Channel::for_child(RING_BYTES).unwrap();
    (channel, OtherProcess::play(role, childs.into()))
}

fn opened(socket: std::os::unix::net::UnixStream) -> Channel {
    Channel::open(socket).unwrap()
}

fn send_frames_for_ever(socket: std::os::unix::net::UnixStream) {
    let mut channel = opened(socket);
    let mut number = 0;
    while channel.send(&frame(number, number * 37 % 20_000)).is_ok() {
        number += 1;
    }
}

fn swallow_frames_for_ever(socket: std::os::unix::net::UnixStream) {
    let (mut channel, mut received) = (opened(socket), Vec::new());
    while channel.recv_into(&mut received).unwrap().is_some() {}
}

fn send_a_part_and_wait(socket: std::os::unix::net::UnixStream) {
    let mut channel = opened(socket);
    channel.send(b"whole").unwrap();
    channel.write_all(&10_000_u32.to_le_bytes()).unwrap();
    channel.write_all(&[7; 5000]).unwrap();
    channel.wait(Interest::READABLE, None).unwrap();
}

#[test]
fn proc_a_sender_that_is_killed_inside_a_frame_is_an_error_after_the_whole_ones() {
    let _watchdog = Watchdog::start();
    let (mut channel, mut sender) = channel_to("send_a_part_and_wait");
    let mut received = Vec::new();
    assert_eq!(channel.recv_into(&mut received).unwrap(), Some(5));
    // All of the part has come.
    while channel.stats().bytes_received < 5 + 4 + 4 + 5000 {
        assert_kind(channel.try_recv_into(&mut received), ErrorKind::WouldBlock);
    }
    sender.kill();
    assert_kind(channel.recv_into(&mut received), ErrorKind::UnexpectedEof);
}

#[test]
fn proc_senders_that_are_killed_anywhere_leave_whole_frames_and_an_end() {
    let _watchdog = Watchdog::start();
    let mut random = Random::seeded(1);
    for _ in 0..20 {
        let (mut channel, mut sender) = channel_to("send_frames_for_ever");
        let (last, mut received) = (random.below(500), Vec::new());
        let mut number = 0;
        loop {
            if number == last {
                sender.begin_to_kill();
            }
            match channel.recv_into(&mut received) {
                Ok(Some(_)) => assert_eq!(received, frame(number, number * 37 % 20_000)),
                Ok(None) => break,
                Err(error) => break assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
            }
            number += 1;
        }
        assert!(number >= last);
    }
}

#[test]
fn proc_a_receiver_that_is_killed_ends_a_long_send() {
    let _watchdog = Watchdog::start();
    for after in [0, 1, 5, 20] {
        let (mut channel, mut receiver) = channel_to("swallow_frames_for_ever");
        let long = vec![9; 1 << 20];
        (0..after).for_each(|_| channel.send(&long).unwrap());
        receiver.begin_to_kill();
        let result = (0..).find_map(|_| channel.send(&long).err()).unwrap();
        assert_eq!(result.kind(), ErrorKind::BrokenPipe);
    }
}
