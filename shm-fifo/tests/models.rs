//! Small lives of two ends in two threads, told to whoever can explore them.
//!
//! * With `--cfg loom` loom runs each in all executions that the memory model
//!   allows, with up to three preemptions: the code is the crate's own, the atomics
//!   are loom's. A load returns any store that it may return by the model, also
//!   those that x86-64 never would. The bytes of the ring are cells that two threads
//!   must not access at once (`src/memory/loom.rs`), the inline message has two words.
//! * Under Miri each is run once for each seed, on the real layout.
//! * Otherwise, for sanitizers above all, each is run many times.
//!
//! `make loom`, `make miri`, `make tsan`. `mutants/` says which faults each of these
//! tests must notice when loom runs it.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

#[cfg(loom)]
use loom::{
    sync::{Condvar, Mutex},
    thread,
};
use shm_fifo::testing::{HeapFifo, pattern};
use shm_fifo::{
    Consumer, Interest, Producer,
    watch::{Positions, PublishFence, Watch},
};
use std::sync::Arc;
#[cfg(not(loom))]
use std::{
    sync::{Condvar, Mutex},
    thread,
};

/// What rings and messages are measured in. Rings are as small as they can be.
const UNIT: usize = if cfg!(loom) { 1 } else { 64 };

/// Near the wrap of the counter, which every model passes.
const START: u64 = u64::MAX - 2 * UNIT as u64;

/// Longer than one of the inline message's words, shorter than two.
const INLINE_LENGTH: usize = 12;

/// Explores `model`, all of it, at preemption bound 3 (`LOOM_MAX_PREEMPTIONS`
/// sets another).
#[cfg(loom)]
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(model);
}

/// Runs `model` as often as it is worth: the scheduler decides what is seen.
#[cfg(not(loom))]
fn explore(model: impl Fn() + Send + Sync + 'static) {
    for _ in 0..if cfg!(miri) { 1 } else { 500 } {
        model();
    }
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

/// A FIFO, the one that leads back, and the two bells that two `Channel`s have.
struct Link {
    fifo: HeapFifo,
    back: HeapFifo,
    /// Wakes the consumer.
    data: Bell,
    /// Wakes the producer.
    space: Bell,
}

impl Link {
    fn new(capacity: usize) -> Arc<Self> {
        let [fifo, back] = [capacity, UNIT].map(|capacity| HeapFifo::new(capacity, START));
        Arc::new(Self { fifo, back, data: Bell::default(), space: Bell::default() })
    }

    /// What the end that sends on this link sees, and where it is.
    fn senders_view<'l>(&'l self, producer: &Producer<'l>) -> (Watch<'l>, Positions) {
        let watch = Watch::new(self.back.consumer().watch(), producer.watch());
        (watch, Positions { head: START, tail: producer.position() })
    }

    /// What the end that receives on this link sees, and where it is.
    fn receivers_view<'l>(&'l self, consumer: &Consumer<'l>) -> (Watch<'l>, Positions) {
        let watch = Watch::new(consumer.watch(), self.back.producer().watch());
        (watch, Positions { head: consumer.position(), tail: START })
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
            if written > 0 && producer.needs_notify() {
                self.data.ring();
            } else if written == 0 {
                let (watch, at) = self.senders_view(producer);
                watch.sleep(Interest::WRITABLE, at, || self.space.wait());
            }
        }
        true
    }

    /// Writes a message as a whole, sleeping for space for all of it.
    fn send_whole(&self, producer: &mut Producer<'_>, length: usize) {
        while !producer.write_whole(&pattern(producer.position(), length)).unwrap() {
            let at = Positions { head: START, tail: producer.position() };
            let watch = Watch::new(self.back.consumer().watch(), producer.watch_for(length));
            watch.sleep(Interest::WRITABLE, at, || self.space.wait());
        }
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
            if consumer.needs_notify_now() {
                self.space.ring();
            }
            let (watch, at) = self.receivers_view(consumer);
            watch.sleep(Interest::READABLE, at, || self.data.wait());
        }
    }

    fn read(&self, consumer: &mut Consumer<'_>, target: &mut [u8]) -> usize {
        let read = consumer.read(target).unwrap();
        if consumer.needs_notify() {
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
        self.take(&target[..read]);
    }

    fn read_in_pieces(&mut self, consumer: &mut Consumer<'_>, [first, last]: [usize; 2]) {
        let mut target = vec![0xEE; first + last];
        let (front, back) = target.split_at_mut(first);
        let read = consumer.read_vectored(&mut [front, back]).unwrap();
        self.take(&target[..read]);
    }

    /// Looks at all there is where it lies, from the last byte to the first, and consumes the
    /// first ones, at most so many.
    fn read_in_place(&mut self, consumer: &mut Consumer<'_>, most: usize) {
        let grant = consumer.grant().unwrap();
        let length = grant.length();
        let mut target = vec![0xEE; length];
        for offset in (0..length).rev() {
            grant.read_at(offset, &mut target[offset..=offset]);
        }
        assert_eq!(target, pattern(START.wrapping_add(self.bytes.len() as u64), length));
        let consumed = length.min(most);
        grant.consume(consumed);
        self.take(&target[..consumed]);
    }

    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        assert_eq!(self.bytes, pattern(START, self.bytes.len()));
    }
}

