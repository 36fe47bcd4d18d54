//! The client's reply reader against redis-rs' parser.

use crate::input::Input;
use redis::Value;
use shm_fifo_redis_client::ReplyError;
use shm_fifo_redis_client::testing::read_replies;

/// Reads the replies that `data` spells, whole and in portions.
///
/// # Panics
/// If portions make a difference, or if the reader and redis-rs, where both find
/// a value, do not find the same.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let portions = [0; 3].map(|_| 1 + input.below(64));
    let bytes = input.rest();

    let (values, error) = read_replies(bytes, &[usize::MAX]);
    let (in_portions, same_error) = read_replies(bytes, &portions);
    let (one_by_one, error_again) = read_replies(bytes, &[1]);
    assert_eq!(text(&values), text(&in_portions));
    assert_eq!(text(&values), text(&one_by_one));
    assert_eq!((error, error), (same_error, error_again));

    // redis-rs refuses text that is no UTF-8, which is repaired here.
    if std::str::from_utf8(bytes).is_ok() {
        let expected = by_redis(bytes);
        let both = values.len().min(expected.len());
        assert_eq!(text(&values[..both]), text(&expected[..both]));
        assert!(values.len() <= expected.len(), "{:?} is no value", values.get(both));
        let missing = values.len() < expected.len();
        let refused = error.is_some_and(is_stricter);
        assert!(!missing || refused, "{error:?}, but redis-rs reads {:?}", expected.get(both));
    }
}

/// What redis-rs reads until it has no more bytes or refuses some.
fn by_redis(mut bytes: &[u8]) -> Vec<Value> {
    let mut parser = redis::Parser::new();
    std::iter::from_fn(|| parser.parse_value(&mut bytes).ok()).collect()
}

/// Whether this reader refuses more than redis-rs does, on purpose.
fn is_stricter(error: ReplyError) -> bool {
    matches!(error, ReplyError::LineTooLong(_) | ReplyError::TooDeep)
}

/// A double that is no number equals itself in this form only.
fn text(values: &[Value]) -> String {
    format!("{values:?}")
}
