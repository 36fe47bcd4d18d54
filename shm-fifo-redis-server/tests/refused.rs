//! What operators see of connections that did not move: counters, limits, lines of the log.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use std::collections::BTreeMap;
use support::{Offer, ServerOptions, TestServer, needs, wait_until};

/// Begins each of the lines in question, behind a number.
const LINE: &str = "requests to move to shared memory were refused";

/// The counters that are not 0.
fn refused(server: &TestServer) -> BTreeMap<String, u64> {
    let info = server.ask("INFO shm");
    let fields = info.lines().filter_map(|line| line.strip_prefix("shm_refused_")?.split_once(':'));
    let counters = fields.map(|(reason, count)| (reason.to_owned(), count.parse().unwrap()));
    counters.filter(|&(_, count)| count > 0).collect()
}

fn lines(server: &TestServer) -> Vec<String> {
    server.log().lines().filter(|line| line.contains(LINE)).map(str::to_owned).collect()
}

#[test]
fn each_reason_has_its_counter() {
    let server = TestServer::start();
    assert_eq!(refused(&server), BTreeMap::new());
    let token = "00112233445566778899aabbccddeeff";
    let start = format!("SHM.START {token}");
    let commands: [(&str, &str); 7] = [
        ("SHM.OPEN", "arguments"),
        ("SHM.OPEN 2 FDSOCKET 0001f", "arguments"),
        ("SHM.OPEN 1", "version"),
        ("SHM.OPEN 3", "version"),
        ("SHM.START 0", "arguments"),
        (&start, "offer"),
        ("SHM.LIST all", ""),
    ];
    let mut expected = BTreeMap::new();
    let mut plain = server.plain();
    for (command, reason) in commands {
        assert!(plain.ask(command).starts_with("-ERR "), "{command}");
        if !reason.is_empty() {
            *expected.entry(reason.to_owned()).or_insert(0) += 1;
        }
        assert_eq!(refused(&server), expected, "{command}");
    }
    assert!(server.shm().ask("SHM.OPEN 2").contains("on shared memory already"));
    assert_eq!(refused(&server)["state"], 1);
    assert_eq!(server.info("shm_total_sessions"), 1);
}

#[test]
fn a_limit_that_is_reached_is_counted_and_logged_once_for_all() {
    needs!(ModuleSettings);
    let server = ServerOptions::default().module_args(&["max-sessions", "3"]).start();
    let _moved: Vec<_> = (0..2).map(|_| server.shm()).collect();
    let _offered = Offer::from(&server);

    let mut plain = server.plain();
    assert!(plain.ask("SHM.OPEN 2").contains("shm.max-sessions"));
    wait_until("it is logged", || !lines(&server).is_empty());
    for _ in 0..121 {
        assert!(plain.ask("SHM.OPEN 2").contains("shm.max-sessions"));
    }

    assert_eq!(refused(&server), BTreeMap::from([("max_sessions".to_owned(), 122)]));
    // Another reason does not wait. When it is logged the others have had their turn.
    server.ask("CONFIG SET shm.max-sessions 0");
    plain.ask("SHM.OPEN 2");
    wait_until("it is logged", || server.log().contains("(shm_refused_switched_off, 1 since"));
    server.ask("PING");
    let lines = lines(&server);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("# <shm> 1 requests"), "a warning: {lines:#?}");
    let rest = "(shm_refused_max_sessions, 1 since the start); the last client was told: 3 \
                connections are on shared memory already (shm.max-sessions); stay on the socket";
    assert!(lines[0].ends_with(rest), "{lines:#?}");
}

#[test]
fn what_a_client_does_wrong_is_logged_for_whoever_looks_for_it_without_its_bytes() {
    let server = ServerOptions::default().args(&["--loglevel", "verbose"]).start();
    let evil: &[u8] = b"2\n# <shm> all is well %n";

    assert!(server.ask_words(&[b"SHM.OPEN", evil]).contains("unknown protocol version"));

    wait_until("it is logged", || !lines(&server).is_empty());
    let lines = lines(&server);
    assert!(lines[0].contains("- <shm> 1 requests"), "verbose: {lines:#?}");
    assert!(!server.log().contains("all is well"));
}

#[test]
fn one_who_waited_in_vain_is_counted_as_well() {
    // Rings so large that no region is made ahead.
    let server = ServerOptions::default().module_args(&["ring-bytes", "4194304"]).start();
    // No file may be larger than 64 KiB from now on.
    server.process().limit_file_bytes(65_536);

    assert!(server.plain().ask("SHM.OPEN 2").contains("cannot make the shared memory"));

    assert_eq!(refused(&server), BTreeMap::from([("system".to_owned(), 1)]));
    wait_until("it is logged", || !lines(&server).is_empty());
    assert!(lines(&server)[0].contains("# <shm> 1 requests"));
}

#[test]
fn the_limits_in_force_are_told() {
    needs!(ModuleSettings);
    let server = ServerOptions::default().module_args(&["max-sessions", "78"]).start();
    let limits = || {
        ["shm_max_sessions", "shm_max_memory_bytes", "shm_ring_bytes"].map(|name| server.info(name))
    };
    assert_eq!(limits(), [78, 3 << 30, 128 << 10]);

    server.ask("CONFIG SET shm.max-sessions 0 shm.max-memory 100mb shm.ring-bytes 16kb");

    assert_eq!(limits(), [0, 100 << 20, 16 << 10]);
    assert!(server.plain().ask("SHM.OPEN 2").contains("switched off"));
    assert_eq!(refused(&server), BTreeMap::from([("switched_off".to_owned(), 1)]));
    wait_until("it is logged", || !lines(&server).is_empty());
    assert!(lines(&server)[0].contains("* <shm> 1 requests"), "a notice");
}
