//! Where one value ends and the next begins in what a server sends.

use super::ReplyError;

/// Aggregates inside each other; servers do not nest deeper.
const MAX_DEPTH: usize = 32;

/// How far a look at some bytes came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// How many bytes were looked at.
    pub taken: usize,
    /// The type byte of the outermost value that ended there, if one did.
    pub value: Option<u8>,
}

/// Follows values, RESP2 and RESP3, through bytes that come in any portions.
/// Keeps none of them, and allocates nothing.
#[derive(Debug, Clone, Default)]
pub struct ReplyScanner {
    at: Place,
    /// The aggregates that are not complete, outermost first.
    open: [Aggregate; MAX_DEPTH],
    depth: usize,
}

#[derive(Debug, Clone, Copy, Default)]
enum Place {
    /// Where a value begins.
    #[default]
    Start,
    /// In a line that is the whole value.
    Text { kind: u8, returned: bool },
    /// In a line that says how much follows.
    Length { kind: u8, length: u64, state: Digits },
    /// In a bulk; so many bytes of it are missing, and its line end.
    Bulk { kind: u8, missing: u64 },
    /// Behind a bulk's bytes, or between the two of its line end.
    BulkEnd { kind: u8, returned: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Digits {
    None,
    Some,
    Minus,
    /// `-1`: there is no value.
    Null,
    /// The carriage return was seen.
    Ended,
    NullEnded,
}

#[derive(Debug, Clone, Copy, Default)]
struct Aggregate {
    kind: u8,
    missing: u64,
}

impl ReplyScanner {
    /// Looks at `bytes`, which follow those of the last call, up to the end of the
    /// next outermost value.
    ///
    /// # Errors
    /// If they are no value. Nothing can be said of what follows.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Scanned, ReplyError> {
        let mut taken = 0;
        while taken < bytes.len() {
            let ended = self.step(&bytes[taken..], &mut taken)?;
            if let Some(kind) = ended.and_then(|kind| self.close(kind)) {
                return Ok(Scanned { taken, value: Some(kind) });
            }
        }
        Ok(Scanned { taken, value: None })
    }

    /// Whether the last value seen is complete.
    #[must_use]
    pub fn is_between(&self) -> bool {
        matches!(self.at, Place::Start) && self.depth == 0
    }

    /// Takes some of `bytes`, which are not empty. Returns the type of the value
    /// that ended with them.
    fn step(&mut self, bytes: &[u8], taken: &mut usize) -> Result<Option<u8>, ReplyError> {
        match &mut self.at {
            Place::Start => {
                *taken += 1;
                self.at = Place::after_type(bytes[0])?;
                Ok(None)
            }
            Place::Text { kind, returned } => {
                let kind = *kind;
                let (here, ended) = line_part(bytes, returned);
                *taken += here;
                Ok(ended.then(|| self.end(kind)))
            }
            Place::Length { kind, length, state } => {
                *taken += 1;
                let kind = *kind;
                let Some(length) = number(bytes[0], length, state)? else { return Ok(None) };
                self.begin(kind, length)
            }
            Place::Bulk { kind, missing } => {
                let here = usize::try_from(*missing).unwrap_or(usize::MAX).min(bytes.len());
                *taken += here;
                *missing -= here as u64;
                if *missing == 0 {
                    self.at = Place::BulkEnd { kind: *kind, returned: false };
                }
                Ok(None)
            }
            Place::BulkEnd { kind, returned } => {
                let kind = *kind;
                *taken += 1;
                match (bytes[0], *returned) {
                    (b'\r', false) => *returned = true,
                    (b'\n', true) => return Ok(Some(self.end(kind))),
                    _ => return Err(ReplyError::Malformed("the end of a bulk")),
                }
                Ok(None)
            }
        }
    }

    fn end(&mut self, kind: u8) -> u8 {
        self.at = Place::Start;
        kind
    }

    /// Behind the line that says how much follows, `None` if that is no value.
    /// Returns the type if nothing follows.
    fn begin(&mut self, kind: u8, length: Option<u64>) -> Result<Option<u8>, ReplyError> {
        const LENGTH: ReplyError = ReplyError::Malformed("a length");
        self.at = Place::Start;
        let Some(length) = length else {
            // RESP3 has a type for it.
            return if matches!(kind, b'$' | b'*') { Ok(Some(kind)) } else { Err(LENGTH) };
        };
        if matches!(kind, b'$' | b'=' | b'!') {
            self.at = match length {
                0 => Place::BulkEnd { kind, returned: false },
                missing => Place::Bulk { kind, missing },
            };
            return Ok(None);
        }
        let pairs = matches!(kind, b'%' | b'|');
        let missing = if pairs { length.checked_mul(2).ok_or(LENGTH)? } else { length };
        if missing == 0 {
            return Ok(Some(kind));
        }
        let inner = self.open.get_mut(self.depth).ok_or(ReplyError::TooDeep)?;
        *inner = Aggregate { kind, missing };
        self.depth += 1;
        Ok(None)
    }

    /// A value of type `kind` ended: closes the aggregates that it completes.
    /// Returns the type of the outermost if that is complete.
    fn close(&mut self, mut kind: u8) -> Option<u8> {
        while let Some(around) = self.open[..self.depth].last_mut() {
            // Attributes belong to the value behind them; they are no element.
            if kind == b'|' {
                return None;
            }
            around.missing -= 1;
            if around.missing > 0 {
                return None;
            }
            kind = around.kind;
            self.depth -= 1;
        }
        Some(kind)
    }
}

impl Place {
    fn after_type(kind: u8) -> Result<Self, ReplyError> {
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {
                Ok(Self::Text { kind, returned: false })
            }
            b'$' | b'=' | b'!' | b'*' | b'~' | b'%' | b'|' | b'>' => {
                Ok(Self::Length { kind, length: 0, state: Digits::None })
            }
            _ => Err(ReplyError::UnknownType(kind)),
        }
    }
}

