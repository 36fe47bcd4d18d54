//! What operators see: INFO, SHM.LIST and the log.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use std::sync::atomic::Ordering::SeqCst;
use support::{HandMade, Offer, ServerOptions, TestServer, Wire, needs, wait_until, words};

/// A page for the header, and the two rings.
const DEFAULT_REGION_BYTES: u64 = 4096 + 2 * (128 << 10);
const FIELDS: [&str; 36] = [
    "sessions",
    "sessions_hot",
    "offers",
    "region_bytes",
    "offered_bytes",
    "unread_bytes",
    "unread_connections",
    "ready_regions",
    "ready_bytes",
    "max_sessions",
    "max_memory_bytes",
    "ring_bytes",
    "total_sessions",
    "total_returns",
    "protocol_errors",
    "doorbells_sent",
    "doorbells_received",
    "missed_doorbells",
    "parks",
    "spins_won",
    "spins_expired",
    "spins_preempted",
    "spin_backoffs",
    "spin_us",
    "refused_switched_off",
    "refused_max_sessions",
    "refused_max_memory",
    "refused_system",
    "refused_client_list",
    "refused_remote",
    "refused_encrypted",
    "refused_state",
    "refused_unread",
    "refused_offer",
    "refused_version",
    "refused_arguments",
];

/// The entry of the client `id` in `SHM.LIST`, values by name.
fn entry(server: &TestServer, id: u64) -> Option<Entry> {
    let list = server.ask("SHM.LIST");
    // Bulk strings and integers: lines, of which those with lengths are dropped.
    let values: Vec<&str> =
        list.split("\r\n").filter(|line| !line.starts_with(['$', '*'])).collect();
    let number = |text: &str| text.trim_start_matches(':').parse::<u64>().unwrap();
    values.chunks_exact(10).find(|entry| number(entry[1]) == id).map(|entry| {
        let [
            _,
            _,
            "state",
            state,
            "bytes-in",
            bytes_in,
            "bytes-out",
            bytes_out,
            "region-bytes",
            region,
        ] = entry[..]
        else {
            panic!("unknown fields: {list}");
        };
        Entry {
            state: state.to_owned(),
            bytes: (number(bytes_in), number(bytes_out)),
            region_bytes: number(region),
        }
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    state: String,
    bytes: (u64, u64),
    region_bytes: u64,
}

#[test]
fn info_has_a_section_with_every_field() {
    let server = TestServer::start();
    let _shm = server.shm();

    let info = server.ask("INFO shm");

    assert!(info.contains("# shm\r\n"), "{info}");
    for field in FIELDS {
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("shm_{field}:")));
        assert!(line.is_some_and(|value| value.parse::<u64>().is_ok()), "{field} in {info}");
    }
    assert!(info.contains(&format!("shm_version:{}\r\n", env!("CARGO_PKG_VERSION"))), "{info}");
    assert_eq!(info.matches("shm_").count(), FIELDS.len() + 1, "{info}");
}

#[test]
fn sessions_come_and_go_in_info() {
    let server = TestServer::start();
    assert_eq!(server.info("shm_sessions"), 0);

    let connections: Vec<Wire> = (0..5).map(|_| server.shm()).collect();
    assert_eq!(server.info("shm_sessions"), 5);
    assert_eq!(server.info("shm_region_bytes"), 5 * DEFAULT_REGION_BYTES);
    drop(connections);

    wait_until("they are gone", || server.info("shm_sessions") == 0);
    assert_eq!(server.info("shm_region_bytes"), 0);
    assert_eq!(server.info("shm_total_sessions"), 5);
    assert_eq!(server.info("shm_protocol_errors"), 0);
}

#[test]
fn list_counts_every_byte() {
    const MOVED: usize = "+OK\r\n".len();
    let server = TestServer::start();
    let mut shm = server.shm();
    let id = shm.id();
    let asked = support::request(&[b"CLIENT", b"ID"]).len();
    let answered = format!(":{id}\r\n").len();

    let before = entry(&server, id).unwrap();
    assert_eq!(before.bytes, (asked as u64, (MOVED + answered) as u64));
    assert_eq!(before.region_bytes, DEFAULT_REGION_BYTES);

    let request = support::request(&[b"ECHO", &[b'x'; 1000]]);
    shm.exchange(&request, 1);

    let after = entry(&server, id).unwrap();
    assert_eq!(after.bytes.0 - before.bytes.0, request.len() as u64);
    assert_eq!(after.bytes.1 - before.bytes.1, support::bulk(&[b'x'; 1000]).len() as u64);
}

