//! The first line of a value: all of it, or what is to follow.

use super::ReplyError;
use redis::Value;

/// The longest line that is a number or a word: the longest double has fewer
/// digits. Text may be longer: `MONITOR` prints whole commands as one line.
const MAX_SHORT_LINE_BYTES: usize = 1024;
const MAX_TEXT_LINE_BYTES: usize = 512 << 20;

/// What a value's first line says.
#[derive(Debug)]
pub(super) enum Head {
    /// The value, whole.
    Whole(Value),
    /// So many bytes follow, and a line end.
    Bulk(BulkKind, usize),
    /// So many values follow, at least one.
    Aggregate(AggregateKind, usize),
}

/// What the bytes of a bulk mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BulkKind {
    String,
    Error,
    Verbatim,
}

/// What the values of an aggregate mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AggregateKind {
    Array,
    Set,
    Map,
    Attribute,
    Push,
}

/// How long a line may be that starts with `kind`, line end excluded.
pub(super) const fn max_line_bytes(kind: u8) -> Result<usize, ReplyError> {
    match kind {
        b'+' | b'-' | b'(' => Ok(MAX_TEXT_LINE_BYTES),
        b':' | b'$' | b'*' | b'%' | b'|' | b'~' | b'_' | b',' | b'#' | b'!' | b'=' | b'>' => {
            Ok(MAX_SHORT_LINE_BYTES)
        }
        _ => Err(ReplyError::UnknownType(kind)),
    }
}

impl Head {
    /// Parses a line without its end: the type byte `kind` and the `rest`.
    #[inline]
    pub(super) fn parse(kind: u8, rest: &[u8]) -> Result<Self, ReplyError> {
        match kind {
            b'+' => Ok(Self::Whole(simple_string(rest))),
            b':' => integer(rest).map(|number| Self::Whole(Value::Int(number))),
            b'$' => Self::bulk(BulkKind::String, integer(rest)?),
            b'*' => Self::aggregate(AggregateKind::Array, integer(rest)?),
            _ => Self::parse_uncommon(kind, rest),
        }
    }

    fn parse_uncommon(kind: u8, rest: &[u8]) -> Result<Self, ReplyError> {
        match kind {
            b'-' | b'(' => line_by_redis(kind, rest).map(Self::Whole),
            b'_' => Ok(Self::Whole(Value::Nil)),
            b',' => double(rest).map(|number| Self::Whole(Value::Double(number))),
            b'#' => boolean(rest).map(|truth| Self::Whole(Value::Boolean(truth))),
            b'!' => Self::bulk(BulkKind::Error, integer(rest)?),
            b'=' => Self::bulk(BulkKind::Verbatim, integer(rest)?),
            b'%' => Self::aggregate(AggregateKind::Map, integer(rest)?),
            b'|' => Self::aggregate(AggregateKind::Attribute, integer(rest)?),
            b'~' => Self::aggregate(AggregateKind::Set, integer(rest)?),
            b'>' => Self::aggregate(AggregateKind::Push, integer(rest)?),
            _ => Err(ReplyError::UnknownType(kind)),
        }
    }

    fn bulk(kind: BulkKind, length: i64) -> Result<Self, ReplyError> {
        match usize::try_from(length) {
            Ok(length) => Ok(Self::Bulk(kind, length)),
            Err(_) if kind == BulkKind::String => Ok(Self::Whole(Value::Nil)),
            Err(_) => Err(ReplyError::Malformed("a length")),
        }
    }

    fn aggregate(kind: AggregateKind, length: i64) -> Result<Self, ReplyError> {
        let Ok(length) = usize::try_from(length) else { return kind.null().map(Self::Whole) };
        let values = kind.values_in(length).ok_or(ReplyError::Malformed("a length"))?;
        if values == 0 {
            return kind.build(Vec::new()).map(Self::Whole);
        }
        Ok(Self::Aggregate(kind, values))
    }
}

impl AggregateKind {
    /// How many values follow a head that says `length`.
    fn values_in(self, length: usize) -> Option<usize> {
        match self {
            Self::Array | Self::Set | Self::Push => Some(length),
            Self::Map => length.checked_mul(2),
            // The attributes, in pairs, and what they belong to.
            Self::Attribute => length.checked_mul(2)?.checked_add(1),
        }
    }

