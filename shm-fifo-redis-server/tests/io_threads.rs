//! Clients that come, go and die while the server's io-threads change hands.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use support::{Random, ServerOptions, TestServer, Wire, bulk, needs, request, wait_until};

const CLIENTS: u64 = 12;
const LIVES: usize = 25;

fn with_io_threads(count: usize) -> TestServer {
    ServerOptions::default().io_threads(count).module_args(&["ring-bytes", "16kb"]).start()
}

/// Some checked commands, and then an end of one kind or another.
fn live(server: &TestServer, random: &mut Random) {
    let mut shm = server.shm();
    for _ in 0..random.below(20) {
        // Most are short, some many times the ring.
        let most = [100, 40_000, 300_000][random.below(3)];
        let length = random.below(most);
        let value = random.bytes(length);
        let echo = request(&[b"ECHO", &value]);
        let count = 1 + random.below(3);
        let replies = shm.exchange(&echo.repeat(count), count);
        assert!(replies.iter().all(|reply| *reply == bulk(&value)), "a reply was changed");
    }
    match random.below(4) {
        0 => assert_eq!(shm.ask("QUIT"), "+OK\r\n"),
        1 => {
            let id = shm.id();
            assert_eq!(server.plain().ask(&format!("CLIENT KILL ID {id}")), ":1\r\n");
            shm.assert_ended();
        }
        // In the midst of a request, or of replies that nobody will read.
        2 => shm.send_bytes(b"*2\r\n$4\r\nECHO\r\n$100000\r\nhalf"),
        _ => shm.send_bytes(&request(&[b"ECHO", &[b'x'; 5_000]]).repeat(3)),
    }
}

/// Many lives beside clients that stay and must not notice.
fn many_lives(server: &TestServer, meanwhile: impl FnOnce(&AtomicBool) + Send) {
    let over = AtomicBool::new(false);
    let mut lasting: Vec<Wire> = (0..4).map(|_| server.shm()).collect();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|seed| {
                scope.spawn(move || {
                    let mut random = Random::seeded(seed);
                    (0..LIVES).for_each(|_| live(server, &mut random));
                })
            })
            .collect();
        let over = &over;
        scope.spawn(move || meanwhile(over));
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            lasting.iter_mut().for_each(Wire::assert_answers);
        }
        over.store(true, Relaxed);
    });
    drop(lasting);
    wait_until("nothing is left", || server.holds_no_shared_memory());
    assert_eq!(server.info("shm_protocol_errors"), 0);
    assert_eq!(server.info("shm_total_sessions"), CLIENTS * LIVES as u64 + 4);
}

#[test]
fn clients_come_go_and_are_killed_on_io_threads() {
    let mut server = with_io_threads(4);

    many_lives(&server, |_| ());

    server.assert_alive();
}

#[test]
fn the_number_of_io_threads_changes_under_moved_clients() {
    needs!(IoThreadsAtRunTime);
    let mut server = with_io_threads(2);

    many_lives(&server, |over| {
        for count in [1, 4, 2, 3].iter().cycle() {
            if over.load(Relaxed) {
                break;
            }
            assert_eq!(server.ask(&format!("CONFIG SET io-threads {count}")), "+OK\r\n");
        }
    });

    server.assert_alive();
}
