//! Virtual file descriptors behave as sockets do under epoll.
#![cfg(feature = "virtual-fd")]
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod doorbells;
mod lives;
mod program;
mod registering;
mod waiting;
