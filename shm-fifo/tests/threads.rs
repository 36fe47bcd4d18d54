//! The two ends of a FIFO in two threads, without anything else between them.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::testing::{HeapFifo, pattern};
use shm_fifo::{Consumer, Producer, fifo::INLINE_BYTES};
use std::cell::RefCell;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};
use support::{Random, Watchdog, alone};

/// For a while, streams messages of up to `longest` bytes and asserts that each
/// arrives as it was sent.
fn assert_streams(capacity: usize, longest: usize, start: u64) {
    let memory = HeapFifo::new(capacity, start);
    thread::scope(|scope| {
        scope.spawn(|| send(memory.producer(), longest));
        let mut consumer = memory.consumer();
        let result = receive(&mut consumer, longest + 20);
        // Before the assertion, so that the sender ends too.
        consumer.close();
        assert_eq!(result, Ok(()));
    });
}

fn send(mut producer: Producer<'_>, longest: usize) {
    let mut random = Random::seeded(1);
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(300) && !producer.watch().consumer_closed() {
        let message = pattern(producer.position(), 1 + random.below(longest));
        if producer.write(&message).unwrap() == 0 {
            thread::yield_now();
        }
    }
    producer.close();
}

/// Receives until the end; the error is the position of a read that was wrong.
fn receive(consumer: &mut Consumer<'_>, longest: usize) -> Result<(), u64> {
    let mut random = Random::seeded(2);
    let mut buffer = vec![0; longest];
    loop {
        let at_end = consumer.watch().producer_closed();
        let position = consumer.position();
        let wanted = 1 + random.below(longest);
        let length = consumer.read(&mut buffer[..wanted]).map_err(|_| position)?;
        if buffer[..length] != pattern(position, length) {
            return Err(position);
        }
        if length == 0 {
            if at_end {
                return Ok(());
            }
            thread::yield_now();
        }
    }
}

/// A few nanoseconds for each step: barriers do not open for both at once.
fn delay(steps: usize) {
    for step in 0..steps {
        std::hint::black_box(step);
    }
}

/// Lets `one` and `other` act at the same moment, in two threads, again and
/// again for a second. Returns how often both said true. `reset` runs in between.
fn both_true_at_once(
    mut one: impl FnMut() -> bool,
    mut other: impl FnMut() -> bool + Send,
    mut reset: impl FnMut(),
) -> usize {
    let (arrivals, over, said) =
        (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
    // The barriers spin: a thread that is woken would come too late to collide.
    let meet = |number: usize| {
        arrivals.fetch_add(1, SeqCst);
        while arrivals.load(SeqCst) < 2 * number {
            std::hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                meet(2 * round + 1);
                if over.load(SeqCst) {
                    return;
                }
                delay(round % 64);
                said.store(other(), SeqCst);
                meet(2 * round + 2);
            }
        });
        let started = Instant::now();
        let mut both = 0;
        for round in 0.. {
            over.store(started.elapsed() > Duration::from_secs(1), SeqCst);
            meet(2 * round + 1);
            if over.load(SeqCst) {
                break;
            }
            delay(round / 64 % 64);
            let one_said = one();
            meet(2 * round + 2);
            both += usize::from(one_said && said.load(SeqCst));
            reset();
        }
        both
    })
}

#[test]
fn short_messages_arrive_as_sent_while_the_inline_one_is_overwritten() {
    let _watchdog = Watchdog::start();
    let _alone = alone();
    assert_streams(64, 48, u64::MAX - 1000);
    assert_streams(4096, 48, 0);
}

#[test]
fn an_inline_message_is_never_a_mixture_of_two() {
    let _watchdog = Watchdog::start();
    let _alone = alone();
    let memory = HeapFifo::new(4096, 0);
    // All bytes of one message are the same, and differ from those of the next.
    let byte_at = |position: u64| (position / INLINE_BYTES as u64).to_le_bytes()[0];
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut producer = memory.producer();
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(1) {
                let message = [byte_at(producer.position()); INLINE_BYTES];
                assert!(producer.write_whole(&message).unwrap());
                // The next one overwrites the inline message while this one is taken.
                while producer.free_bytes().unwrap() < 4096 - INLINE_BYTES {
                    std::hint::spin_loop();
                }
            }
            producer.close();
        });
        let mut consumer = memory.consumer();
        let mut mixed = None;
        while !consumer.watch().producer_closed() {
            let position = consumer.position();
            let mut target = [0; INLINE_BYTES];
            let read = consumer.read(&mut target).unwrap();
            if target[..read] != [byte_at(position); INLINE_BYTES][..read] {
                mixed = Some(position);
            }
        }
        assert_eq!(mixed, None, "read at this position");
    });
}

#[test]
fn messages_of_any_length_arrive_as_sent() {
    let _watchdog = Watchdog::start();
    let _alone = alone();
    assert_streams(64, 200, 0);
    assert_streams(4096, 6000, u64::MAX - 100_000);
}

#[test]
fn messages_that_are_published_in_parts_arrive_as_sent() {
    let _watchdog = Watchdog::start();
    let _alone = alone();
    assert_streams(128 * 1024, 100_000, 0);
}

#[test]
fn the_last_bytes_are_seen_by_whoever_sees_the_end() {
    let _watchdog = Watchdog::start();
    let _alone = alone();
    for round in 0..500 {
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
                thread::yield_now();
            }
            received = consumer.read(&mut [0; 64]).unwrap();
        });
        assert_eq!(received, length);
    }
}

#[test]
fn a_sleep_for_data_and_a_publish_at_the_same_moment_do_not_miss_each_other() {
    let _watchdog = Watchdog::start();
    let _alone = alone();
    let memory = HeapFifo::new(64, 0);
    let mut producer = memory.producer();
    let consumer = RefCell::new(memory.consumer());

    let missed = both_true_at_once(
        || {
            let consumer = consumer.borrow();
            consumer.watch().park(consumer.position())
        },
        || {
            producer.write(&[1]).unwrap();
            !producer.needs_notify()
        },
        || {
            let mut consumer = consumer.borrow_mut();
            consumer.watch().unpark();
            assert_eq!(consumer.read(&mut [0; 2]), Ok(1));
        },
    );

    assert_eq!(missed, 0, "asleep, and nobody rang");
}

#[test]
fn a_sleep_for_space_and_a_read_at_the_same_moment_do_not_miss_each_other() {
    let _watchdog = Watchdog::start();
    let _alone = alone();
    let memory = HeapFifo::new(64, 0);
    let mut consumer = memory.consumer();
    let producer = RefCell::new(memory.producer());
    producer.borrow_mut().write(&[1; 64]).unwrap();

    let missed = both_true_at_once(
        || {
            let producer = producer.borrow();
            producer.watch().park(producer.position())
        },
        || {
            consumer.read(&mut [0; 32]).unwrap();
            !consumer.needs_notify_now()
        },
        || {
            let mut producer = producer.borrow_mut();
            producer.watch().unpark();
            assert_eq!(producer.write(&[1; 64]), Ok(32));
        },
    );

    assert_eq!(missed, 0, "asleep, and nobody rang");
}
