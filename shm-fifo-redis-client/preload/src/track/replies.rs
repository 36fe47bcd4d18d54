//! Where one value ends and the next begins in what a server sends.

use super::GivenUp;

/// Aggregates inside each other; servers do not nest deeper.
const MAX_DEPTH: usize = 32;

/// How far a look at some bytes came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// How many bytes were looked at.
    pub(crate) taken: usize,
    /// The type byte of the outermost value that ended there, if one did.
    pub(crate) value: Option<u8>,
}

/// Follows values, RESP2 and RESP3, through bytes that come in any portions.
/// Keeps none of them.
#[derive(Debug, Default)]
pub(crate) struct ReplyScanner {
    at: Place,
    /// The aggregates that are not complete, outermost first.
    open: Vec<Aggregate>,
}

#[derive(Debug, Default)]
enum Place {
    /// Where a value begins.
    #[default]
    Start,
    /// In a line that is the whole value.
    Text { kind: u8 },
    /// In a line that says how much follows.
    Length { kind: u8, length: u64, state: Digits },
    /// In a bulk; so many bytes of it and its line end are missing.
    Bulk { kind: u8, missing: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Digits {
    None,
    Some,
    /// `-1`: there is no value.
    Null,
    /// The carriage return was seen.
    Ended,
    NullEnded,
}

#[derive(Debug)]
struct Aggregate {
    kind: u8,
    missing: u64,
}

impl ReplyScanner {
    /// Looks at `bytes`, which follow those of the last call, up to the end of the
    /// next outermost value.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Scanned, GivenUp> {
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
    pub(crate) fn is_between(&self) -> bool {
        matches!(self.at, Place::Start) && self.open.is_empty()
    }

    /// Takes some of `bytes`, which are not empty. Returns the type of the value
    /// that ended with them.
    fn step(&mut self, bytes: &[u8], taken: &mut usize) -> Result<Option<u8>, GivenUp> {
        match &mut self.at {
            Place::Start => {
                *taken += 1;
                self.at = Place::after_type(bytes[0])?;
                Ok(None)
            }
            Place::Text { kind } => {
                let kind = *kind;
                let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                    *taken += bytes.len();
                    return Ok(None);
                };
                *taken += end + 1;
                self.at = Place::Start;
                Ok(Some(kind))
            }
            Place::Length { kind, length, state } => {
                *taken += 1;
                let kind = *kind;
                let Some((length, null)) = number(bytes[0], length, state)? else {
                    return Ok(None);
                };
                self.begin(kind, length, null)
            }
            Place::Bulk { kind, missing } => {
                let kind = *kind;
                let here = usize::try_from(*missing).unwrap_or(usize::MAX).min(bytes.len());
                *taken += here;
                *missing -= here as u64;
                let complete = *missing == 0;
                if complete {
                    self.at = Place::Start;
                }
                Ok(complete.then_some(kind))
            }
        }
    }

    /// Behind the line that says how much follows. Returns the type if that is
    /// nothing.
    fn begin(&mut self, kind: u8, length: u64, null: bool) -> Result<Option<u8>, GivenUp> {
        self.at = Place::Start;
        if null {
            return Ok(Some(kind));
        }
        if matches!(kind, b'$' | b'=' | b'!') {
            self.at = Place::Bulk { kind, missing: length.checked_add(2).ok_or(GivenUp)? };
            return Ok(None);
        }
        let pairs = matches!(kind, b'%' | b'|');
        let missing = if pairs { length.checked_mul(2).ok_or(GivenUp)? } else { length };
        if missing == 0 {
            return Ok(Some(kind));
        }
        if self.open.len() == MAX_DEPTH {
            return Err(GivenUp);
        }
        self.open.push(Aggregate { kind, missing });
        Ok(None)
    }

    /// A value of type `kind` ended: closes the aggregates that it completes.
    /// Returns the type of the outermost if that is complete.
    fn close(&mut self, mut kind: u8) -> Option<u8> {
        while let Some(around) = self.open.last_mut() {
            // Attributes belong to the value behind them; they are no element.
            if kind == b'|' {
                return None;
            }
            around.missing -= 1;
            if around.missing > 0 {
                return None;
            }
            kind = around.kind;
            self.open.pop();
        }
        Some(kind)
    }
}

impl Place {
    fn after_type(kind: u8) -> Result<Self, GivenUp> {
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => Ok(Self::Text { kind }),
            b'$' | b'=' | b'!' | b'*' | b'~' | b'%' | b'|' | b'>' => {
                Ok(Self::Length { kind, length: 0, state: Digits::None })
            }
            _ => Err(GivenUp),
        }
    }
}

/// Takes one byte of a number's line. At its end: the number, and whether it is
/// the negative one.
fn number(byte: u8, so_far: &mut u64, state: &mut Digits) -> Result<Option<(u64, bool)>, GivenUp> {
    *state = match (byte, *state) {
        (b'0'..=b'9', Digits::None | Digits::Some) => {
            let digit = u64::from(byte - b'0');
            let number = so_far.checked_mul(10).and_then(|number| number.checked_add(digit));
            *so_far = number.ok_or(GivenUp)?;
            Digits::Some
        }
        (b'-', Digits::None) => Digits::Null,
        (b'1', Digits::Null) => Digits::Null,
        (b'\r', Digits::Some) => Digits::Ended,
        (b'\r', Digits::Null) => Digits::NullEnded,
        (b'\n', Digits::Ended) => return Ok(Some((*so_far, false))),
        (b'\n', Digits::NullEnded) => return Ok(Some((0, true))),
        _ => return Err(GivenUp),
    };
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(chunks: &[&[u8]]) -> Result<Vec<u8>, GivenUp> {
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
        let values: [&[u8]; 16] = [
            b"+OK\r\n",
            b"-ERR no\r\n",
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
    fn what_is_no_value_is_given_up() {
        for bytes in
            [&b"\0"[..], b"$x\r\n", b"*\r\n", b"$?\r\n", b"*99999999999999999999\r\n", b"$1x"]
        {
            let mut scanner = ReplyScanner::default();
            assert_eq!(scanner.next(bytes), Err(GivenUp), "{bytes:?}");
        }
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