/// Reserves `length` bytes, writes them from the last to the first, and commits
/// the first ones, as many as `committed`. Returns how many that were.
fn granted(producer: &mut Producer<'_>, length: usize, committed: usize) -> usize {
    let message = pattern(producer.position(), length);
    let Some(mut grant) = producer.grant(length).unwrap() else { return 0 };
    let (front, back) = message.split_at(length / 2);
    grant.write_at(front.len(), back);
    grant.write_at(0, front);
    grant.commit(committed);
    committed
}

/// Copies what has arrived from one ring to the other, at most so much, its last byte first, as
/// much as there is space for. Returns how many bytes that were.
fn forward(from: &mut Consumer<'_>, to: &mut Producer<'_>, most: usize) -> usize {
    let arrived = from.grant().unwrap();
    let mut space = to.grant_up_to(arrived.length().min(most)).unwrap();
    let length = space.length();
    for offset in (0..length).rev() {
        space.copy_from(offset, &arrived, offset..offset + 1);
    }
    space.commit(length);
    arrived.consume(length);
    length
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
        let link = Link::new(2 * UNIT);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            write_all(&mut sender.fifo.producer(), &[2 * UNIT, UNIT, 2 * UNIT])
        });
        let mut consumer = link.fifo.consumer();
        let mut received = Received::new();
        // Less than there is: these bytes come out of the ring, not the inline message.
        for _ in 0..3 {
            received.read(&mut consumer, UNIT);
        }
        let written = writing.join().unwrap();
        received.read(&mut consumer, 2 * UNIT);
        assert_eq!(received.bytes.len(), written, "nothing is left behind");
    });
}

#[test]
fn bytes_staged_in_pieces_pass_when_they_are_published() {
    explore(|| {
        let link = Link::new(4 * UNIT);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            let mut staged = 0;
            for pieces in [[1, 2], [2, 1]] {
                for piece in pieces {
                    staged += producer.stage(&pattern(producer.position(), piece * UNIT)).unwrap();
                }
                producer.publish();
            }
            staged
        });
        let mut consumer = link.fifo.consumer();
        let mut received = Received::new();
        for most in [2, 4] {
            received.read(&mut consumer, most * UNIT);
        }
        let written = writing.join().unwrap();
        received.read(&mut consumer, 4 * UNIT);
        assert_eq!(received.bytes.len(), written, "nothing is left behind");
    });
}

#[test]
fn bytes_of_a_grant_pass_when_it_is_committed() {
    explore(|| {
        let link = Link::new(2 * UNIT);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            // More than is committed: the rest is written again by the next one.
            (0..3).map(|_| granted(&mut producer, 2 * UNIT, UNIT)).sum::<usize>()
        });
        let mut consumer = link.fifo.consumer();
        let mut received = Received::new();
        for _ in 0..2 {
            received.read(&mut consumer, UNIT);
        }
        let written = writing.join().unwrap();
        received.read(&mut consumer, 2 * UNIT);
        assert_eq!(received.bytes.len(), written, "nothing is left behind");
    });
}

#[test]
fn bytes_are_looked_at_in_place_and_their_space_is_used_again_once_they_are_consumed() {
    explore(|| {
        let link = Link::new(2 * UNIT);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            write_all(&mut sender.fifo.producer(), &[2 * UNIT, UNIT, 2 * UNIT])
        });
        let mut consumer = link.fifo.consumer();
        let mut received = Received::new();
        for _ in 0..3 {
            received.read_in_place(&mut consumer, UNIT);
        }
        let written = writing.join().unwrap();
        received.read_in_place(&mut consumer, 2 * UNIT);
        assert_eq!(received.bytes.len(), written, "nothing is left behind");
    });
}

