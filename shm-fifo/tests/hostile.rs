//! A peer that overwrites the shared header at every step gets errors or
//! garbage, never a panic, an endless loop or bytes beyond the ring.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use proptest::prelude::*;
use shm_fifo::testing::{End, HeapFifo, Scribble, Word, pattern, run_hostile};
use shm_fifo::{
    Channel, Region,
    fifo::{Corrupt, SharedWord},
};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use support::{Random, Watchdog};

const CAPACITY: usize = 128;

/// Values that break arithmetic, and values near honest ones, which pass checks.
fn hostile_value(start: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        prop::sample::select(vec![0, 1, u64::MAX, 1 << 63, (1 << 63) - 1, u64::from(u32::MAX)]),
        (0..2 * CAPACITY as u64).prop_map(move |ahead| start.wrapping_add(ahead)),
        (1..2 * CAPACITY as u64).prop_map(move |behind| start.wrapping_sub(behind)),
    ]
}

fn scribbles(start: u64) -> impl Strategy<Value = Vec<(usize, u64, u8, usize)>> {
    let step = (0..Word::ALL.len(), hostile_value(start), any::<u8>(), 0..2 * CAPACITY);
    prop::collection::vec(step, 1..40)
}

/// The words that `owner` alone writes.
fn words_of(owner: End) -> Vec<Word> {
    Word::ALL.into_iter().filter(|word| word.owner() == owner).collect()
}

/// A start, and what is scribbled at each step of a FIFO that begins there.
fn attack() -> impl Strategy<Value = (u64, Vec<(usize, u64, u8, usize)>)> {
    prop_oneof![any::<u64>(), (0..300_u64).prop_map(|below| u64::MAX - below)]
        .prop_flat_map(|start| (Just(start), scribbles(start)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 2048 }))]

    #[test]
    fn hostile_scribbles_on_any_word_end_in_ok_or_corrupt((start, steps) in attack()) {
        let scribble = |(word, value, kind, length)| {
            Scribble { word: Word::ALL[word], value, kind, length }
        };
        let steps: Vec<_> = steps.into_iter().map(scribble).collect();
        run_hostile(&steps, CAPACITY, start);
    }

    #[test]
    fn hostile_scribbles_on_the_producers_own_words_do_not_move_it((start, steps) in attack()) {
        let memory = HeapFifo::new(CAPACITY, start);
        let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
        let words = words_of(End::Producer);
        for (word, value, _, length) in steps {
            memory.scribble(words[word % words.len()], value);

            let source = pattern(producer.position(), 1 + length);
            let written = producer.write(&source);
            let mut target = vec![0; CAPACITY];
            let read = consumer.read(&mut target);

            let whole = source.len().min(CAPACITY);
            prop_assert_eq!((written, read), (Ok(whole), Ok(whole)));
            prop_assert_eq!(&target[..whole], &source[..whole]);
        }
    }

    #[test]
    fn hostile_scribbles_on_the_consumers_own_words_do_not_move_it((start, steps) in attack()) {
        let memory = HeapFifo::new(CAPACITY, start);
        let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
        let words = words_of(End::Consumer);
        for (word, value, _, length) in steps {
            let source = pattern(producer.position(), 1 + length);
            let written = producer.write(&source);
            memory.scribble(words[word % words.len()], value);

            let mut target = vec![0; CAPACITY];
            let read = consumer.read(&mut target);

            let whole = source.len().min(CAPACITY);
            prop_assert_eq!((written, read), (Ok(whole), Ok(whole)));
            prop_assert_eq!(&target[..whole], &source[..whole]);
        }
    }
}

/// A life of both ends, as [`Scribble::kind`] and [`Scribble::length`]: every way to
/// write, to grant and to read, full and empty rings, long and short messages.
const LIFE: [(u8, usize); 17] = [
    (0, 48),
    (2, 30),
    (3, 40),
    (4, 20),
    (5, 48),
    (1, 49),
    (9, CAPACITY),
    (0, CAPACITY),
    (8, 7),
    (6, 50),
    (7, 64),
    (5, 64),
    (12, 2 * CAPACITY),
    (25, CAPACITY),
    (17, 1),
    (2, CAPACITY),
    (250, 10),
];

