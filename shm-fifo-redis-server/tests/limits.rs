//! Settings, limits, loading and unloading.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use support::{HandMade, ServerOptions, TestServer, needs, wait_until};

/// The first page of a region.
const PAGE: u64 = 4096;
/// Rings so large that no region is made ahead.
const LARGE: &str = "4194304";

const SWITCHED_OFF: &str =
    "-ERR SHM.OPEN: shared memory is switched off (shm.max-sessions is 0); stay on the socket\r\n";

fn with_settings(settings: &[&str]) -> TestServer {
    ServerOptions::default().module_args(settings).start()
}

fn region_bytes(ring_bytes: u64) -> u64 {
    4096 + 2 * ring_bytes
}

#[test]
fn max_sessions_0_switches_it_off_at_run_time() {
    needs!(ModuleSettings);
    let server = TestServer::start();
    let mut before = server.shm();
    let mut plain = server.plain();

    assert_eq!(server.ask("CONFIG SET shm.max-sessions 0"), "+OK\r\n");

    assert_eq!(plain.ask("SHM.OPEN 2"), SWITCHED_OFF);
    plain.assert_answers();
    before.assert_answers();
    assert_eq!(server.ask("CONFIG SET shm.max-sessions 10"), "+OK\r\n");
    plain.into_shm().assert_answers();
}

#[test]
fn max_sessions_counts_connections_and_offers() {
    let server = with_settings(&["max-sessions", "3"]);
    let (one, _two) = (server.shm(), server.shm());
    let _offer = support::Offer::from(&server);
    let mut plain = server.plain();

    assert_eq!(
        plain.ask("SHM.OPEN 2"),
        "-ERR SHM.OPEN: 3 connections are on shared memory already (shm.max-sessions); stay on \
         the socket\r\n"
    );
    plain.assert_answers();

    drop(one);
    wait_until("one is gone", || server.info("shm_sessions") == 1);
    plain.into_shm().assert_answers();
}

#[test]
fn max_memory_bounds_all_regions_together() {
    needs!(ModuleSettings);
    let server = with_settings(&["ring-bytes", "4096", "max-memory", "30000"]);
    let (_one, _two) = (server.shm(), server.shm());
    let mut plain = server.plain();

    let refused = plain.ask("SHM.OPEN 2");

    assert_eq!(
        refused,
        "-ERR SHM.OPEN: the rings would exceed 30000 bytes in all (shm.max-memory); stay on the \
         socket\r\n"
    );
    plain.assert_answers();
    // The header page of each counts as well.
    assert_eq!(server.info("shm_region_bytes"), 2 * region_bytes(4096));
    server.ask("CONFIG SET shm.max-memory 0");
    plain.into_shm().assert_answers();
}

#[test]
fn max_memory_is_never_exceeded() {
    needs!(ModuleSettings);
    let server = with_settings(&["ring-bytes", "4096"]);
    let limit = 3 * region_bytes(4096);
    server.ask(&format!("CONFIG SET shm.max-memory {}", limit - 1));

    let (_one, _two) = (server.shm(), server.shm());
    let mut third = server.plain();

    assert!(third.ask("SHM.OPEN 2").contains("shm.max-memory"));
    assert!(server.info("shm_region_bytes") < limit);
    server.ask(&format!("CONFIG SET shm.max-memory {limit}"));
    let _third = third.into_shm();
    assert_eq!(server.info("shm_region_bytes"), limit);
}

#[test]
fn offers_count_as_memory_but_the_one_that_is_replaced_does_not() {
    needs!(ModuleSettings);
    let server = with_settings(&["ring-bytes", "4096"]);
    server.ask(&format!("CONFIG SET shm.max-memory {}", 2 * region_bytes(4096)));
    let _one = server.shm();
    let offer = support::Offer::from(&server);

    assert!(server.plain().ask("SHM.OPEN 2").contains("shm.max-memory"));

    let mut again = support::Offer::on(offer.socket);
    let token = again.token();
    assert_eq!(again.ask(&format!("SHM.START {token}")), "\0");
}