#[test]
fn bytes_pass_from_ring_to_ring() {
    explore(|| {
        let link = Link::new(2 * UNIT);
        let onward = Arc::new(HeapFifo::new(2 * UNIT, START));
        let (arriving, leaving) = (Arc::clone(&link), Arc::clone(&onward));
        let forwarding = thread::spawn(move || {
            let (mut from, mut to) = (arriving.fifo.consumer(), leaving.producer());
            (0..2).map(|_| forward(&mut from, &mut to, 2 * UNIT)).sum::<usize>()
        });
        let (mut producer, mut consumer) = (link.fifo.producer(), onward.consumer());
        let mut received = Received::new();
        for length in [2 * UNIT, UNIT] {
            write_all(&mut producer, &[length]);
            received.read(&mut consumer, UNIT);
        }
        let forwarded = forwarding.join().unwrap();
        received.read(&mut consumer, 2 * UNIT);
        received.read(&mut consumer, 2 * UNIT);
        assert_eq!(received.bytes.len(), forwarded, "nothing is left behind");
    });
}

#[test]
fn pieces_written_together_are_read_in_pieces() {
    explore(|| {
        let link = Link::new(4 * UNIT);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            let mut written = 0;
            for _ in 0..2 {
                let message = pattern(producer.position(), 3 * UNIT);
                let (front, back) = message.split_at(UNIT);
                written += producer.write_vectored(&[front, back]).unwrap();
            }
            written
        });
        let mut consumer = link.fifo.consumer();
        let mut received = Received::new();
        for _ in 0..2 {
            received.read_in_pieces(&mut consumer, [UNIT, 2 * UNIT]);
        }
        let written = writing.join().unwrap();
        received.read_in_pieces(&mut consumer, [UNIT, 3 * UNIT]);
        assert_eq!(received.bytes.len(), written, "nothing is left behind");
    });
}

// E5: the inline message.

#[test]
fn a_grant_is_an_inline_message_as_any_other_is() {
    explore(|| {
        let link = Link::new(32.max(UNIT));
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            (0..2).map(|_| granted(&mut producer, 16, INLINE_LENGTH)).sum::<usize>()
        });
        let mut consumer = link.fifo.consumer();
        let mut received = Received::new();
        for _ in 0..2 {
            received.read(&mut consumer, INLINE_LENGTH);
        }
        let written = writing.join().unwrap();
        received.read(&mut consumer, 2 * INLINE_LENGTH);
        assert_eq!(received.bytes.len(), written);
    });
}

#[test]
fn an_inline_message_is_the_one_at_the_head_or_not_taken() {
    explore(|| {
        let link = Link::new(32.max(UNIT));
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            write_all(&mut sender.fifo.producer(), &[INLINE_LENGTH, INLINE_LENGTH])
        });
        let mut consumer = link.fifo.consumer();
        let mut received = Received::new();
        for _ in 0..2 {
            received.read(&mut consumer, INLINE_LENGTH);
        }
        let written = writing.join().unwrap();
        for _ in 0..2 {
            received.read(&mut consumer, INLINE_LENGTH);
        }
        assert_eq!(received.bytes.len(), written);
    });
}

// E3: parking.

#[test]
fn a_sleep_for_data_and_a_publish_do_not_miss_each_other() {
    explore(|| {
        let link = Link::new(4 * UNIT);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            for _ in 0..2 {
                assert!(sender.send(&mut producer, UNIT));
            }
        });
        let mut consumer = link.fifo.consumer();
        let mut target = [0; UNIT];
        for position in [START, START + UNIT as u64] {
            assert_eq!(link.receive(&mut consumer, &mut target), UNIT);
            assert_eq!(target[..], pattern(position, UNIT));
        }
        writing.join().unwrap();
    });
}

