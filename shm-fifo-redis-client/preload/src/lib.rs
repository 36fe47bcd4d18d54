//! Any program's connections to one Redis, moved to shared memory without its
//! knowledge: a library for `LD_PRELOAD`, set up by `redis-shm exec`.
//!
//! It stands between the program and the C library. A connection to the endpoint
//! that `settings` name is tracked (`track`): the bytes are counted into requests
//! and replies. Once it has proved long-lived, and while no reply is outstanding,
//! it is moved (`mover`). From then on the same file descriptor works on the rings;
//! the program's own calls wait, poll and select as they did.
//!
//! Whatever is not understood leaves the connection on its socket, untouched. A
//! file descriptor that is none of ours costs one or two loads.
#![deny(unsafe_code)]
// The tests' own program must not call these hooks, so it has none.
#![cfg_attr(test, allow(dead_code, unused_imports, reason = "the hooks use it"))]

mod alloc;
mod c_library;
mod connection;
mod epoll;
mod errno;
mod habits;
mod hidden;
#[cfg(not(test))]
mod hooks;
mod init;
mod left_alone;
#[cfg(not(test))]
mod linkage;
mod mover;
mod poll;
mod real;
mod refusals;
mod report;
mod settings;
mod signals;
mod sleepers;
mod sleeps;
mod spans;
mod sys;
mod table;
mod thread;
mod track;
mod trial;
