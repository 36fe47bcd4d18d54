//! All executions of two ends in two threads that the memory model allows, with
//! up to three preemptions: the code is the crate's own, the atomics are loom's.
//!
//! loom lets a load return any store that the memory model lets it return, also
//! those that x86-64 never would. The bytes of the ring are cells that it forbids
//! to access from two threads at once (`src/memory/loom.rs`), the mailbox has two
//! words, and rings are as small as their purpose allows.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p shm-fifo --test loom
//! ```
//!
//! `mutants/` says for each of these tests what it must not let pass.
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use loom::model::Builder;
use loom::sync::{Condvar, Mutex};
use loom::thread;
use shm_fifo::testing::{HeapFifo, pattern};
use shm_fifo::{Consumer, Producer};
use std::sync::Arc;

/// Near the wrap of the counter, which every model passes.
const START: u64 = u64::MAX - 2;

/// Longer than one of the mailbox's words, shorter than both.
const MAIL_BYTES: usize = 12;

/// Explores `model`, all of it, at preemption bound 3 (`LOOM_MAX_PREEMPTIONS`
/// sets another).
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(model);
}

/// One direction of the doorbell socket: bytes on their way, and its end.
///
/// As the kernel does it: a doorbell that comes before its sleeper is kept for it,
/// any number of them are taken together, and the end wakes for ever.
#[derive(Default)]
struct Bell {
    state: Mutex<BellState>,
    changed: Condvar,
}

#[derive(Default)]
struct BellState {
    pending: bool,
    ended: bool,
}

impl Bell {
    fn ring(&self) {
        self.state.lock().unwrap().pending = true;
        self.changed.notify_one();
    }

    fn end(&self) {
        self.state.lock().unwrap().ended = true;
        self.changed.notify_one();
    }

    /// Sleeps until a doorbell or the end. One that never wakes is a deadlock, and
    /// loom reports it.
    fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        while !state.pending && !state.ended {
            state = self.changed.wait(state).unwrap();
        }
        state.pending = false;
    }

    /// Takes doorbells without waiting.
    fn listen(&self) {
        self.state.lock().unwrap().pending = false;
    }
}

/// A FIFO and the two bells that `Channel` would have in its socket.
struct Link {
    fifo: HeapFifo,
    /// Wakes the consumer.
    data: Bell,
    /// Wakes the producer.
    space: Bell,
}

impl Link {
    fn new(capacity: usize) -> Arc<Self> {
        let fifo = HeapFifo::new(capacity, START);
        Arc::new(Self { fifo, data: Bell::default(), space: Bell::default() })
    }

    /// Writes `length` bytes, sleeping for space where there is none, as `Channel`
    /// does. Returns whether the consumer was there to the end.
    fn send(&self, producer: &mut Producer<'_>, mut length: usize) -> bool {
        while length > 0 {
            if producer.watch().consumer_closed() {
                return false;
            }
            let written = producer.write(&pattern(producer.position(), length)).unwrap();
            length -= written;
            if written > 0 && producer.must_ring() {
                self.data.ring();
            } else if written == 0 {
                if producer.watch().park(producer.position()) {
                    self.space.wait();
                }
                producer.watch().unpark();
            }
        }
        true
    }

    /// Reads at least a byte, or the end of the stream, sleeping for it. As
    /// `Channel` does it: the end counts only if nothing is to be read after it.
    fn receive(&self, consumer: &mut Consumer<'_>, target: &mut [u8]) -> usize {
        loop {
            let mut ended = false;
            let mut read = self.read(consumer, target);
            if read == 0 {
                ended = consumer.watch().producer_closed();
                if ended {
                    read = self.read(consumer, target);
                }
            }
            if read > 0 || ended {
                return read;
            }
            if consumer.must_ring_now() {
                self.space.ring();
            }
            if consumer.watch().park(consumer.position()) {
                self.data.wait();
            }
            consumer.watch().unpark();
        }
    }

    fn read(&self, consumer: &mut Consumer<'_>, target: &mut [u8]) -> usize {
        let read = consumer.read(target).unwrap();
        if consumer.must_ring() {
            self.space.ring();
        }
        read
    }
}

/// What a consumer has read, against what was sent.
struct Received {
    bytes: Vec<u8>,
}

impl Received {
    fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    fn read(&mut self, consumer: &mut Consumer<'_>, most: usize) {
        let mut target = vec![0xEE; most];
        let read = consumer.read(&mut target).unwrap();
        self.bytes.extend_from_slice(&target[..read]);
        assert_eq!(self.bytes, pattern(START, self.bytes.len()));
    }
}

/// Writes messages of these lengths, as much of each as there is space for.
fn write_all(producer: &mut Producer<'_>, lengths: &[usize]) -> usize {
    lengths
        .iter()
        .map(|&length| producer.write(&pattern(producer.position(), length)).unwrap())
        .sum()
}

// E1 and E2: the data path.

#[test]
fn bytes_pass_through_the_ring_and_its_space_is_used_again() {
    explore(|| {
        let link = Link::new(2);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || write_all(&mut sender.fifo.producer(), &[2, 1, 2]));
        let mut consumer = link.fifo.consumer();
        let mut received = Received::new();
        // Less than there is: these bytes come out of the ring, not the mailbox.
        for most in [1, 1, 1] {
            received.read(&mut consumer, most);
        }
        let written = writing.join().unwrap();
        received.read(&mut consumer, 2);
        assert_eq!(received.bytes.len(), written, "nothing is left behind");
    });
}

