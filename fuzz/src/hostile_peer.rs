//! Both ends of a FIFO while its header is overwritten at every step.

use crate::input::Input;
use shm_fifo::testing::{self, Scribble, Word};

/// Uses a FIFO under the attack that `data` spells.
///
/// # Panics
/// If an end does anything but transfer bytes within the ring or say `Corrupt`.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let capacity = 64 << input.below(3);
    let start = input.position();
    let mut steps = Vec::with_capacity(data.len() / 4);
    while !input.is_empty() {
        steps.push(Scribble {
            word: input.choose(&Word::ALL),
            value: value(&mut input, start),
            kind: input.byte(),
            length: input.length(capacity),
        });
    }
    testing::run_hostile(&steps, capacity, start);
}

/// Mostly near where honest positions are: those pass the first check.
fn value(input: &mut Input<'_>, start: u64) -> u64 {
    match input.byte() {
        0..160 => start.wrapping_add_signed(i64::from(input.u16().cast_signed()) % 1024),
        160..240 => input.choose(&[0, 1, u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 32]),
        _ => input.u64(),
    }
}
