//! Servers to test against: one that we play ourselves, and a real Redis.
#![allow(dead_code, reason = "each test file uses its own part of it")]

pub(crate) mod fake;
pub(crate) mod redis_server;
#[cfg(feature = "tokio")]
pub(crate) mod runtime;
pub(crate) mod watchdog;
