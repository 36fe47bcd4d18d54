//! The two ends of a FIFO in two threads, without anything else between them.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::testing::{HeapFifo, pattern};
use shm_fifo::{Consumer, MAILBOX_BYTES, Producer};
use std::thread;
use std::time::{Duration, Instant};
use support::{Random, Watchdog};

/// Streams `total` bytes in messages of up to `longest` bytes and asserts that
/// each arrives as it was sent.
fn assert_streams(capacity: usize, longest: usize, total: usize, start: u64) {
    let memory = HeapFifo::new(capacity, start);
    thread::scope(|scope| {
        scope.spawn(|| send(memory.producer(), longest, total));
        let mut consumer = memory.consumer();
        let result = receive(&mut consumer, longest + 20, total);
        // Before the assertion, so that the sender ends too.
        consumer.close();
        assert_eq!(result, Ok(()));
    });
}

fn send(mut producer: Producer<'_>, longest: usize, total: usize) {
    let mut random = Random::seeded(1);
    let mut sent = 0;
    while sent < total && !producer.watch().consumer_closed() {
        let length = (1 + random.below(longest)).min(total - sent);
        let message = pattern(producer.position(), length);
        let written = producer.write(&message).unwrap();
        sent += written;
        if written == 0 {
            thread::yield_now();
        }
    }
}

/// Receives `total` bytes; the error is the position of a read that was wrong.
fn receive(consumer: &mut Consumer<'_>, longest: usize, total: usize) -> Result<(), u64> {
    let mut random = Random::seeded(2);
    let mut buffer = vec![0; longest];
    let mut received = 0;
    while received < total {
        let position = consumer.position();
        let wanted = 1 + random.below(longest);
        let length = consumer.read(&mut buffer[..wanted]).map_err(|_| position)?;
        if buffer[..length] != pattern(position, length) {
            return Err(position);
        }
        received += length;
        if length == 0 {
            thread::yield_now();
        }
    }
    Ok(())
}

fn total(bytes: usize) -> usize {
    if cfg!(miri) { bytes / 10_000 } else { bytes }
}

#[test]
fn short_messages_arrive_as_sent_while_the_mailbox_is_overwritten() {
    let _watchdog = Watchdog::start();
    assert_streams(64, 48, total(2 << 20), u64::MAX - 1000);
    assert_streams(4096, 48, total(4 << 20), 0);
}

#[test]
fn a_mailbox_is_never_a_mixture_of_two_messages() {
    let _watchdog = Watchdog::start();
    let memory = HeapFifo::new(4096, 0);
    // All bytes of one message are the same, and differ from those of the next.
    let byte_at = |position: u64| (position / MAILBOX_BYTES as u64).to_le_bytes()[0];
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut producer = memory.producer();
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(1) {
                let message = [byte_at(producer.position()); MAILBOX_BYTES];
                assert!(producer.write_whole(&message).unwrap());
                // The next one overwrites the mailbox while this one is taken.
                while producer.free_bytes().unwrap() < 4096 - MAILBOX_BYTES {
                    std::hint::spin_loop();
                }
            }
            producer.close();
        });
        let mut consumer = memory.consumer();
        let mut mixed = None;
        while !consumer.watch().producer_closed() {
            let position = consumer.position();
            let mut target = [0; MAILBOX_BYTES];
            let read = consumer.read(&mut target).unwrap();
            if target[..read] != [byte_at(position); MAILBOX_BYTES][..read] {
                mixed = Some(position);
            }
        }
        assert_eq!(mixed, None, "read at this position");
    });
}

#[test]
fn messages_of_any_length_arrive_as_sent() {
    let _watchdog = Watchdog::start();
    assert_streams(64, 200, total(2 << 20), 0);
    assert_streams(4096, 6000, total(8 << 20), u64::MAX - 100_000);
}

#[test]
fn messages_that_are_published_in_parts_arrive_as_sent() {
    let _watchdog = Watchdog::start();
    assert_streams(128 * 1024, 100_000, total(8 << 20), 0);
}

#[test]
fn the_last_bytes_are_seen_by_whoever_sees_the_end() {
    let _watchdog = Watchdog::start();
    for round in 0..total(2_000).max(10) {
        let memory = HeapFifo::new(64, 0);
        let length = 1 + round % 60;
        let mut received = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut producer = memory.producer();
                producer.write(&pattern(0, length)).unwrap();
                producer.close();
            });
            let mut consumer = memory.consumer();
            while !consumer.watch().producer_closed() {
                std::hint::spin_loop();
            }
            received = consumer.read(&mut [0; 64]).unwrap();
        });
        assert_eq!(received, length);
    }
}