#[test]
fn bytes_staged_in_pieces_pass_when_they_are_published() {
    explore(|| {
        let link = Link::new(4);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            let mut staged = 0;
            for pieces in [[1, 2], [2, 1]] {
                for piece in pieces {
                    staged += producer.stage(&pattern(producer.position(), piece)).unwrap();
                }
                producer.publish();
            }
            staged
        });
        let mut consumer = link.fifo.consumer();
        let mut received = Received::new();
        for most in [2, 4] {
            received.read(&mut consumer, most);
        }
        let written = writing.join().unwrap();
        received.read(&mut consumer, 4);
        assert_eq!(received.bytes.len(), written, "nothing is left behind");
    });
}

// E5: the mailbox.

#[test]
fn a_mailbox_is_the_message_at_the_head_or_not_taken() {
    explore(|| {
        let link = Link::new(32);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            write_all(&mut sender.fifo.producer(), &[MAIL_BYTES, MAIL_BYTES])
        });
        let mut consumer = link.fifo.consumer();
        let mut received = Received::new();
        for _ in 0..2 {
            received.read(&mut consumer, MAIL_BYTES);
        }
        let written = writing.join().unwrap();
        for _ in 0..2 {
            received.read(&mut consumer, MAIL_BYTES);
        }
        assert_eq!(received.bytes.len(), written);
    });
}

// E3: parking.

#[test]
fn a_sleep_for_data_and_a_publish_do_not_miss_each_other() {
    explore(|| {
        let link = Link::new(4);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            for _ in 0..2 {
                assert!(sender.send(&mut producer, 1));
            }
        });
        let mut consumer = link.fifo.consumer();
        let mut target = [0; 1];
        for position in [START, START + 1] {
            assert_eq!(link.receive(&mut consumer, &mut target), 1);
            assert_eq!(target[..], pattern(position, 1));
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_sleep_for_space_and_a_read_do_not_miss_each_other() {
    explore(|| {
        let link = Link::new(4);
        let receiver = Arc::clone(&link);
        let mut producer = link.fifo.producer();
        assert!(link.send(&mut producer, 4));
        let reading = thread::spawn(move || {
            let mut consumer = receiver.fifo.consumer();
            // Only as much as is there for certain: this end never sleeps, and so
            // never looks but after half a ring.
            for _ in 0..2 {
                assert_eq!(receiver.read(&mut consumer, &mut [0; 2]), 2);
            }
        });
        assert!(link.send(&mut producer, 1));
        reading.join().unwrap();
    });
}

#[test]
fn both_ends_sleep_and_wake_each_other_until_all_is_read() {
    explore(|| {
        let link = Link::new(1);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            assert!(sender.send(&mut producer, 3));
        });
        let mut consumer = link.fifo.consumer();
        for offset in 0..3 {
            let mut target = [0; 1];
            assert_eq!(link.receive(&mut consumer, &mut target), 1);
            assert_eq!(target[..], pattern(START.wrapping_add(offset), 1));
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_member_that_is_parked_while_its_loop_is_awake_is_rung() {
    // As the poller does it: announced as parked, the loop turns a few times
    // more, takes doorbells where it finds them, and sleeps at last.
    explore(|| {
        let link = Link::new(4);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            for _ in 0..2 {
                assert!(sender.send(&mut producer, 1));
            }
        });
        let mut consumer = link.fifo.consumer();
        let watch = consumer.watch();
        let mut received = 0;
        while received < 2 {
            if !watch.is_ready(consumer.position()) && watch.park(consumer.position()) {
                link.data.wait();
                link.data.listen();
                watch.unpark();
            }
            received += link.read(&mut consumer, &mut [0; 1]);
        }
        writing.join().unwrap();
    });
}

// E4: the end.

#[test]
fn whoever_sees_the_end_of_the_stream_has_seen_its_last_byte() {
    explore(|| {
        let link = Link::new(4);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            write_all(&mut producer, &[1, 1]);
            producer.close();
        });
        let mut consumer = link.fifo.consumer();
        let ended = consumer.watch().producer_closed();
        let read = consumer.read(&mut [0; 4]).unwrap();
        assert!(!ended || read == 2, "the end came before the last byte");
        writing.join().unwrap();
    });
}

#[test]
fn an_end_wakes_a_consumer_that_goes_to_sleep_and_loses_no_byte() {
    explore(|| {
        let link = Link::new(4);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            assert!(sender.send(&mut producer, 1));
            producer.close();
            sender.data.end();
        });
        let mut consumer = link.fifo.consumer();
        let mut target = [0; 4];
        assert_eq!(link.receive(&mut consumer, &mut target), 1);
        assert_eq!(link.receive(&mut consumer, &mut target), 0);
        writing.join().unwrap();
    });
}

#[test]
fn an_end_wakes_a_producer_that_goes_to_sleep() {
    explore(|| {
        let link = Link::new(2);
        let receiver = Arc::clone(&link);
        let reading = thread::spawn(move || {
            let mut consumer = receiver.fifo.consumer();
            receiver.read(&mut consumer, &mut [0; 1]);
            consumer.close();
            receiver.space.end();
        });
        let mut producer = link.fifo.producer();
        assert!(!link.send(&mut producer, 4));
        reading.join().unwrap();
    });
}
