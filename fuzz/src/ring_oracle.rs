//! Operations on a FIFO against its specification.

use crate::input::Input;
use shm_fifo::testing::{self, Op};

/// Runs the operations that `data` spells, on a FIFO that starts anywhere.
///
/// # Panics
/// If the FIFO differs from its specification.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    // Small rings are as interesting as large ones, and cheaper: they are likelier.
    let capacity = match input.byte() {
        choice @ 0..252 => 64 << (choice % 3),
        252 | 253 => 4096,
        _ => 64 * 1024,
    };
    let start = input.position();
    let mut ops = Vec::with_capacity(data.len() / 2);
    while !input.is_empty() {
        let kind = input.byte();
        ops.push(Op::decode(kind, input.exact_length(capacity)));
    }
    testing::run(&ops, capacity, start);
}
