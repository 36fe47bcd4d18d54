//! Where the values end in bytes that are all there: the simple way to say what
//! `ReplyScanner` says of bytes that come in portions.

/// Aggregates inside each other.
const MAX_DEPTH: usize = 32;

/// What bytes begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// A value of so many bytes.
    Whole(usize),
    /// The beginning of a value, or of something that is none.
    Partial,
    /// No value.
    Bad,
}

/// Splits the first value off `bytes`, which are not empty.
pub(crate) fn split(bytes: &[u8]) -> Split {
    value(bytes, 0)
}

fn value(bytes: &[u8], depth: usize) -> Split {
    let Some(&kind) = bytes.first() else { return Split::Partial };
    if !b"+-:_,#($=!*~%|>".contains(&kind) {
        return Split::Bad;
    }
    let Some(line) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return Split::Partial;
    };
    let (text, behind) = (&bytes[1..line], line + 2);
    match kind {
        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => Split::Whole(behind),
        b'$' | b'*' if text == b"-1" => Split::Whole(behind),
        _ => match number(text) {
            None => Split::Bad,
            Some(length) if b"$=!".contains(&kind) => bulk(bytes, behind, length),
            Some(count) => aggregate(bytes, behind, kind, count, depth),
        },
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

fn bulk(bytes: &[u8], from: usize, length: u64) -> Split {
    let end = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(from);
    match bytes.get(end..) {
        Some([b'\r', b'\n', ..]) => Split::Whole(end + 2),
        None | Some([] | [b'\r']) => Split::Partial,
        Some(_) => Split::Bad,
    }
}

fn aggregate(bytes: &[u8], from: usize, kind: u8, count: u64, depth: usize) -> Split {
    let pairs = matches!(kind, b'%' | b'|');
    let Some(mut missing) = count.checked_mul(if pairs { 2 } else { 1 }) else {
        return Split::Bad;
    };
    if missing > 0 && depth == MAX_DEPTH {
        return Split::Bad;
    }
    let mut at = from;
    while missing > 0 {
        match value(&bytes[at..], depth + 1) {
            Split::Whole(length) => {
                // An attribute belongs to the value behind it.
                missing -= u64::from(bytes[at] != b'|');
                at += length;
            }
            other => return other,
        }
    }
    Split::Whole(at)
}