/// How many of `bytes` belong to a line, and whether it ends with them. `returned`
/// says whether what came before ended in a carriage return, which ends no line alone.
fn line_part(bytes: &[u8], returned: &mut bool) -> (usize, bool) {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&byte| byte == b'\n') {
        let newline = from + at;
        let is_end = if newline == 0 { *returned } else { bytes[newline - 1] == b'\r' };
        if is_end {
            return (newline + 1, true);
        }
        from = newline + 1;
    }
    *returned = bytes.last() == Some(&b'\r');
    (bytes.len(), false)
}

/// Takes one byte of a number's line. At its end: the number, `None` if it is the
/// negative one.
fn number(
    byte: u8,
    so_far: &mut u64,
    state: &mut Digits,
) -> Result<Option<Option<u64>>, ReplyError> {
    const MALFORMED: ReplyError = ReplyError::Malformed("an integer");
    *state = match (byte, *state) {
        (b'0'..=b'9', Digits::None | Digits::Some) => {
            let digit = u64::from(byte - b'0');
            let number = so_far.checked_mul(10).and_then(|number| number.checked_add(digit));
            *so_far = number.ok_or(MALFORMED)?;
            Digits::Some
        }
        (b'-', Digits::None) => Digits::Minus,
        (b'1', Digits::Minus) => Digits::Null,
        (b'\r', Digits::Some) => Digits::Ended,
        (b'\r', Digits::Null) => Digits::NullEnded,
        (b'\n', Digits::Ended) => return Ok(Some(Some(*so_far))),
        (b'\n', Digits::NullEnded) => return Ok(Some(None)),
        _ => return Err(MALFORMED),
    };
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(chunks: &[&[u8]]) -> Result<Vec<u8>, ReplyError> {
        let mut scanner = ReplyScanner::default();
        let mut found = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            while !rest.is_empty() {
                let scanned = scanner.next(rest)?;
                rest = &rest[scanned.taken..];
                found.extend(scanned.value);
            }
        }
        assert!(scanner.is_between());
        Ok(found)
    }

    #[test]
    fn every_type_is_one_value() {
        let values: [&[u8]; 17] = [
            b"+OK\r\n",
            b"-ERR no\r\n",
            b"+a\nb\r\r\n",
            b":1\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"$3\r\n\r\n\n\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n",
            b"%1\r\n+a\r\n~1\r\n#t\r\n",
            b"_\r\n",
            b",1.5\r\n",
            b"(123456789012345678901234567890\r\n",
            b"=5\r\ntxt:a\r\n",
            b">1\r\n+invalidate\r\n",
            b"*2\r\n|1\r\n+a\r\n:1\r\n:2\r\n:3\r\n",
        ];
        for value in values {
            assert_eq!(kinds(&[value]), Ok(vec![value[0]]), "{value:?}");
        }
        let all = values.concat();
        let firsts: Vec<u8> = values.iter().map(|value| value[0]).collect();
        assert_eq!(kinds(&[&all]), Ok(firsts.clone()));
        let bytes: Vec<&[u8]> = all.chunks(1).collect();
        assert_eq!(kinds(&bytes), Ok(firsts));
    }

    #[test]
    fn what_is_no_value_is_an_error() {
        let table: [(&[u8], ReplyError); 10] = [
            (b"\0", ReplyError::UnknownType(0)),
            (b"$x\r\n", ReplyError::Malformed("an integer")),
            (b"*\r\n", ReplyError::Malformed("an integer")),
            (b"$-\r\n", ReplyError::Malformed("an integer")),
            (b"$-11\r\n", ReplyError::Malformed("an integer")),
            (b"*99999999999999999999\r\n", ReplyError::Malformed("an integer")),
            (b"%9999999999999999999\r\n", ReplyError::Malformed("a length")),
            (b">-1\r\n", ReplyError::Malformed("a length")),
            (b"$1x", ReplyError::Malformed("an integer")),
            (b"$1\r\nxy\r\n", ReplyError::Malformed("the end of a bulk")),
        ];
        for (bytes, error) in table {
            assert_eq!(ReplyScanner::default().next(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn only_so_many_values_may_be_inside_each_other() {
        let nested = |depth: usize| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
        assert_eq!(kinds(&[&nested(MAX_DEPTH)]), Ok(vec![b'*']));
        let too_deep = ReplyScanner::default().next(&nested(MAX_DEPTH + 1));
        assert_eq!(too_deep, Err(ReplyError::TooDeep));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let mut scanner = ReplyScanner::default();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let Ok(scanned) = scanner.next(rest) else { break };
                prop_assert!(scanned.taken > 0);
                rest = &rest[scanned.taken..];
            }
        }
    }
}
