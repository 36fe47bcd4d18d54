//! Which server it is, where that makes a difference.

use redis_module::Context;
use std::sync::OnceLock;

/// Whether it is Valkey and not Redis.
pub(crate) fn is_valkey(context: &Context) -> bool {
    static IS_VALKEY: OnceLock<bool> = OnceLock::new();
    *IS_VALKEY.get_or_init(|| context.server_info("server").field("valkey_version").is_some())
}

/// Whether io-threads are at work, as far as the server tells.
pub(crate) fn has_active_io_threads(context: &Context) -> bool {
    let active = context.server_info("server").field("io_threads_active");
    active.is_none_or(|active| active.as_slice() != b"0")
}

/// Whether to block a client stops one of the server's threads: Redis from 8.0 on takes the
/// client from its io-thread then, and waits until that one stands still, which on a busy
/// machine is a time slice. How many threads there are cannot be changed.
pub(crate) fn stops_a_thread_to_block(context: &Context) -> bool {
    static STOPS: OnceLock<bool> = OnceLock::new();
    *STOPS.get_or_init(|| {
        let version = context.server_info("server").field("redis_version");
        let major = version.and_then(|version| {
            let text = version.to_string_lossy();
            text.split('.').next()?.parse::<u32>().ok()
        });
        !is_valkey(context) && major >= Some(8) && has_active_io_threads(context)
    })
}
