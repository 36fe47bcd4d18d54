//! `redis-shm`, and servers for it: those that the client's tests play, and a real Redis.
#![allow(dead_code, reason = "each test file uses its own part of it")]

pub(crate) mod cli;
#[path = "../../../tests/support/fake.rs"]
pub(crate) mod fake;
pub(crate) mod latency;
pub(crate) mod module;
pub(crate) mod pictures;
pub(crate) mod python;
#[path = "../../../tests/support/redis_server.rs"]
pub(crate) mod redis_server;
pub(crate) mod terminal;
#[path = "../../../tests/support/watchdog.rs"]
pub(crate) mod watchdog;
