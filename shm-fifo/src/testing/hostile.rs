//! Both ends of a FIFO while somebody overwrites its header.

use super::in_place::{forward, grant, grant_up_to, read_in_place};
use super::{HeapFifo, Pieces, Word, pattern};
use crate::{Consumer, Producer, SharedWord};

/// One step of an attack: a word is overwritten, an end is used, the word is
/// overwritten again and the other end is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scribble {
    /// What is overwritten.
    pub word: Word,
    /// With what.
    pub value: u64,
    /// How the ends are used; any number.
    pub kind: u8,
    /// How many bytes they are to exchange.
    pub length: usize,
}

/// Uses both ends of a FIFO of `capacity` bytes that starts at `start_position`,
/// under attack.
///
/// # Panics
/// If an end does anything but transfer bytes within the ring or say `Corrupt`,
/// or if its own position changes by anything but what it transferred.
pub fn run_hostile(steps: &[Scribble], capacity: usize, start_position: u64) {
    let memory = HeapFifo::new(capacity, start_position);
    let beside = HeapFifo::new(capacity, start_position / 2);
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    let mut beside = (beside.producer(), beside.consumer());
    for step in steps {
        memory.scribble(step.word, step.value);
        use_producer(&mut producer, step.kind, step.length);
        memory.scribble(step.word, step.value);
        use_consumer(&mut consumer, &mut beside, step.kind, step.length);
    }
}

fn use_producer(producer: &mut Producer<'_>, kind: u8, length: usize) {
    let before = producer.position();
    let capacity = producer.capacity();
    let source = pattern(before, length);
    let pieces = Pieces { first: length / 3, total: length };
    let all_or_nothing = |whole| if whole { length } else { 0 };
    let written = match kind % 9 {
        0 => producer.write(&source),
        1 => producer.write_whole(&source).map(all_or_nothing),
        2 => producer.stage(&source),
        3 => producer.write_vectored(&pieces.of(&source)),
        4 => producer.write_vectored_whole(&pieces.of(&source)).map(all_or_nothing),
        5 => grant(producer, &source, Some(length)).map(all_or_nothing),
        by @ (6 | 7) => grant_up_to(producer, &source, length, by == 7),
        _ => producer.free_bytes().map(|free| {
            assert!(free <= capacity);
            0
        }),
    };
    let accepted = written.unwrap_or(0);
    assert!(accepted <= length.min(capacity));
    assert_eq!(producer.position(), before.wrapping_add(accepted as u64));
    if let Err(corrupt) = written {
        assert_eq!((corrupt.word, corrupt.own), (SharedWord::Head, before));
    }
    producer.publish();
    let _: bool = producer.needs_notify();
    let watch = producer.watch();
    let _: bool = watch.is_ready(producer.position());
    let _: bool = watch.has_read_all(producer.position());
    let _: bool = watch.park(producer.position());
    watch.unpark();
    if kind >= 250 {
        producer.close();
    }
}

fn use_consumer<'m>(
    consumer: &mut Consumer<'m>,
    beside: &mut (Producer<'m>, Consumer<'m>),
    kind: u8,
    length: usize,
) {
    let before = consumer.position();
    let capacity = consumer.capacity();
    let mut target = vec![0xEE; length + 1];
    let mut copied = Vec::new();
    let read = match kind % 7 {
        0 | 1 => consumer.read(&mut target[..length]),
        2 => {
            let (first, last) = target[..length].split_at_mut(length / 3);
            consumer.read_vectored(&mut [first, last])
        }
        by @ (3 | 4) => {
            let pieces = Pieces { first: length, total: length };
            let granted = read_in_place(consumer, &mut copied, pieces, by == 4);
            granted.map(|granted| granted.min(length))
        }
        5 => forward(consumer, beside, &mut copied, length),
        _ => consumer.available_bytes().map(|available| {
            assert!(available <= capacity);
            0
        }),
    };
    let taken = read.unwrap_or(0);
    assert!(taken <= length.min(capacity));
    assert_eq!(target[length], 0xEE, "a byte behind what was asked for");
    assert_eq!(consumer.position(), before.wrapping_add(taken as u64));
    if let Err(corrupt) = read {
        assert_eq!((corrupt.word, corrupt.own), (SharedWord::Tail, before));
        assert!(target.iter().all(|&byte| byte == 0xEE), "nothing is read from a corrupt ring");
    }
    let _: bool = consumer.needs_notify();
    let _: bool = consumer.needs_notify_now();
    let watch = consumer.watch();
    let _: bool = watch.is_ready(consumer.position());
    let _: Option<u32> = watch.peer_cpu();
    let _: bool = watch.park(consumer.position());
    watch.unpark();
    if kind >= 250 {
        consumer.close();
    }
}
