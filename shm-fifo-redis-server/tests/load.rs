//! Many clients, large values, and doing nothing.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use support::{Random, ServerOptions, TestServer, Wire, bulk, request, wait_until};

/// CPU ticks (of usually 10 ms) in some seconds of which a server should use
/// nothing, beyond what it uses anyway: a loop that spins uses 100 a second.
const NEARLY_NO_TICKS: u64 = 10;

/// A client's whole life: pipelines of writes and reads of its own keys, of any
/// size; each value read must be, to the byte, the one written last.
fn work(mut wire: Wire, seed: u64, pipelines: usize) {
    let mut random = Random::seeded(seed);
    for _ in 0..pipelines {
        let mut requests = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..=random.below(20) {
            let key = format!("{seed}:{}", random.below(10));
            let most = [100, 5_000, 70_000][random.below(3)];
            let length = random.below(most);
            let value = random.bytes(length);
            requests.extend_from_slice(&request(&[b"SET", key.as_bytes(), &value]));
            expected.push(b"+OK\r\n".to_vec());
            requests.extend_from_slice(&request(&[b"GET", key.as_bytes()]));
            expected.push(bulk(&value));
        }
        let replies = wire.exchange(&requests, expected.len());
        assert!(replies == expected, "the stream of client {seed} was changed on its way");
    }
}

fn work_of_many(server: &TestServer, each: u64, pipelines: usize) {
    thread::scope(|scope| {
        for number in 0..each {
            scope.spawn(move || work(server.shm(), number, pipelines));
            scope.spawn(move || work(server.plain(), each + number, pipelines));
        }
    });
}

#[test]
fn fifty_clients_in_shared_memory_and_fifty_on_sockets_get_their_own_bytes() {
    let server = TestServer::start();

    work_of_many(&server, 50, 10);

    assert_eq!(server.info("shm_total_sessions"), 50);
    assert_eq!(server.info("shm_protocol_errors"), 0);
    assert_eq!(server.info("shm_missed_doorbells"), 0);
    wait_until("nothing is left", || server.holds_no_shared_memory());
}

#[test]
fn io_threads_serve_moved_clients() {
    let server = ServerOptions::default().io_threads(3).start();

    work_of_many(&server, 20, 10);

    assert!(server.info("io_threaded_reads_processed") > 0, "the threads had something to do");
    assert_eq!(server.info("shm_protocol_errors"), 0);
    wait_until("nothing is left", || server.holds_no_shared_memory());
}

fn pass_both_ways(ring_bytes: usize) {
    let server = TestServer::with_rings_of(ring_bytes);
    let mut shm = server.shm();
    for length in [0, 1, 1 << 20, 64 << 20] {
        let value = Random::seeded(9).bytes(length);
        let set = shm.exchange(&request(&[b"SET", b"key", &value]), 1);
        assert_eq!(set, [b"+OK\r\n"]);
        let get = shm.exchange(&request(&[b"GET", b"key"]), 1);
        assert!(get == [bulk(&value)], "{length} bytes through {ring_bytes}");
    }
    assert_eq!(server.info("shm_missed_doorbells"), 0);
}

#[test]
fn values_from_nothing_to_64_mib_pass_through_rings_of_4_kib() {
    pass_both_ways(4 << 10);
}

#[test]
fn values_from_nothing_to_64_mib_pass_through_rings_of_64_kib() {
    pass_both_ways(64 << 10);
}

#[test]
fn a_flood_in_shared_memory_leaves_sockets_their_turn_and_the_other_way_round() {
    let server = TestServer::start();
    for (flooding, calm) in [(server.shm(), server.plain()), (server.plain(), server.shm())] {
        let done = AtomicBool::new(false);
        let (mut flooding, mut calm) = (flooding, calm);
        thread::scope(|scope| {
            scope.spawn(|| {
                let flood = request(&[b"PING"]).repeat(10_000);
                while !done.load(Relaxed) {
                    flooding.exchange(&flood, 10_000);
                }
            });
            for _ in 0..500 {
                calm.assert_answers();
            }
            done.store(true, Relaxed);
        });
    }
}

/// CPU ticks of a server with some idle `clients` in `window`.
fn ticks_beside(server: &TestServer, clients: &mut [Wire], window: Duration) -> u64 {
    for client in &mut *clients {
        client.assert_answers();
    }
    wait_until("they are parked", || server.info("shm_sessions_hot") == 0);
    let ticks = server.process().cpu_ticks_during(window);
    for client in clients {
        client.assert_answers();
    }
    ticks
}

#[test]
fn idle_connections_cost_the_server_no_more_than_idle_sockets() {
    const WINDOW: Duration = Duration::from_secs(3);
    const CLIENTS: usize = 10;
    // The control: Redis 8 wakes its io-threads ten times a second, clients or not.
    let (server, control) = (TestServer::start(), TestServer::start());
    let mut sockets: Vec<Wire> = (0..CLIENTS).map(|_| control.plain()).collect();
    let mut moved: Vec<Wire> = (0..CLIENTS).map(|_| server.shm()).collect();

    // Now and then the threads of one of the two are busy with each other.
    let costs_no_more = |_| {
        let without = ticks_beside(&control, &mut sockets, WINDOW);
        ticks_beside(&server, &mut moved, WINDOW) <= without + without / 2 + NEARLY_NO_TICKS
    };
    assert!((0..5).any(costs_no_more));
    assert_eq!(server.info("shm_missed_doorbells"), 0);
}
