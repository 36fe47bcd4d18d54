//! Regions that are made ahead: for whom, how many, and that nothing depends on them.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::region::UnmappedRegion;
use std::collections::HashSet;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use support::{
    Feature, HandMade, Offer, ServerOptions, TestServer, needs, request, server_has, wait_until,
};

/// How many there are, where nothing else bounds them.
const MOST: u64 = 8;
const THREAD: &str = "shm-pool";

fn with_settings(settings: &[&str]) -> TestServer {
    ServerOptions::default().module_args(settings).start()
}

fn region_bytes(ring_bytes: u64) -> u64 {
    4096 + 2 * ring_bytes
}

/// Whether all memory of a region is allocated when it is made, on this machine.
fn are_allocated() -> bool {
    UnmappedRegion::create(4096).unwrap().is_allocated()
}

/// Whether something has come on it.
fn has_bytes(socket: &UnixStream) -> bool {
    let mut entry = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live entry; it does not wait.
    unsafe { libc::poll(&raw mut entry, 1, 0) > 0 }
}

#[track_caller]
fn assert_becomes_ready(server: &TestServer, regions: u64, ring_bytes: u64) {
    wait_until("they are ready", || {
        server.info("shm_ready_regions") == regions
            && server.info("shm_ready_bytes") == regions * region_bytes(ring_bytes)
    });
    wait_until("no others are left", || {
        let offered = server.info("shm_offers");
        server.process().region_fds() as u64 == regions + offered
    });
}

#[test]
fn some_are_ready_and_others_follow_those_that_were_taken() {
    let server = TestServer::start();
    assert_becomes_ready(&server, MOST, 128 << 10);
    assert_eq!(server.process().region_maps(), 0);

    let mut clients: Vec<_> = (0..MOST).map(|_| server.shm()).collect();

    assert_becomes_ready(&server, MOST, 128 << 10);
    clients.iter_mut().for_each(support::Wire::assert_answers);
    assert_eq!(server.info("shm_region_bytes"), MOST * region_bytes(128 << 10));
}

#[test]
fn a_herd_is_served_and_each_gets_a_region_of_its_own() {
    let server = TestServer::start();
    let offers: Vec<Offer> = (0..64).map(|_| Offer::from(&server)).collect();

    let tokens: HashSet<String> = offers.iter().map(Offer::token).collect();
    let file = |offer: &Offer| std::fs::File::from(offer.fd.try_clone().unwrap()).metadata();
    let inodes: HashSet<u64> = offers.iter().map(|offer| file(offer).unwrap().ino()).collect();

    assert_eq!([tokens.len(), inodes.len()], [64, 64]);
    for offer in &offers {
        let least = if are_allocated() { region_bytes(128 << 10) } else { 4096 };
        assert!(offer.allocated_bytes() >= least);
    }
    for offer in offers {
        let mut client = HandMade::not_started(offer);
        client.send_start();
        assert_eq!(client.until_the_doorbell(), b"");
        assert_eq!(client.take(5), b"+OK\r\n");
        client.assert_answers();
    }
}

#[test]
fn where_pages_may_be_refused_later_all_of_them_are_allocated_at_once() {
    const LARGE: &str = "4194304";
    let Some(options) = ServerOptions::default().committing_memory() else { return };
    for (ring_bytes, ready) in [("131072", MOST), (LARGE, 0)] {
        let server = options.clone().module_args(&["ring-bytes", ring_bytes]).start();
        let region_bytes = region_bytes(ring_bytes.parse().unwrap());

        let offers: Vec<Offer> = (0..2 * MOST).map(|_| Offer::from(&server)).collect();

        for offer in offers {
            assert_eq!(offer.allocated_bytes(), region_bytes);
        }
        wait_until("as many are ready", || server.info("shm_ready_regions") == ready);
    }
}

