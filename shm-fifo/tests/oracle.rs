//! A FIFO does what its specification says, for any operations and any start.

use proptest::prelude::*;
use shm_fifo::testing::{Op, run};

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
    fn messages_that_fit_the_mailbox_are_as_exact_as_any(
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