    /// The value of an aggregate whose length is negative.
    fn null(self) -> Result<Value, ReplyError> {
        match self {
            Self::Array | Self::Set => Ok(Value::Nil),
            Self::Push => self.build(Vec::new()),
            Self::Map | Self::Attribute => Err(ReplyError::Malformed("a length")),
        }
    }

    /// The value made of all its `values`.
    pub(super) fn build(self, mut values: Vec<Value>) -> Result<Value, ReplyError> {
        match self {
            Self::Array => Ok(Value::Array(values)),
            Self::Set => Ok(Value::Set(values)),
            Self::Map => Ok(Value::Map(pairs(values))),
            Self::Attribute => {
                let data = Box::new(values.pop().unwrap_or_default());
                Ok(Value::Attribute { data, attributes: pairs(values) })
            }
            Self::Push => super::push::build(values),
        }
    }
}

impl BulkKind {
    /// The value made of all its `bytes`.
    pub(super) fn build(self, bytes: Vec<u8>) -> Result<Value, ReplyError> {
        match self {
            Self::String => Ok(Value::BulkString(bytes)),
            Self::Error => error_by_redis(&bytes),
            Self::Verbatim => verbatim(&bytes),
        }
    }
}

fn pairs(values: Vec<Value>) -> Vec<(Value, Value)> {
    let mut pairs = Vec::with_capacity(values.len() / 2);
    let mut values = values.into_iter();
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        pairs.push((key, value));
    }
    pairs
}

fn simple_string(line: &[u8]) -> Value {
    if line == b"OK" {
        return Value::Okay;
    }
    Value::SimpleString(String::from_utf8_lossy(line).into_owned())
}

/// A decimal number; what is not just few digits goes to the standard library.
#[inline]
fn integer(line: &[u8]) -> Result<i64, ReplyError> {
    /// No number of so many digits overflows.
    const SAFE_DIGITS: usize = 18;
    if line.is_empty() || line.len() > SAFE_DIGITS || !line.iter().all(u8::is_ascii_digit) {
        return number(line, "an integer");
    }
    Ok(line.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
}

fn double(line: &[u8]) -> Result<f64, ReplyError> {
    number(line, "a double")
}

fn number<T: std::str::FromStr>(line: &[u8], expected: &'static str) -> Result<T, ReplyError> {
    let text = std::str::from_utf8(line).ok();
    text.and_then(|text| text.trim().parse().ok()).ok_or(ReplyError::Malformed(expected))
}

fn boolean(line: &[u8]) -> Result<bool, ReplyError> {
    match line {
        b"t" => Ok(true),
        b"f" => Ok(false),
        _ => Err(ReplyError::Malformed("a boolean")),
    }
}

fn verbatim(bytes: &[u8]) -> Result<Value, ReplyError> {
    let text = String::from_utf8_lossy(bytes);
    let (format, text) = text.split_once(':').ok_or(ReplyError::Malformed("a verbatim string"))?;
    let format = match format {
        "txt" => redis::VerbatimFormat::Text,
        "mkd" => redis::VerbatimFormat::Markdown,
        other => redis::VerbatimFormat::Unknown(other.to_owned()),
    };
    Ok(Value::VerbatimString { format, text: text.to_owned() })
}

/// Errors can only be built by redis-rs; big numbers have a type that depends on
/// its features. Both are rare.
fn line_by_redis(kind: u8, rest: &[u8]) -> Result<Value, ReplyError> {
    let text = String::from_utf8_lossy(rest);
    by_redis(&[&[kind], text.as_bytes(), b"\r\n"].concat())
}

fn error_by_redis(bytes: &[u8]) -> Result<Value, ReplyError> {
    let head = format!("!{}\r\n", bytes.len());
    by_redis(&[head.as_bytes(), bytes, b"\r\n"].concat())
}

fn by_redis(whole: &[u8]) -> Result<Value, ReplyError> {
    redis::parse_redis_value(whole).map_err(|_| ReplyError::Malformed("an error or a big number"))
}