#[test]
fn they_follow_the_settings() {
    needs!(ModuleSettings);
    let server = TestServer::start();
    assert_becomes_ready(&server, MOST, 128 << 10);

    server.ask("CONFIG SET shm.ring-bytes 8kb");
    // At once, whatever is ready.
    let client = HandMade::connect(&server);
    assert_eq!(client.ring_bytes(), 8192);
    assert_becomes_ready(&server, MOST, 8192);

    server.ask("CONFIG SET shm.max-sessions 0");
    assert_becomes_ready(&server, 0, 8192);
    server.ask("CONFIG SET shm.max-sessions 3");
    assert_becomes_ready(&server, 3, 8192);
    server.ask("CONFIG SET shm.ring-bytes 4mb");
    // Too large to be kept for nobody, if they take all their memory.
    assert_becomes_ready(&server, if are_allocated() { 0 } else { 3 }, 4 << 20);
}

#[test]
fn they_count_as_memory_and_take_no_room_from_a_connection() {
    let limit = 4 * region_bytes(4096);
    let server = with_settings(&["ring-bytes", "4096", "max-memory", &limit.to_string()]);
    let mut clients = Vec::new();
    // One can be made beside those that are ready.
    for ready in [3, 2, 1, 0] {
        assert_becomes_ready(&server, ready, 4096);
        clients.push(server.shm());
        let used = server.info("shm_region_bytes") + server.info("shm_ready_bytes");
        assert!(used <= limit, "{used} bytes");
    }
    assert!(server.plain().ask("SHM.OPEN 2").contains("shm.max-memory"));
    clients.iter_mut().for_each(support::Wire::assert_answers);
}

#[test]
fn the_last_file_descriptors_are_left_to_clients() {
    let server = TestServer::start();
    assert_becomes_ready(&server, MOST, 128 << 10);
    // Room for what follows, and for not much more.
    server.process().limit_fds(60);

    let clients: Vec<_> = (0..MOST + 1).map(|_| server.shm()).collect();
    drop(clients);
    wait_until("they are gone", || server.holds_no_shared_memory());
    assert_eq!(server.info("shm_ready_regions"), 0);

    server.process().limit_fds(1024);
    assert_becomes_ready(&server, MOST, 128 << 10);
}

#[test]
fn nothing_is_left_of_them_after_unloading() {
    let server = TestServer::start();
    server.ask("PING");
    let before = server.process().fds_beside_regions();
    for _ in 0..3 {
        assert_becomes_ready(&server, MOST, 128 << 10);
        assert!(server.process().threads().contains(&THREAD.to_owned()));
        let watched = server.process().watched_eventfds();

        assert_eq!(server.ask("MODULE UNLOAD shm"), "+OK\r\n");

        assert_eq!(server.process().region_fds(), 0);
        assert!(!server.process().threads().contains(&THREAD.to_owned()));
        let has_been_woken = server_has(Feature::EventLoopOfModules);
        assert_eq!(server.process().watched_eventfds(), watched - usize::from(has_been_woken));
        assert_eq!(server.load_module(), "+OK\r\n");
        assert_eq!(server.process().watched_eventfds(), watched);
    }
    wait_until("no more are open", || server.process().fds_beside_regions() <= before);
    server.shm().assert_answers();
}

/// A timer would end the sleep of the server's loop before long, again and again.
#[test]
fn no_timer_looks_whether_a_region_is_ready_that_a_client_waits_for() {
    needs!(EventLoopOfModules);
    const RING_BYTES: &str = "67108864";
    const LONGEST_TIMER_MS: i32 = 64;
    // To allocate them takes a while.
    let options = ServerOptions::default().module_args(&["ring-bytes", RING_BYTES]);
    let Some(options) = options.committing_memory() else { return };
    let server = options.args(&["--hz", "1"]).start();
    let sleeps_long_while_a_client_waits = || {
        let mut socket = UnixStream::connect(server.socket()).unwrap();
        socket.write_all(&request(&[b"SHM.OPEN", b"2"])).unwrap();
        let waits = || server.info("blocked_clients") == 1;
        let slept_ms = waits().then(|| server.process().sleeps_in_epoll_for()).flatten();
        let is_answered = has_bytes(&socket);
        // Then the client is gone, and with it what it was offered.
        drop(socket);
        wait_until("it is gone", || server.holds_no_shared_memory());
        !is_answered && slept_ms > Some(LONGEST_TIMER_MS)
    };
    // The server may be looked at when it happens to be awake, or about to be.
    wait_until("it sleeps until it is woken", sleeps_long_while_a_client_waits);
}