#[test]
fn one_fence_serves_the_sleepers_of_two_fifos() {
    // As the poller does it for all that a turn of its loop has written.
    explore(|| {
        let links = [Link::new(2 * UNIT), Link::new(2 * UNIT)];
        let readers = links.clone().map(|link| {
            thread::spawn(move || {
                let mut target = [0; UNIT];
                assert_eq!(link.receive(&mut link.fifo.consumer(), &mut target), UNIT);
            })
        });
        let mut producers = [links[0].fifo.producer(), links[1].fifo.producer()];
        for producer in &mut producers {
            assert_eq!(write_all(producer, &[UNIT]), UNIT);
        }
        let fence = PublishFence::execute();
        for (link, producer) in links.iter().zip(&producers) {
            if producer.watch().needs_notify(&fence) {
                link.data.ring();
            }
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn a_sleep_for_space_and_a_read_do_not_miss_each_other() {
    explore(|| {
        let link = Link::new(4 * UNIT);
        let receiver = Arc::clone(&link);
        let mut producer = link.fifo.producer();
        assert!(link.send(&mut producer, 4 * UNIT));
        let reading = thread::spawn(move || {
            let mut consumer = receiver.fifo.consumer();
            // Half of it, once: the only look for the sleeper.
            assert_eq!(receiver.read(&mut consumer, &mut [0; 2 * UNIT]), 2 * UNIT);
        });
        assert!(link.send(&mut producer, UNIT));
        reading.join().unwrap();
    });
}

#[test]
fn a_sleep_for_half_of_the_ring_and_reads_do_not_miss_each_other() {
    explore(|| {
        let link = Link::new(4 * UNIT);
        let receiver = Arc::clone(&link);
        let mut producer = link.fifo.producer();
        assert!(link.send(&mut producer, 3 * UNIT));
        let reading = thread::spawn(move || {
            let mut consumer = receiver.fifo.consumer();
            // The second read looks for the sleeper, who may have slept before the first one or
            // since.
            for _ in 0..2 {
                assert_eq!(receiver.read(&mut consumer, &mut [0; UNIT]), UNIT);
            }
        });
        link.send_whole(&mut producer, 2 * UNIT);
        reading.join().unwrap();
    });
}

#[test]
fn both_ends_sleep_and_wake_each_other_until_all_is_read() {
    explore(|| {
        let link = Link::new(UNIT);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            assert!(sender.send(&mut producer, 3 * UNIT));
        });
        let mut consumer = link.fifo.consumer();
        for position in [START, START + UNIT as u64, START + 2 * UNIT as u64] {
            let mut target = [0; UNIT];
            assert_eq!(link.receive(&mut consumer, &mut target), UNIT);
            assert_eq!(target[..], pattern(position, UNIT));
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_member_that_is_parked_while_its_loop_is_awake_is_rung() {
    // As the poller does it: announced as parked, the loop turns a few times
    // more, takes doorbells where it finds them, and sleeps at last.
    explore(|| {
        let link = Link::new(4 * UNIT);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            for _ in 0..2 {
                assert!(sender.send(&mut producer, UNIT));
            }
        });
        let mut consumer = link.fifo.consumer();
        let mut received = 0;
        while received < 2 * UNIT {
            let (watch, at) = link.receivers_view(&consumer);
            let interest = Interest::READABLE;
            if !watch.is_ready(interest, at) && watch.park(interest, at) {
                link.data.wait();
                link.data.listen();
                watch.unpark(interest);
            }
            received += link.read(&mut consumer, &mut [0; UNIT]);
        }
        writing.join().unwrap();
    });
}

/// An end sleeps for data and for space at once, on one bell, as a socket is one:
/// `act` is what its peer does, who rings if it is told to.
fn sleep_for_both_while(act: fn(&Link) -> bool) {
    explore(move || {
        let link = Link::new(UNIT);
        let mut producer = link.fifo.producer();
        write_all(&mut producer, &[UNIT]);
        let peer = Arc::clone(&link);
        let acting = thread::spawn(move || {
            if act(&peer) {
                peer.space.ring();
            }
        });
        let (watch, at) = link.senders_view(&producer);
        while !watch.is_ready(Interest::BOTH, at) {
            watch.sleep(Interest::BOTH, at, || link.space.wait());
        }
        acting.join().unwrap();
    });
}

#[test]
fn a_sleep_for_either_is_ended_by_data() {
    sleep_for_both_while(|peer| {
        let mut producer = peer.back.producer();
        write_all(&mut producer, &[UNIT]);
        producer.needs_notify()
    });
}

#[test]
fn a_sleep_for_either_is_ended_by_space() {
    sleep_for_both_while(|peer| {
        let mut consumer = peer.fifo.consumer();
        consumer.read(&mut [0; UNIT]).unwrap();
        consumer.needs_notify()
    });
}

#[test]
fn a_sleep_for_either_is_ended_by_an_end() {
    sleep_for_both_while(|peer| {
        let consumer = &mut peer.fifo.consumer();
        consumer.close();
        consumer.needs_notify_now()
    });
}

// E6: entering.

/// Two sides of which one writes before the other has entered, and rings nobody then: the
/// messages are found all the same, whatever the other does at its leisure before it reads
/// the first one.
fn write_while_the_peer_enters(messages: usize) {
    explore(move || {
        let link = Link::new(4 * UNIT);
        // As if it slept, from the beginning.
        assert!(link.fifo.consumer().watch().park(START));
        let entered = Arc::new(Mutex::new(false));
        let (client, has_entered) = (Arc::clone(&link), Arc::clone(&entered));
        let writing = thread::spawn(move || {
            let mut producer = client.fifo.producer();
            let (watch, _) = client.senders_view(&producer);
            for _ in 0..messages {
                assert_eq!(write_all(&mut producer, &[UNIT]), UNIT);
                if watch.needs_notify_if_entered(START) {
                    assert!(*has_entered.lock().unwrap(), "rung before it had entered");
                    client.data.ring();
                }
            }
        });
        let mut consumer = link.fifo.consumer();
        let (watch, _) = link.receivers_view(&consumer);
        *entered.lock().unwrap() = true;
        write_all(&mut link.back.producer(), &[UNIT]);
        watch.unpark(Interest::READABLE);
        let mut received = 0;
        while received < messages * UNIT {
            received += link.receive(&mut consumer, &mut [0; UNIT]);
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_message_that_is_written_before_the_peer_enters_is_found() {
    write_while_the_peer_enters(1);
}

#[test]
fn messages_are_written_before_the_peer_enters_and_after() {
    write_while_the_peer_enters(2);
}

// E4: the end.

#[test]
fn whoever_sees_the_end_of_the_stream_has_seen_its_last_byte() {
    explore(|| {
        let link = Link::new(4 * UNIT);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            write_all(&mut producer, &[UNIT, UNIT]);
            producer.close();
        });
        let mut consumer = link.fifo.consumer();
        let ended = consumer.watch().producer_closed();
        let read = consumer.read(&mut [0; 4 * UNIT]).unwrap();
        assert!(!ended || read == 2 * UNIT, "the end came before the last byte");
        writing.join().unwrap();
    });
}

#[test]
fn an_end_wakes_a_consumer_that_goes_to_sleep_and_loses_no_byte() {
    explore(|| {
        let link = Link::new(4 * UNIT);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            assert!(sender.send(&mut producer, UNIT));
            producer.close();
            // A doorbell, not the end of the socket: that would wake anybody.
            if producer.needs_notify() {
                sender.data.ring();
            }
        });
        let mut consumer = link.fifo.consumer();
        let mut target = [0; 4 * UNIT];
        assert_eq!(link.receive(&mut consumer, &mut target), UNIT);
        assert_eq!(link.receive(&mut consumer, &mut target), 0);
        writing.join().unwrap();
    });
}

#[test]
fn an_end_wakes_a_producer_that_goes_to_sleep() {
    explore(|| {
        let link = Link::new(2 * UNIT);
        let receiver = Arc::clone(&link);
        let reading = thread::spawn(move || {
            let mut consumer = receiver.fifo.consumer();
            receiver.read(&mut consumer, &mut [0; UNIT]);
            consumer.close();
            if consumer.needs_notify_now() {
                receiver.space.ring();
            }
        });
        let mut producer = link.fifo.producer();
        assert!(!link.send(&mut producer, 4 * UNIT));
        reading.join().unwrap();
    });
}

#[test]
fn the_end_of_the_socket_wakes_both_and_loses_no_byte() {
    // As `Channel` ends, and as a process that is killed does.
    explore(|| {
        let link = Link::new(2 * UNIT);
        let sender = Arc::clone(&link);
        let writing = thread::spawn(move || {
            let mut producer = sender.fifo.producer();
            let all_sent = sender.send(&mut producer, 3 * UNIT);
            producer.close();
            sender.data.end();
            all_sent
        });
        let mut consumer = link.fifo.consumer();
        let mut target = [0; 2 * UNIT];
        let mut received = link.receive(&mut consumer, &mut target);
        received += link.receive(&mut consumer, &mut target);
        consumer.close();
        link.space.end();
        // What the sender believes to have sent is there, whatever else happens.
        if writing.join().unwrap() {
            received += consumer.read(&mut target).unwrap();
            assert_eq!(received, 3 * UNIT);
        }
        assert!(received >= 2 * UNIT);
    });
}
