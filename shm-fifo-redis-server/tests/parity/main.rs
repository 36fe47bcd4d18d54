//! The same commands over a unix socket and over shared memory: the replies must be the
//! same bytes.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod difference;
mod generator;
mod holes;
mod line;
mod malformed;
mod normalise;
mod random_streams;
mod scenarios;
mod shrink;
mod sides;
mod stage;
mod template;
