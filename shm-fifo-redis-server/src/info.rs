//! The INFO section `shm`, and the log lines that follow from its counters.

use crate::{config, log, offers, pool, refused};
use redis_module::{Context, InfoContext, raw};
use shm_fifo::vfd;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Adds the section; field names carry their units.
pub(crate) fn add_section(context: &InfoContext) {
    offers::drop_old();
    let offered = offers::pending();
    let usage = vfd::usage();
    let stats = vfd::stats();
    let limits = config::limits();
    let hot = vfd::sessions().iter().filter(|session| session.hot).count();
    let fields = [
        ("sessions", usage.sessions as u64),
        ("sessions_hot", hot as u64),
        ("offers", offered.offers as u64),
        ("region_bytes", usage.region_bytes as u64),
        ("offered_bytes", offered.bytes as u64),
        ("unread_bytes", usage.unread_bytes as u64),
        ("unread_connections", usage.unread_connections as u64),
        ("ready_regions", pool::regions() as u64),
        ("ready_bytes", pool::bytes() as u64),
        ("max_sessions", limits.max_sessions),
        ("max_memory_bytes", limits.max_memory_bytes),
        ("ring_bytes", config::ring_bytes() as u64),
        ("total_sessions", stats.sessions_started),
        ("total_returns", stats.sessions_returned),
        ("protocol_errors", stats.protocol_violations),
        ("doorbells_sent", stats.doorbells_sent),
        ("doorbells_received", stats.doorbells_received),
        ("missed_doorbells", stats.missed_doorbells),
        ("parks", stats.parks),
        ("spins_won", stats.spins_won),
        ("spins_expired", stats.spins_expired),
        ("spins_preempted", stats.spins_preempted),
        ("spin_backoffs", stats.spin_backoffs),
        ("spin_us", stats.spin_ns / 1000),
    ];
    begin_section(context);
    add_version(context);
    for (name, value) in fields {
        add_field(context, name, value);
    }
    for (name, value) in refused::fields() {
        add_field(context, &name, value);
    }
}

/// Logs once a tick that peers broke the protocol, if any did since.
pub(crate) fn log_violations(context: &Context) {
    static LOGGED: AtomicU64 = AtomicU64::new(0);
    let violations = vfd::stats().protocol_violations;
    let news = violations - LOGGED.swap(violations, Relaxed);
    if news > 0 {
        let text = format!(
            "{news} connections were ended because their clients broke the shared memory \
             protocol ({violations} since the start)"
        );
        log::warning(context, &text);
    }
}

#[allow(unsafe_code)]
fn begin_section(context: &InfoContext) {
    // SAFETY: the context is live; no name makes the section's that of the module.
    unsafe { raw::RedisModule_InfoAddSection.map(|add| add(context.ctx, std::ptr::null())) };
}

/// Which build it is; MODULE LIST has only a whole number for that.
#[allow(unsafe_code)]
fn add_version(context: &InfoContext) {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    // SAFETY: the context is live, and the server copies both C strings.
    unsafe {
        raw::RedisModule_InfoAddFieldCString
            .map(|add| add(context.ctx, c"version".as_ptr(), VERSION.as_ptr()))
    };
}

#[allow(unsafe_code)]
fn add_field(context: &InfoContext, name: &str, value: u64) {
    let Ok(name) = CString::new(name) else { return };
    // SAFETY: the context is live, the name a C string that the server copies.
    unsafe {
        raw::RedisModule_InfoAddFieldULongLong.map(|add| add(context.ctx, name.as_ptr(), value))
    };
}