#[test]
fn the_memory_of_dropped_offers_is_given_back_though_their_client_keeps_it() {
    let server = TestServer::start();
    let offer = support::Offer::from(&server);
    assert!(offer.allocated_bytes() >= server.info("shm_region_bytes"));
    let first = support::Offer { socket: offer.socket.try_clone().unwrap(), fd: offer.fd };

    let second = support::Offer::on(offer.socket);
    assert_eq!(server.info("shm_offers"), 1);
    assert_eq!(server.info("shm_offered_bytes"), region_bytes(128 << 10));
    assert_eq!(first.allocated_bytes(), 0);

    second.socket.shutdown(std::net::Shutdown::Both).unwrap();

    wait_until("it is withdrawn", || server.info("shm_offers") == 0);
    assert_eq!(second.allocated_bytes(), 0);
}

#[test]
fn no_more_than_unread_replies_is_left_to_a_client_that_keeps_its_region() {
    let server = TestServer::start();
    server.ask(&format!("SET large {}", "x".repeat(1 << 20)));
    for (unread, left) in [(false, PAGE), (true, PAGE + 128 * 1024)] {
        let mut client = HandMade::connect(&server);
        client.assert_answers();
        if unread {
            client.send("GET large");
            client.wait_until_full();
        }
        server.ask("CLIENT KILL TYPE normal");
        client.assert_ended();
        wait_until("the rest is given back", || client.allocated_bytes() <= left);
        assert_eq!(server.info("shm_unread_bytes"), left - PAGE);
        // As if its process had ended.
        drop(client);
        wait_until("it is given back", || server.info("shm_unread_bytes") == 0);
    }
}

#[test]
fn a_silent_connection_keeps_no_memory_of_replies_that_were_read() {
    const REPLY_BYTES: usize = 100_000;
    let server = TestServer::start();
    let value = "x".repeat(REPLY_BYTES);
    server.ask(&format!("SET large {value}"));
    let header = format!("${REPLY_BYTES}\r\n");
    let mut client = HandMade::connect(&server);
    for _ in 0..2 {
        client.send("GET large");
        let reply = client.take(header.len() + REPLY_BYTES + 2);
        assert!(reply == format!("{header}{value}\r\n").as_bytes());

        if !shm_fifo::region::UnmappedRegion::create(4096).unwrap().is_allocated() {
            // The header, and what it has written itself.
            wait_until("it is given back", || client.allocated_bytes() <= 2 * PAGE);
        }
        client.assert_answers();
    }
}

#[test]
fn a_few_unread_bytes_keep_no_more_than_their_page_and_count() {
    let limit = 3 * region_bytes(4096);
    let server = with_settings(&["ring-bytes", "4096", "max-memory", &limit.to_string()]);
    let mut clients: Vec<_> = (0..3).map(|_| HandMade::connect(&server)).collect();
    for client in &mut clients {
        client.send("QUIT");
        client.assert_ended();
    }
    for client in &clients {
        wait_until("the rest is given back", || client.allocated_bytes() == 2 * PAGE);
    }
    assert_eq!(server.info("shm_region_bytes"), 0);
    assert_eq!(server.info("shm_unread_bytes"), 3 * PAGE);
    let _others = [server.shm(), server.shm()];
    assert!(server.plain().ask("SHM.OPEN 2").contains("shm.max-memory"));

    // Read at last, they are as they were.
    for client in &mut clients {
        assert_eq!(client.take(5), b"+OK\r\n");
    }
    wait_until("they are given back", || server.info("shm_unread_bytes") == 0);
    server.shm().assert_answers();
}

#[test]
fn ended_connections_that_are_unread_count_as_connections() {
    let server = with_settings(&["max-sessions", "2"]);
    let mut client = HandMade::connect(&server);
    client.send("QUIT");
    client.assert_ended();
    wait_until("it has ended", || server.info("shm_sessions") == 0);
    assert_eq!(server.info("shm_unread_connections"), 1);
    let _other = server.shm();

    assert!(server.plain().ask("SHM.OPEN 2").contains("shm.max-sessions"));

    assert_eq!(client.take(5), b"+OK\r\n");
    wait_until("it is given back", || server.info("shm_unread_connections") == 0);
    server.shm().assert_answers();
}

#[test]
fn ring_bytes_is_for_new_connections() {
    needs!(ModuleSettings);
    let server = with_settings(&["ring-bytes", "4kb"]);
    let mut small = server.shm();
    assert_eq!(server.info("shm_region_bytes"), region_bytes(4096));

    assert_eq!(server.ask("CONFIG SET shm.ring-bytes 1mb"), "+OK\r\n");

    let mut large = server.shm();
    assert_eq!(server.info("shm_region_bytes"), region_bytes(4096) + region_bytes(1 << 20));
    small.assert_answers();
    large.assert_answers();
}

