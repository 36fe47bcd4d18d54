//! A FIFO does what its specification says, for any operations and any start.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use proptest::prelude::*;
use shm_fifo::testing::{HeapFifo, Op, Pieces, Word, run};

/// Any position, with those around the wrap of the counter as likely as all others.
fn position() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), (0..300_u64).prop_map(|below| u64::MAX - below), 0..300_u64]
}

fn ops(longest_bytes: usize, most: usize) -> impl Strategy<Value = Vec<Op>> {
    let op = (any::<u8>(), 0..=longest_bytes).prop_map(|(kind, length)| Op::decode(kind, length));
    prop::collection::vec(op, 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 8192 }))]

    #[test]
    fn a_small_fifo_does_what_the_oracle_says(
        ops in ops(150, 80),
        capacity_log2 in 6..9_u32,
        start in position(),
    ) {
        run(&ops, 1 << capacity_log2, start);
    }

    #[test]
    fn inline_messages_are_as_exact_as_any(
        ops in ops(50, 120),
        start in position(),
    ) {
        run(&ops, 128, start);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    #[cfg_attr(miri, ignore = "megabytes, byte by byte in an interpreter")]
    fn long_writes_that_are_published_in_parts_are_exact(
        ops in ops(70_000, 30),
        start in position(),
    ) {
        run(&ops, 64 * 1024, start);
    }
}

#[test]
fn every_length_from_every_index_of_the_smallest_ring_is_exact() {
    const CAPACITY: usize = 64;
    let step = if cfg!(miri) { 21 } else { 1 };
    for below in (0..CAPACITY as u64).step_by(step) {
        let start = u64::MAX - below;
        for length in 0..=CAPACITY {
            let ops = [Op::Write(length), Op::Read(CAPACITY), Op::Write(length), Op::Read(length)];
            run(&ops, CAPACITY, start);
        }
    }
}

#[test]
fn every_cut_of_every_message_through_the_smallest_ring_is_exact() {
    const CAPACITY: usize = 64;
    let step = if cfg!(miri) { 21 } else { 1 };
    for below in (0..CAPACITY as u64).step_by(7 * step) {
        let start = u64::MAX - below;
        for total in (0..=CAPACITY).step_by(step) {
            for first in 0..=total {
                let pieces = Pieces { first, total };
                let ops = [
                    Op::WriteVectored(pieces),
                    Op::ReadVectored(pieces),
                    // Less than was granted, so that the rest of it is overwritten.
                    Op::Grant(total, Some(first)),
                    Op::WriteVectoredWhole(pieces),
                    Op::ReadVectored(pieces),
                    Op::Grant(CAPACITY - first, None),
                    Op::WriteVectoredWhole(pieces),
                ];
                run(&ops, CAPACITY, start);
            }
        }
    }
}

#[test]
fn every_way_in_place_through_the_smallest_ring_is_exact() {
    const CAPACITY: usize = 64;
    let step = if cfg!(miri) { 31 } else { 1 };
    for below in (0..CAPACITY as u64).step_by(step) {
        let start = u64::MAX - below;
        for total in (0..=CAPACITY).step_by(step) {
            for first in (0..=total).step_by(if cfg!(miri) { 21 } else { 7 }) {
                let pieces = Pieces { first, total };
                let all = Pieces { first: CAPACITY, total: CAPACITY };
                let ops = [
                    Op::GrantUpTo(pieces),
                    Op::ReadInPlace(all),
                    Op::GrantSlices(pieces),
                    Op::Read(CAPACITY),
                    Op::Write(total),
                    Op::ReadInPlace(pieces),
                    Op::ReadSlices(all),
                    // More than there is: what was not read is in the way.
                    Op::Write(total),
                    Op::ReadSlices(pieces),
                    Op::GrantSlices(all),
                    Op::Forward(total),
                    Op::Forward(CAPACITY),
                ];
                run(&ops, CAPACITY, start);
            }
        }
    }
}

/// Both ends of a FIFO of 64 bytes that starts where the counter wraps.
fn small_fifo() -> HeapFifo {
    HeapFifo::new(64, u64::MAX - 10)
}

#[test]
fn a_grant_shows_nothing_before_it_is_committed_and_then_what_was_staged_too() {
    let memory = small_fifo();
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    producer.stage(b"staged, ").unwrap();
    let mut grant = producer.grant(30).unwrap().unwrap();
    grant.write_at(8, b"overwritten");
    grant.write_at(0, b"granted ");
    grant.write_at(8, b"and written");
    assert_eq!(consumer.available_bytes(), Ok(0));

    grant.commit(19);

    let mut target = [0; 64];
    assert_eq!(consumer.read(&mut target), Ok(27));
    assert_eq!(&target[..27], b"staged, granted and written");
    assert_eq!(producer.free_bytes(), Ok(64));
}

#[test]
fn a_dropped_grant_leaves_what_was_staged_before_and_its_space() {
    let memory = small_fifo();
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    producer.stage(b"staged").unwrap();
    let mut grant = producer.grant(58).unwrap().unwrap();
    grant.write_at(0, &[0xEE; 58]);
    drop(grant);
    assert_eq!(producer.free_bytes(), Ok(58));
    assert_eq!(producer.position(), (u64::MAX - 10).wrapping_add(6));
    producer.publish();

    let mut target = [0; 64];
    assert_eq!(consumer.read(&mut target), Ok(6));
    assert_eq!(&target[..6], b"staged");
}

