//! What the end-to-end tests share: a server of their own, ways to talk to it,
//! and what the system says about its process.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unused_imports, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod busy;
mod cluster;
mod hand_made;
mod process;
mod server;
mod version;
#[path = "../../../shm-fifo/tests/support/watchdog.rs"]
mod watchdog;
mod wire;

pub(crate) use busy::{BUSY_CLIENTS, Busy, OwnKey, beside_busy, beside_busy_clients_of};
pub(crate) use cluster::{Cluster, id_of};
pub(crate) use hand_made::{HandMade, Offer, words};
pub(crate) use process::{OtherProcess, Process, thread_cpu};
pub(crate) use server::{ServerOptions, TestServer, find_program, has_io_threads, module_path};
pub(crate) use shm_fifo::testing::Random;
pub(crate) use version::{Feature, ServerVersion, needs, server_has};
pub(crate) use wire::{Wire, bulk, request};

use std::time::{Duration, Instant};

/// After so long, what a test waits for is not going to happen. No assertion: a
/// loaded machine may be slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How often a test looks whether what it waits for has happened.
const POLL_PERIOD: Duration = Duration::from_millis(2);

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, condition), "waited in vain until {what}");
}

/// Whether `condition` holds within `time`.
pub(crate) fn holds_within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(POLL_PERIOD);
    }
}