#[test]
fn rings_too_large_for_the_machine_are_refused() {
    let server = with_settings(&["ring-bytes", LARGE]);
    let mut plain = server.plain();
    // No file may be larger than 64 KiB from now on.
    server.process().limit_file_bytes(65_536);

    let refused = plain.ask("SHM.OPEN 2");

    assert!(refused.starts_with("-ERR SHM.OPEN: cannot make the shared memory: "), "{refused}");
    assert!(refused.contains("ulimit -f") && refused.ends_with("; stay on the socket\r\n"));
    plain.assert_answers();
    assert!(server.holds_no_shared_memory());
}

#[test]
fn without_file_descriptors_a_client_stays_on_its_socket() {
    // None is ready where another one would not fit beside it.
    let server = with_settings(&["ring-bytes", "4096", "max-memory", "12288"]);
    server.shm().assert_answers();
    server.fds_at_rest(0);
    let mut connections = Vec::new();
    let mut plain = server.plain();
    plain.assert_answers();
    // No number below the highest may be free.
    while server.process().fds() <= server.process().highest_fd() {
        connections.push(server.plain());
        plain.assert_answers();
    }
    let fds = server.process().fds();
    server.process().limit_fds(fds);

    let refused = plain.ask("SHM.OPEN 2");

    assert!(refused.starts_with("-ERR SHM.OPEN: cannot make the shared memory: "), "{refused}");
    plain.assert_answers();
    assert_eq!(server.process().fds(), fds);
    server.process().limit_fds(fds + 1);
    plain.into_shm().assert_answers();
}

#[test]
fn config_set_refuses_bad_values_and_says_why() {
    needs!(ModuleSettings);
    let server = TestServer::start();
    let table = [
        ("ring-bytes", "5000", "must be a power of two"),
        ("ring-bytes", "0", "between 4096 and 1073741824"),
        ("ring-bytes", "2gb", "between 4096 and 1073741824"),
        ("ring-bytes", "large", "memory value"),
        ("ring-bytes", "-4096", "memory value"),
        ("max-sessions", "-1", "between 0 and"),
        ("max-sessions", "many", "integer"),
        ("max-memory", "-1", ""),
        ("spin-us", "1000001", "between 0 and 1000000"),
        ("spin-us", "NaN", "integer"),
        ("wait", "sleep", "adaptive"),
        ("colour", "blue", "Unknown option"),
    ];
    for (name, value, reason) in table {
        let get = format!("CONFIG GET shm.{name}");
        let before = server.ask(&get);
        let reply = server.ask(&format!("CONFIG SET shm.{name} {value}"));
        assert!(reply.starts_with("-ERR") && reply.contains(reason), "{name} {value}: {reply}");
        assert_eq!(server.ask(&get), before);
    }
    server.shm().assert_answers();
}

#[test]
fn config_get_shows_what_is_in_force() {
    needs!(ModuleSettings);
    let server = with_settings(&["spin-us", "7", "wait", "park"]);

    let table = [
        ("ring-bytes", "131072"),
        ("spin-us", "7"),
        ("max-sessions", "10000"),
        ("max-memory", "3221225472"),
        ("wait", "park"),
    ];
    for (name, value) in table {
        let reply = server.ask(&format!("CONFIG GET shm.{name}"));
        assert!(reply.ends_with(&format!("\r\n{value}\r\n")), "{name}: {reply}");
    }
}

#[test]
fn every_way_to_wait_works_and_can_be_changed_at_run_time() {
    needs!(ModuleSettings);
    let server = TestServer::start();
    let mut before = server.shm();
    for mode in ["park", "spin", "adaptive"] {
        assert_eq!(server.ask(&format!("CONFIG SET shm.wait {mode}")), "+OK\r\n");
        let mut after = server.shm();
        for _ in 0..200 {
            before.assert_answers();
            after.assert_answers();
        }
    }
}

#[test]
fn arguments_of_loadmodule_are_settings() {
    let server = with_settings(&["ring-bytes", "8kb", "shm.max-sessions", "1"]);
    let _one = server.shm();

    assert_eq!(server.info("shm_region_bytes"), region_bytes(8192));
    assert!(server.plain().ask("SHM.OPEN 2").contains("1 connections"));
}