#[test]
fn hostile_values_in_each_word_at_each_step_end_in_ok_or_corrupt() {
    // Nobody looks at the CPUs here: a step that leaves all words as they are.
    let untouched =
        LIFE.map(|(kind, length)| Scribble { word: Word::ProducerCpu, value: 0, kind, length });
    let starts: &[u64] = if cfg!(miri) { &[u64::MAX - 100] } else { &[0, 1000, u64::MAX - 100] };
    for &start in starts {
        let near = [0, 1, 47, 48, CAPACITY as u64, CAPACITY as u64 + 1, u64::MAX, u64::MAX - 200];
        let positions = near.map(|distance| start.wrapping_add(distance));
        let values = positions.into_iter().chain([0, 1, 1 << 31, 1 << 63, u64::MAX]);
        // Miri takes a second for a life.
        for value in values.step_by(if cfg!(miri) { 4 } else { 1 }) {
            for word in Word::ALL {
                for step in (0..LIFE.len()).step_by(if cfg!(miri) { 9 } else { 1 }) {
                    let mut steps = untouched;
                    (steps[step].word, steps[step].value) = (word, value);
                    run_hostile(&steps, CAPACITY, start);
                }
            }
        }
    }
}

#[test]
fn a_tail_beyond_the_ring_is_corrupt_and_nothing_is_read() {
    for start in [0, 77, u64::MAX - 5] {
        for ahead in [CAPACITY as u64 + 1, u64::MAX / 2, u64::MAX] {
            let memory = HeapFifo::new(CAPACITY, start);
            let mut consumer = memory.consumer();
            let tail = start.wrapping_add(ahead);
            memory.scribble(Word::Tail, tail);

            let mut target = [0xEE; 2 * CAPACITY];
            let result = consumer.read(&mut target);

            let corrupt = Corrupt { word: SharedWord::Tail, value: tail, own: start };
            assert_eq!(result, Err(corrupt));
            assert_eq!(target, [0xEE; 2 * CAPACITY]);
        }
    }
}

#[test]
fn a_tail_that_takes_published_bytes_back_is_corrupt() {
    let memory = HeapFifo::new(CAPACITY, 1000);
    let mut consumer = memory.consumer();
    memory.scribble(Word::Tail, 1010);
    assert_eq!(consumer.available_bytes(), Ok(10));

    memory.scribble(Word::Tail, 1009);

    let corrupt = Corrupt { word: SharedWord::Tail, value: 1009, own: 1000 };
    assert_eq!(consumer.available_bytes(), Err(corrupt));
}

#[test]
fn a_head_that_takes_space_back_or_passes_the_tail_is_corrupt() {
    for head in [999, 1011, 1031, 0, u64::MAX] {
        let memory = HeapFifo::new(CAPACITY, 1000);
        let mut producer = memory.producer();
        producer.write(&[1; 30]).unwrap();
        memory.scribble(Word::Head, 1012);
        assert_eq!(producer.free_bytes(), Ok(CAPACITY - 18));

        memory.scribble(Word::Head, head);

        let corrupt = Corrupt { word: SharedWord::Head, value: head, own: 1030 };
        assert_eq!(producer.free_bytes(), Err(corrupt));
        assert_eq!(producer.write(&[2; CAPACITY]), Err(corrupt));
        assert_eq!(producer.position(), 1030);
    }
}

#[test]
fn a_head_behind_the_bytes_of_a_full_ring_is_corrupt() {
    let memory = HeapFifo::new(CAPACITY, 1000);
    let mut producer = memory.producer();
    producer.write(&[1; CAPACITY]).unwrap();

    memory.scribble(Word::Head, 999);

    let corrupt = Corrupt { word: SharedWord::Head, value: 999, own: 1000 + CAPACITY as u64 };
    assert_eq!(producer.free_bytes(), Err(corrupt));
}

