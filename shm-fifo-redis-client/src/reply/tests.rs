//! The reader against redis-rs' parser, and against anything at all.

use super::*;
use crate::testing::read_replies;
use proptest::prelude::*;

fn read_one(bytes: &[u8]) -> Result<Option<Value>, ReplyError> {
    match read_replies(bytes, &[bytes.len().max(1)]) {
        (_, Some(error)) => Err(error),
        (values, None) => Ok(values.into_iter().next()),
    }
}

/// What redis-rs makes of it, if that is a value and nothing is left over.
fn oracle(bytes: &[u8]) -> Option<Value> {
    redis::parse_redis_value(bytes).ok()
}

/// A reply without line breaks in text, as a server would send it.
fn line(kind: char, text: &str) -> Vec<u8> {
    format!("{kind}{text}\r\n").into_bytes()
}

fn bulk(kind: char, bytes: &[u8]) -> Vec<u8> {
    [format!("{kind}{}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn aggregate(kind: char, length: usize, parts: Vec<Vec<u8>>) -> Vec<u8> {
    [format!("{kind}{length}\r\n").into_bytes(), parts.concat()].concat()
}

fn scalar() -> impl Strategy<Value = Vec<u8>> {
    let text = "[ -~]{0,20}";
    prop_oneof![
        Just(b"+OK\r\n".to_vec()),
        Just(b"$-1\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
        Just(b"_\r\n".to_vec()),
        text.prop_map(|text| line('+', &text)),
        "(ERR|WRONGTYPE|NOPERM|MOVED|X) [ -~]{0,20}".prop_map(|text| line('-', &text)),
        any::<i64>().prop_map(|number| line(':', &number.to_string())),
        "[0-9]{1,30}".prop_map(|number| line('(', &number)),
        any::<f64>()
            .prop_filter("equal to itself", |number| !number.is_nan())
            .prop_map(|number| line(',', &number.to_string())),
        any::<bool>().prop_map(|truth| line('#', if truth { "t" } else { "f" })),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| bulk('$', &bytes)),
        "ERR [ -~]{0,20}".prop_map(|text| bulk('!', text.as_bytes())),
        "(txt|mkd|odd):[ -~\r\n]{0,20}".prop_map(|text| bulk('=', text.as_bytes())),
    ]
}

fn reply() -> impl Strategy<Value = Vec<u8>> {
    scalar().prop_recursive(4, 64, 8, |inner| {
        let many = || proptest::collection::vec(inner.clone(), 0..8);
        let pairs = || proptest::collection::vec((inner.clone(), inner.clone()), 0..4);
        let flat = |pairs: Vec<(Vec<u8>, Vec<u8>)>| -> Vec<Vec<u8>> {
            pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()
        };
        let push_kind = prop_oneof![Just(b"+message\r\n".to_vec()), Just(bulk('$', b"other"))];
        prop_oneof![
            many().prop_map(|parts| aggregate('*', parts.len(), parts)),
            many().prop_map(|parts| aggregate('~', parts.len(), parts)),
            pairs().prop_map(move |pairs| aggregate('%', pairs.len(), flat(pairs))),
            (pairs(), inner.clone()).prop_map(move |(pairs, data)| {
                [aggregate('|', pairs.len(), flat(pairs)), data].concat()
            }),
            (push_kind, many()).prop_map(|(kind, parts)| {
                let parts = [vec![kind], parts].concat();
                aggregate('>', parts.len(), parts)
            }),
        ]
    })
}

proptest! {
    #[test]
    fn replies_in_any_portions_are_what_redis_rs_makes_of_them(
        replies in proptest::collection::vec(reply(), 1..6),
        portions in proptest::collection::vec(1_usize..60, 1..8),
    ) {
        let expected: Vec<_> = replies.iter().map(|reply| oracle(reply).unwrap()).collect();
        let (values, error) = read_replies(&replies.concat(), &portions);
        prop_assert_eq!(error, None);
        prop_assert_eq!(values, expected);
    }

    #[test]
    fn a_damaged_reply_is_no_value_that_redis_rs_does_not_see(
        reply in reply(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), 0..128_u8), 1..4),
    ) {
        let mut reply = reply;
        for (index, byte) in damage {
            let at = index.index(reply.len());
            reply[at] = byte;
        }
        let ours = read_one(&reply).ok().flatten();
        // Text that is no UTF-8 is repaired here and refused there.
        if ours.is_some() && std::str::from_utf8(&reply).is_ok() {
            prop_assert_eq!(ours, oracle(&reply));
        }
    }

    #[test]
    fn anything_at_all_is_answered_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        portions in proptest::collection::vec(1_usize..40, 1..4),
    ) {
        drop(read_replies(&bytes, &portions));
    }

    #[test]
    fn anything_that_looks_like_replies_is_answered_without_a_panic(
        text in r"([-+:$*%~>|=!#,_(][0-9tf-]{0,3}\r\n|[a-z]{0,3}\r\n){0,60}",
        portions in proptest::collection::vec(1_usize..40, 1..4),
    ) {
        drop(read_replies(text.as_bytes(), &portions));
    }
}

#[test]
fn a_claimed_length_takes_no_memory() {
    for claim in ["$9223372036854775807", "*9223372036854775807", "%4611686018427387903"] {
        let mut reader = ReplyReader::default();
        let head = format!("{claim}\r\n");
        reader.fill(|room| io::Read::read(&mut head.as_bytes(), room)).unwrap();
        assert_eq!(reader.next(), Ok(None));
        let bulk = reader.bulk.as_ref().map_or(0, |bulk| bulk.bytes.capacity());
        let values = reader.open.last().map_or(0, |aggregate| aggregate.values.capacity());
        assert!(bulk <= MAX_RESERVED_BYTES && values <= MAX_RESERVED_VALUES, "{claim}");
    }
}

#[test]
fn lengths_that_no_reply_can_have_are_refused() {
    for head in ["%-1", "|-1", "!-1", "=-2", "*x", ":", "$99999999999999999999"] {
        assert!(read_one(format!("{head}\r\n").as_bytes()).is_err(), "{head}");
    }
}

#[test]
fn nesting_has_the_limit_of_redis_rs() {
    let nested = |depth: usize| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
    assert_eq!(read_one(&nested(99)).unwrap(), oracle(&nested(99)));
    assert!(oracle(&nested(99)).is_some());
    assert_eq!(read_one(&nested(100)), Err(ReplyError::TooDeep));
    assert_eq!(oracle(&nested(100)), None);
}

#[test]
fn a_line_that_never_ends_is_refused_and_not_kept() {
    let endless = [b":".to_vec(), vec![b'1'; 5000]].concat();
    assert!(matches!(read_one(&endless), Err(ReplyError::LineTooLong(_))));
    assert_eq!(read_one(&[0; 10]), Err(ReplyError::UnknownType(0)));
}

#[test]
fn a_bulk_larger_than_the_buffer_is_as_large_as_its_value() {
    let bytes: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    let (values, error) = read_replies(&bulk('$', &bytes), &[100_000, 7]);
    assert_eq!(error, None);
    let [Value::BulkString(value)] = &values[..] else { panic!("{values:?}") };
    assert_eq!(*value, bytes);
    assert_eq!(value.capacity(), bytes.len());
}

#[test]
fn an_error_that_is_no_text_is_an_error_all_the_same() {
    let value = read_one(b"-ERR unknown command '\xff'\r\n").unwrap();
    assert!(matches!(value, Some(Value::ServerError(_))));
}
