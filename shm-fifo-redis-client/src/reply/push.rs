//! Push messages: what the server says unasked (RESP3).

use super::ReplyError;
use redis::{PushKind, Value};

/// The push message made of `values`, of which the first names its kind.
pub(super) fn build(values: Vec<Value>) -> Result<Value, ReplyError> {
    let mut values = values.into_iter();
    let kind = match values.next() {
        None => String::new(),
        Some(Value::SimpleString(kind)) => kind,
        Some(Value::BulkString(kind)) => {
            String::from_utf8(kind).map_err(|_| ReplyError::Malformed("a push message"))?
        }
        Some(_) => return Err(ReplyError::Malformed("a push message")),
    };
    Ok(Value::Push { kind: kind_named(kind), data: values.collect() })
}

fn kind_named(name: String) -> PushKind {
    match name.as_str() {
        "invalidate" => PushKind::Invalidate,
        "message" => PushKind::Message,
        "pmessage" => PushKind::PMessage,
        "smessage" => PushKind::SMessage,
        "subscribe" => PushKind::Subscribe,
        "psubscribe" => PushKind::PSubscribe,
        "ssubscribe" => PushKind::SSubscribe,
        "unsubscribe" => PushKind::Unsubscribe,
        "punsubscribe" => PushKind::PUnsubscribe,
        "sunsubscribe" => PushKind::SUnsubscribe,
        _ => PushKind::Other(name),
    }
}
