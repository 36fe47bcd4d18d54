//! What tests and fuzzing reach that users need not: no stable interface.

use crate::reply::{ReplyError, ReplyReader};
use redis::Value;
use std::io::Read;

/// The values that a connection reads from `bytes` when they arrive in portions
/// of the given lengths, over and over, and the error that follows them, if one
/// does. What is no whole value at the end is passed over.
///
/// # Panics
/// If `portions` is empty or has a zero.
#[must_use]
pub fn read_replies(bytes: &[u8], portions: &[usize]) -> (Vec<Value>, Option<ReplyError>) {
    let mut reader = ReplyReader::default();
    let mut values = Vec::new();
    let mut portions = portions.iter().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let portion = portions.next().map_or(0, |&length| rest.len().min(length));
        assert_ne!(portion, 0, "a portion has bytes");
        let taken = reader.fill(|room| (&rest[..portion]).read(room)).unwrap_or(0);
        rest = &rest[taken..];
        loop {
            match reader.next() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
    }
    (values, None)
}
