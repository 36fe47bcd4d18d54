//! The preload library attacked: random calls of the C library on connections that move to
//! shared memory, and what a socket must answer (`driver/`). A server of the harness's own
//! moves them in every way that a server may (`server/`). The same calls are made without
//! the library first: the judge must acquit a socket.
//!
//! `docs/testing.md` says how to run millions of steps, and how to replay one run.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "../support/mod.rs"]
mod support;

mod campaign;
mod driver;
mod journal;
mod run;
mod server;
mod shrink;

#[test]
#[ignore = "many minutes, if it is to say something: make attack"]
fn random_calls_see_a_socket() {
    campaign::run();
}