#[test]
fn an_inline_message_that_contradicts_the_ring_yields_bytes_of_the_right_number() {
    let memory = HeapFifo::new(CAPACITY, 0);
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    producer.write(b"seven b").unwrap();
    (0..6).for_each(|index| memory.scribble(Word::InlineWord(index), u64::MAX));

    let mut target = [0xEE; 64];
    assert_eq!(consumer.read(&mut target), Ok(7));

    assert_eq!(target[..7], [0xFF; 7]);
    assert_eq!(target[7..], [0xEE; 57]);
    assert_eq!(consumer.position(), 7);
}

#[test]
fn hostile_scribbles_do_not_move_a_grant_that_is_out() {
    for word in Word::ALL {
        for value in [0, 1, 60, 1000, 1 << 63, u64::MAX] {
            let memory = HeapFifo::new(CAPACITY, 1000);
            let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
            let message = pattern(1000, 60);
            let mut grant = producer.grant(CAPACITY).unwrap().unwrap();
            grant.write_at(30, &message[30..]);
            memory.scribble(word, value);
            grant.write_at(0, &message[..30]);
            grant.commit(60);

            let mut target = [0; CAPACITY];
            assert_eq!(consumer.read(&mut target), Ok(60), "{word:?} {value}");
            assert_eq!(target[..60], message, "{word:?} {value}");
            assert_eq!(producer.position(), 1060);
        }
    }
}

#[test]
fn hostile_scribbles_do_not_move_what_is_granted_to_read() {
    for word in Word::ALL {
        for value in [0, 1, 60, 1000, 1 << 63, u64::MAX] {
            let memory = HeapFifo::new(CAPACITY, 1000);
            let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
            let message = pattern(1000, 60);
            producer.write(&message).unwrap();
            let grant = consumer.grant().unwrap();
            memory.scribble(word, value);

            let mut target = [0; 60];
            grant.read_at(30, &mut target[30..]);
            memory.scribble(word, value.wrapping_mul(3));
            grant.read_at(0, &mut target[..30]);
            grant.consume(40);

            assert_eq!(target[..], message, "{word:?} {value}");
            assert_eq!(consumer.position(), 1040, "{word:?} {value}");
        }
    }
}

#[test]
fn a_tail_that_is_taken_back_under_a_grant_is_corrupt_the_next_time() {
    let memory = HeapFifo::new(CAPACITY, 1000);
    let mut consumer = memory.consumer();
    memory.scribble(Word::Tail, 1060);
    let grant = consumer.grant().unwrap();
    memory.scribble(Word::Tail, 1010);
    grant.consume(20);

    let corrupt = Corrupt { word: SharedWord::Tail, value: 1010, own: 1020 };
    assert_eq!(consumer.grant().map(|grant| grant.length()), Err(corrupt));
    assert_eq!(consumer.position(), 1020);
}

#[test]
fn no_more_is_granted_to_read_than_a_ring() {
    for ahead in [CAPACITY as u64 + 1, 1 << 63, u64::MAX] {
        let memory = HeapFifo::new(CAPACITY, 1000);
        let mut consumer = memory.consumer();
        memory.scribble(Word::Tail, 1000_u64.wrapping_add(ahead));
        assert!(consumer.grant().is_err(), "{ahead}");
    }
}

#[test]
fn ends_that_were_lied_to_copy_a_ring_onto_itself_and_nothing_else() {
    let memory = HeapFifo::new(CAPACITY, 1000);
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    // One is told that all is full of bytes, the other that all is free.
    memory.scribble(Word::Tail, 1000 + CAPACITY as u64);
    let arrived = consumer.grant().unwrap();
    let mut space = producer.grant(CAPACITY).unwrap().unwrap();
    space.copy_from(0, &arrived, 0..CAPACITY);
    space.copy_from(5, &arrived, 0..CAPACITY - 5);
    space.commit(CAPACITY);
    arrived.consume(CAPACITY);
    assert_eq!(producer.position(), 1000 + CAPACITY as u64);
    assert_eq!(consumer.position(), 1000 + CAPACITY as u64);
}

