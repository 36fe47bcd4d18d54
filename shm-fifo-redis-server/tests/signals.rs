//! Signals of the server while clients move.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;
use support::{Offer, PATIENCE, ServerOptions, TestServer, holds_within};

const ROUNDS: u64 = 25;

/// A server that writes its log to a file, which its signal handlers open.
fn with_a_log() -> TestServer {
    ServerOptions::default().args(&["--logfile", "server.log"]).start()
}

/// Asks for offers, one after the other, until the server is gone.
fn ask_for_offers(server: &TestServer, is_over: &AtomicBool) {
    let mut offer = Offer::from(server);
    while !is_over.load(Relaxed) {
        match Offer::try_on(offer.socket) {
            Ok(next) => offer = next,
            Err(_) => return,
        }
    }
}

#[test]
fn a_server_that_is_told_to_end_while_it_makes_offers_ends() {
    for round in 0..ROUNDS {
        let mut server = with_a_log();
        let waiting = Offer::from(&server);
        let process = server.process();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| ask_for_offers(&server, &is_over));
            // At any moment of what it does for an offer.
            thread::sleep(Duration::from_micros(20_000 + round * 97));
            process.terminate();
            let has_ended = holds_within(PATIENCE, || !process.is_running());
            is_over.store(true, Relaxed);
            assert!(has_ended, "it hangs, in round {round}");
        });
        assert!(server.exit_status().success(), "round {round}");
        drop(waiting);
    }
}