#[test]
fn a_grant_is_the_free_space_at_most() {
    let memory = small_fifo();
    let mut producer = memory.producer();
    producer.write(&[1; 20]).unwrap();
    assert!(producer.grant(45).unwrap().is_none());
    assert!(producer.grant(usize::MAX).unwrap().is_none());
    assert_eq!(producer.grant(44).unwrap().unwrap().length(), 44);
    producer.grant(0).unwrap().unwrap().commit(0);
    assert_eq!(producer.free_bytes(), Ok(44));
    assert_eq!(producer.grant_up_to(usize::MAX).unwrap().length(), 44);
    assert_eq!(producer.grant_up_to(43).unwrap().length(), 43);
}

#[test]
fn what_is_granted_to_read_stays_until_it_is_consumed_and_what_comes_meanwhile_too() {
    let memory = small_fifo();
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    producer.write(b"inline and ").unwrap();
    let grant = consumer.grant().unwrap();
    producer.write(b"not").unwrap();
    assert_eq!(grant.length(), 11);
    drop(grant);
    assert_eq!(producer.free_bytes(), Ok(50));

    let grant = consumer.grant().unwrap();
    let mut target = [0; 14];
    grant.read_at(0, &mut target);
    grant.consume(7);
    let mut rest = [0; 64];
    assert_eq!(&target, b"inline and not");
    assert_eq!(producer.free_bytes(), Ok(57));
    assert_eq!(consumer.read(&mut rest), Ok(7));
    assert_eq!(&rest[..7], b"and not");
}

#[test]
fn a_message_that_is_written_by_slices_is_inline_as_any_other() {
    let memory = small_fifo();
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    let mut grant = producer.grant_up_to(12).unwrap();
    // SAFETY: the consumer does nothing meanwhile.
    let (first, second) = unsafe { grant.as_mut_slices() };
    for (shared, byte) in first.iter_mut().chain(second).zip(b"around") {
        shared.write(*byte);
    }
    grant.commit(6);
    // Seen in the message: the consumer took it from there.
    memory.scribble(Word::InlineWord(0), u64::from_ne_bytes(*b"AROUND__"));

    let mut target = [0; 64];
    assert_eq!(consumer.read(&mut target), Ok(6));
    assert_eq!(&target[..6], b"AROUND");
}

#[test]
#[should_panic(expected = "2 bytes at 7 leave a grant of 8")]
fn a_write_beyond_its_grant_panics() {
    let memory = small_fifo();
    let mut producer = memory.producer();
    producer.grant(8).unwrap().unwrap().write_at(7, b"xx");
}

#[test]
#[should_panic(expected = "leave a grant of 8")]
fn an_offset_beyond_its_grant_panics_however_large() {
    let memory = small_fifo();
    let mut producer = memory.producer();
    producer.grant(8).unwrap().unwrap().write_at(usize::MAX, b"x");
}

#[test]
#[should_panic(expected = "9 bytes of a grant of 8")]
fn a_commit_of_more_than_was_granted_panics() {
    let memory = small_fifo();
    let mut producer = memory.producer();
    producer.grant(8).unwrap().unwrap().commit(9);
}

#[test]
#[should_panic(expected = "12 bytes of a grant of 11")]
fn consuming_more_than_was_granted_panics() {
    let memory = small_fifo();
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    producer.write(&[1; 11]).unwrap();
    let grant = consumer.grant().unwrap();
    producer.write(&[1; 11]).unwrap();
    grant.consume(12);
}

#[test]
#[should_panic(expected = "2 bytes at 7 leave a grant of 8")]
fn a_look_beyond_its_grant_panics() {
    let memory = small_fifo();
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    producer.write(&[1; 8]).unwrap();
    consumer.grant().unwrap().read_at(7, &mut [0; 2]);
}

#[test]
#[should_panic(expected = "leave a grant of 8")]
fn a_range_beyond_what_was_granted_is_not_copied_however_large() {
    let memory = small_fifo();
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    producer.write(&[1; 8]).unwrap();
    let grant = consumer.grant().unwrap();
    producer.grant(8).unwrap().unwrap().copy_from(0, &grant, usize::MAX - 1..usize::MAX);
}

#[test]
#[should_panic(expected = "5 bytes at 4 leave a grant of 8")]
fn a_copy_beyond_the_grant_that_it_goes_to_panics() {
    let memory = small_fifo();
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    producer.write(&[1; 8]).unwrap();
    let grant = consumer.grant().unwrap();
    producer.grant(8).unwrap().unwrap().copy_from(4, &grant, 0..5);
}

#[test]
#[should_panic(expected = "ends before it begins: 5..4")]
#[allow(clippy::reversed_empty_ranges, reason = "that is what is tried")]
fn a_range_that_is_none_panics() {
    let memory = small_fifo();
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    producer.write(&[1; 8]).unwrap();
    let grant = consumer.grant().unwrap();
    producer.grant(8).unwrap().unwrap().copy_from(0, &grant, 5..4);
}