#[test]
fn a_consumer_that_claims_more_space_than_there_is_gets_no_grant() {
    let memory = HeapFifo::new(CAPACITY, 1000);
    let mut producer = memory.producer();
    producer.write(&[1; 30]).unwrap();
    memory.scribble(Word::Head, 1031);

    let corrupt = Corrupt { word: SharedWord::Head, value: 1031, own: 1030 };
    assert_eq!(producer.grant(CAPACITY).map(|grant| grant.is_some()), Err(corrupt));
    assert_eq!(producer.write_vectored(&[[2; 100].as_slice(), &[3; 100]]), Err(corrupt));
    assert_eq!(producer.write_vectored_whole(&[[2; 60].as_slice(), &[3; 60]]), Err(corrupt));
    assert_eq!(producer.position(), 1030);
}

/// Two channels, and the file behind them, which the hostile peer writes to.
fn channels() -> (Channel, Channel, File) {
    let created = Region::create(4096).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    let file = File::from(created.fd().unwrap());
    let (one, other) = UnixStream::pair().unwrap();
    let here = Channel::new(created.into_endpoint(), OwnedFd::from(one));
    let there = Channel::new(attached.into_endpoint(), OwnedFd::from(other));
    (here, there, file)
}

#[test]
#[cfg_attr(miri, ignore = "Miri has neither memfd_create nor shared mappings")]
fn hostile_scribbles_over_the_whole_region_never_stop_a_channel_from_answering() {
    let _watchdog = Watchdog::start();
    let mut random = Random::seeded(0x5EED);
    for _ in 0..100 {
        let (mut here, _there, file) = channels();
        here.set_timeout(Some(Duration::from_millis(1)));
        for _ in 0..50 {
            // The first page: region header and both FIFO headers.
            let extremes = [0, 1, u64::MAX, 4096, 4097, random.next(), random.next() % 8192];
            let value = extremes[random.below(extremes.len())].to_ne_bytes();
            let offset = 8 * random.below(4096 / 8) as u64;
            file.write_all_at(&value, offset).unwrap();

            let mut buffer = [0; 8192];
            let length = random.below(buffer.len());
            let results = [here.try_write(&buffer[..length]), here.try_read(&mut buffer[..length])];

            for result in results {
                let honest = [ErrorKind::WouldBlock, ErrorKind::BrokenPipe, ErrorKind::InvalidData];
                match result {
                    Ok(count) => assert!(count <= 4096),
                    Err(error) => assert!(honest.contains(&error.kind()), "{error}"),
                }
            }
        }
        // Blocking calls end too: by an answer, an error or the timeout.
        drop(here.read(&mut [0; 1]));
        drop(here.write(&[0; 1]));
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri has neither memfd_create nor shared mappings")]
fn hostile_values_in_the_words_of_the_region_itself_change_nothing_once_it_is_mapped() {
    let _watchdog = Watchdog::start();
    let (mut here, mut there, file) = channels();
    let mut message = [0; 500];
    // Magic, version, ring size and token, and the reserved bytes behind them.
    for offset in (0..1024).step_by(8) {
        for value in [0, 1, 1 << 40, u64::MAX] {
            file.write_all_at(&value.to_ne_bytes(), offset).unwrap();
            here.write_all(&pattern(offset, 500)).unwrap();
            there.read_exact(&mut message).unwrap();
            there.write_all(&message).unwrap();
            here.read_exact(&mut message).unwrap();
            assert!(message[..] == pattern(offset, 500), "{offset} {value}");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri has neither memfd_create nor shared mappings")]
fn a_channel_whose_peer_broke_the_protocol_says_so_for_ever() {
    let _watchdog = Watchdog::start();
    let (mut here, mut there, file) = channels();
    // The header of the direction to the creator, and the tail in it.
    file.write_all_at(&u64::MAX.to_ne_bytes(), 1024 + 56).unwrap();

    let first = here.read(&mut [0; 8]).unwrap_err();
    file.write_all_at(&0_u64.to_ne_bytes(), 1024 + 56).unwrap();
    let again = here.read(&mut [0; 8]).unwrap_err();
    let write = here.write(b"x").unwrap_err();
    let peer = there.read(&mut [0; 8]);

    assert_eq!(first.kind(), ErrorKind::InvalidData);
    assert_eq!(again.kind(), ErrorKind::InvalidData);
    assert_eq!(write.kind(), ErrorKind::InvalidData);
    assert_eq!(peer.unwrap(), 0, "the peer is told by the end of the socket");
}