#[test]
fn list_shows_offers_and_moved_connections() {
    let server = TestServer::start();
    assert_eq!(server.ask("SHM.LIST"), "*0\r\n");
    let mut offer = Offer::from(&server);
    let id: u64 = offer.ask("CLIENT ID").trim_start_matches(':').trim_end().parse().unwrap();

    assert_eq!(entry(&server, id).unwrap().state, "offered");
    let token = offer.token();
    assert_eq!(offer.ask(&format!("SHM.START {token}")), "\0");

    // Nobody talks to it: after some turns it is not polled any more.
    wait_until("it is parked", || entry(&server, id).unwrap().state == "parked");
    drop(offer);
    wait_until("it is gone", || entry(&server, id).is_none());
}

#[test]
fn a_connection_is_hot_while_it_is_used() {
    let server = TestServer::start();
    let mut shm = server.shm();

    // Its own command is what makes it hot.
    let list = shm.ask("SHM.LIST");

    assert!(list.contains("$3\r\nhot\r\n"), "{list}");
    wait_until("it is parked", || server.info("shm_sessions_hot") == 0);
}

#[test]
fn a_silent_connection_is_parked_beside_a_busy_one() {
    let spinning = ["wait", "spin", "spin-us", "1000000"];
    let server = ServerOptions::default().module_args(&spinning).start();
    let (mut silent, mut busy) = (server.shm(), server.shm());
    silent.assert_answers();

    wait_until("it is parked", || busy.ask("SHM.LIST").contains("$6\r\nparked\r\n"));

    silent.assert_answers();
    busy.assert_answers();
}

#[test]
fn a_client_that_breaks_the_protocol_is_counted_and_logged() {
    let server = TestServer::start();
    let mut hostile = HandMade::connect(&server);

    hostile.word(words::REQUESTS + words::TAIL).store(1 << 60, SeqCst);
    hostile.ring();

    hostile.assert_ended();
    assert_eq!(server.info("shm_protocol_errors"), 1);
    wait_until("it is logged", || {
        server.log().contains(
            "1 connections were ended because their clients broke the shared memory protocol (1 \
         since the start)",
        )
    });
}

#[test]
fn doorbells_and_parks_are_counted() {
    let server = TestServer::start();
    let mut shm = server.shm();

    for _ in 0..3 {
        // Asleep: from here on a request must ring.
        wait_until("it is parked", || server.info("shm_sessions_hot") == 0);
        let before = server.info("shm_doorbells_received");
        shm.assert_answers();
        assert!(server.info("shm_doorbells_received") > before);
    }

    assert!(server.info("shm_doorbells_sent") > 0, "START's own");
    assert!(server.info("shm_parks") > 0);
    assert_eq!(server.info("shm_missed_doorbells"), 0);
}

#[test]
fn the_server_knows_what_the_commands_are_for() {
    needs!(CommandDocs);
    let server = TestServer::start();
    for (command, summary) in [
        ("SHM.OPEN", "Offers this connection"),
        ("SHM.START", "Moves this connection"),
        ("SHM.LIST", "Lists the connections"),
    ] {
        let docs = server.ask(&format!("COMMAND DOCS {command}"));
        assert!(docs.contains(summary), "{docs}");
    }
}

#[test]
fn list_is_a_slow_command_for_administrators_and_moving_is_a_fast_one() {
    let server = TestServer::start();
    let info = |command: &str| server.ask(&format!("COMMAND INFO {command}"));

    assert!(info("SHM.LIST").contains("+admin\r\n"));
    assert!(!info("SHM.LIST").contains("+fast\r\n"));
    for command in ["SHM.OPEN", "SHM.START"] {
        assert!(info(command).contains("+fast\r\n"));
        assert!(!info(command).contains("+admin\r\n"));
    }
}
