//! A Redis and Valkey module that moves connected clients onto shared memory.
//!
//! Loaded by `--loadmodule`, it offers the commands `SHM.OPEN` and `SHM.START`,
//! with which a client on the same machine exchanges its socket for two rings in
//! shared memory and stays the same client in every respect. Redis goes on
//! calling `read`, `write` and `epoll_wait`; the module stands in between
//! (`interpose`) and serves moved connections from their rings.
//!
//! The module calls the public module API and no Redis function besides. The
//! exported symbols are [`RedisModule_OnLoad`] and [`RedisModule_OnUnload`].
#![deny(unsafe_code)]

mod api;
mod client;
mod commands;
mod config;
mod image;
mod info;
mod interpose;
mod log;
mod offers;
mod open;
mod pool;
mod postponed;
mod refusal;
mod refused;
mod registration;
mod server;
mod start;
mod status;
mod waker;

pub use api::{RedisModule_OnLoad, RedisModule_OnUnload};