#[test]
fn bad_arguments_stop_the_server_with_a_line_that_says_why() {
    let table: [(&[&str], &str); 8] = [
        (&["ring-bytes"], "the argument \"ring-bytes\" has no value"),
        (&["ring-bytes", "5000"], "shm.ring-bytes must be a power of two"),
        (&["ring-bytes", "16"], "shm.ring-bytes must be between 4096 and 1073741824"),
        (&["ring-bytes", "64x"], "ring-bytes takes a number, not \"64x\""),
        (&["max-sessions", "64kb"], "max-sessions takes a number, not \"64kb\""),
        (&["max-sessions", "-1"], "shm.max-sessions must be between 0 and"),
        (&["wait", "sleep"], "wait is adaptive, park or spin, not \"sleep\""),
        (&["colour", "blue"], "there is no setting \"colour\""),
    ];
    for (args, reason) in table {
        let log = ServerOptions::default().module_args(args).start_in_vain();
        assert!(log.contains(&format!("<shm> not loaded: {reason}")), "{args:?}: {log}");
    }
}

#[test]
fn redis_conf_loads_the_module_with_its_settings() {
    needs!(ModuleSettings);
    let server = ServerOptions::default()
        .config("loadmodule MODULE spin-us 9\nshm.ring-bytes 16kb\nshm.wait park\n")
        .start();
    let _shm = server.shm();

    assert_eq!(server.info("shm_region_bytes"), region_bytes(16_384));
    assert!(server.ask("CONFIG GET shm.spin-us").ends_with("\r\n9\r\n"));
    assert!(server.ask("CONFIG GET shm.wait").ends_with("\r\npark\r\n"));
}

#[test]
fn a_bad_line_in_redis_conf_stops_the_server() {
    needs!(ModuleSettings);
    let table = [
        ("shm.ring-bytes 5000", "must be a power of two"),
        ("shm.wait sleep", "adaptive"),
        ("shm.colour blue", "Module Configuration detected"),
    ];
    for (line, reason) in table {
        let log = ServerOptions::default()
            .config(&format!("loadmodule MODULE\n{line}\n"))
            .start_in_vain();
        assert!(log.contains(reason), "{line}: {log}");
    }
}

#[test]
fn config_rewrite_keeps_the_settings() {
    needs!(ModuleSettings);
    let server = ServerOptions::default().config("loadmodule MODULE\n").start();
    server.ask("CONFIG SET shm.ring-bytes 262144 shm.wait park");

    assert_eq!(server.ask("CONFIG REWRITE"), "+OK\r\n");

    let text = std::fs::read_to_string(server.file("redis.conf")).unwrap();
    assert!(text.contains("shm.ring-bytes 256kb") && text.contains("shm.wait park"), "{text}");
}

#[test]
fn connections_made_before_the_module_was_loaded_can_move() {
    let server = ServerOptions::default().without_module().start();
    let (mut unix, mut tcp, mut bystander) = (server.plain(), server.tcp(), server.plain());
    for wire in [&mut unix, &mut tcp, &mut bystander] {
        wire.assert_answers();
    }

    assert_eq!(server.load_module(), "+OK\r\n");

    for wire in [unix, tcp] {
        let mut shm = wire.into_shm();
        // Its doorbell is heard, though nobody told where its socket is watched.
        wait_until("it is parked", || server.info("shm_sessions_hot") == 0);
        let before = server.info("shm_doorbells_received");
        assert_eq!(shm.ask("BLPOP queue 0.01"), "*-1\r\n");
        assert!(server.info("shm_doorbells_received") > before);
    }
    bystander.assert_answers();
}

#[test]
fn it_is_unloaded_when_nobody_uses_it_and_loaded_again() {
    let server = TestServer::start();
    let mut bystander = server.plain();
    for _ in 0..3 {
        let mut shm = server.shm();
        let refused = server.ask("MODULE UNLOAD shm");
        assert!(refused.starts_with("-ERR Error unloading module"), "{refused}");
        assert!(server.log().contains("<shm> not unloaded: 1 connections are on shared memory"));
        shm.assert_answers();
        drop(shm);
        wait_until("it is gone", || server.info("shm_sessions") == 0);

        let offer = support::Offer::from(&server);
        assert!(server.ask("MODULE UNLOAD shm").starts_with("-ERR"));
        drop(offer);
        wait_until("it is gone", || server.info("shm_offers") == 0);

        assert_eq!(server.ask("MODULE UNLOAD shm"), "+OK\r\n");
        assert!(server.plain().ask("SHM.OPEN 2").starts_with("-ERR unknown command"));
        bystander.assert_answers();
        assert_eq!(server.load_module(), "+OK\r\n");
    }
    server.shm().assert_answers();
}

