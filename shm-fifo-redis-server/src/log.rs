//! Lines in the server's log.
//!
//! Not [`Context::log`]: there the text is a format of printf(3), and one with a zero byte
//! panics. Texts here quote what somebody has typed.
#![allow(unsafe_code)]

use redis_module::{Context, raw};
use std::ffi::{CStr, CString};

/// What whoever looks for a fault of a client likes to know; not logged by default.
pub(crate) fn verbose(context: &Context, text: &str) {
    log(context, c"verbose", text);
}

/// What an operator likes to know.
pub(crate) fn notice(context: &Context, text: &str) {
    log(context, c"notice", text);
}

/// What an operator should know.
pub(crate) fn warning(context: &Context, text: &str) {
    log(context, c"warning", text);
}

fn log(context: &Context, level: &CStr, text: &str) {
    // SAFETY: set by the server before it runs the module's own code.
    let Some(log) = (unsafe { raw::RedisModule_Log }) else { return };
    // One line, whatever is quoted in it. So it has no zero byte either.
    let line = CString::new(text.replace(char::is_control, "?")).unwrap_or_default();
    // SAFETY: a live context, and C strings, as the format asks for.
    unsafe { log(context.ctx, level.as_ptr(), c"%s".as_ptr(), line.as_ptr()) };
}
