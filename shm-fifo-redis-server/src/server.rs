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