#[test]
fn it_is_not_unloaded_while_the_server_has_pointers_to_its_commands() {
    let mut server = TestServer::start();
    let mut client = server.plain();
    let holds: [&[&str]; 3] = [&["SHM.OPEN 3"], &["SHM.START x"], &["MULTI", "SHM.OPEN 2", "PING"]];
    for commands in holds {
        commands.iter().for_each(|command| drop(client.ask(command)));

        let refused = server.ask("MODULE UNLOAD shm");

        assert!(refused.starts_with("-ERR Error unloading module"), "{commands:?}: {refused}");
        let log = server.log();
        let reason = log.lines().rfind(|line| line.contains("<shm> not unloaded")).unwrap();
        assert!(reason.contains("would use its commands afterwards"), "{reason}");
    }
    client.ask("DISCARD");

    assert_eq!(server.ask("MODULE UNLOAD shm"), "+OK\r\n");

    // Who asks next, and what is known of the last command of each, is no matter.
    client.assert_answers();
    assert!(client.ask("SHM.OPEN 2").starts_with("-ERR unknown command"));
    assert!(server.ask("CLIENT LIST").contains(" cmd="));
    server.assert_alive();
}

#[test]
fn it_is_loaded_once() {
    let server = TestServer::start();
    let mut shm = server.shm();

    assert!(server.load_module().starts_with("-ERR Error loading the extension"));

    shm.assert_answers();
    server.shm().assert_answers();
}

#[test]
fn bad_arguments_at_run_time_leave_the_server_as_it_was() {
    let server = ServerOptions::default().without_module().start();
    let module = support::module_path();

    let reply = server.ask(&format!("MODULE LOAD {} ring-bytes 5000", module.display()));

    assert!(reply.starts_with("-ERR Error loading the extension"), "{reply}");
    assert!(server.log().contains("<shm> not loaded: shm.ring-bytes must be a power of two"));
    assert_eq!(server.ask("PING"), "+PONG\r\n");
    assert_eq!(server.load_module(), "+OK\r\n");
    server.shm().assert_answers();
}

#[test]
fn settings_of_an_earlier_load_are_forgotten() {
    let server = ServerOptions::default().without_module().start();
    let load = |settings: &str| {
        server.ask(format!("MODULE LOAD {} {settings}", support::module_path().display()).trim())
    };
    assert!(load("ring-bytes 4096 wait park spin-us soon").starts_with("-ERR"));
    for settings in ["", "ring-bytes 8192 wait spin", ""] {
        assert_eq!(load(settings), "+OK\r\n");
        let shm = server.shm();
        let ring_bytes = if settings.is_empty() { 131_072 } else { 8192 };
        assert_eq!(server.info("shm_region_bytes"), region_bytes(ring_bytes));
        drop(shm);
        wait_until("it is gone", || server.info("shm_sessions") == 0);
        assert_eq!(server.ask("MODULE UNLOAD shm"), "+OK\r\n");
    }
}

#[test]
fn loadex_with_a_bad_setting_leaves_the_server_as_it_was() {
    needs!(ModuleLoadex);
    let server = ServerOptions::default().without_module().start();
    let module = support::module_path();
    let mut bystander = server.plain();
    for setting in
        ["shm.ring-bytes 5000", "shm.wait sleep", "shm.colour blue", "shm.max-sessions -1"]
    {
        let reply = server.ask(&format!("MODULE LOADEX {} CONFIG {setting}", module.display()));
        assert!(reply.starts_with("-ERR Error loading the extension"), "{setting}: {reply}");
        bystander.assert_answers();
        assert!(server.plain().ask("SHM.OPEN 2").starts_with("-ERR unknown command"), "{setting}");
    }

    let good =
        format!("MODULE LOADEX {} CONFIG shm.ring-bytes 8kb ARGS wait park", module.display());
    assert_eq!(server.ask(&good), "+OK\r\n");

    let _shm = server.shm();
    assert_eq!(server.info("shm_region_bytes"), region_bytes(8192));
    assert!(server.ask("CONFIG GET shm.wait").ends_with("\r\npark\r\n"));
}
