//! Clients and servers that die, stop, stall or lie: one session ends, nothing else.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::{Commands as _, ConnectionLike as _, cmd};
use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;
use support::{
    HandMade, OtherProcess, PATIENCE, Random, TestServer, Wire, bulk, request, thread_cpu,
    wait_until, words,
};

/// CPU ticks (of usually 10 ms) that a server may use in a second of which it
/// should use nothing, beyond what it uses anyway: a loop that spins uses 100.
const NEARLY_NO_TICKS: u64 = 10;

/// Two clients that have nothing to do with what goes wrong.
struct Bystanders {
    shm: Wire,
    plain: Wire,
    random: Random,
}

impl Bystanders {
    fn of(server: &TestServer) -> Self {
        Self { shm: server.shm(), plain: server.plain(), random: Random::seeded(7) }
    }

    #[track_caller]
    fn assert_unharmed(&mut self) {
        let value = self.random.bytes(10_000);
        for wire in [&mut self.shm, &mut self.plain] {
            let replies = wire.exchange(&request(&[b"ECHO", &value]), 1);
            assert!(replies == [bulk(&value)]);
        }
    }
}

/// A thread that waits for something.
struct Sleeper<T> {
    thread: thread::JoinHandle<T>,
    id: Receiver<i32>,
}

impl<T: Send + 'static> Sleeper<T> {
    fn run(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (sender, id) = channel();
        let thread = thread::spawn(move || {
            // SAFETY: takes no pointer.
            sender.send(unsafe { libc::gettid() }).unwrap();
            work()
        });
        Self { thread, id }
    }

    fn wait_until_asleep(&mut self) {
        let stat = format!("/proc/self/task/{}/stat", self.id.recv().unwrap());
        wait_until("the thread sleeps", || {
            std::fs::read_to_string(&stat).unwrap().contains(") S ")
        });
    }

    fn join(self) -> T {
        self.thread.join().unwrap()
    }
}

/// The value that the other process writes, again and again.
const WHOLE_VALUE: usize = 60_000;

#[test]
#[ignore = "not a test: the process that another test kills"]
fn endless_pipeline_of_another_process() {
    let Some(socket) = OtherProcess::argument() else { return };
    let stream = shm_fifo_redis_client::Stream::connect_unix(socket, None).unwrap();
    let mut shm = Wire::over(stream).into_shm();
    for letter in (b'a'..=b'z').cycle() {
        let mut pipeline = Vec::new();
        for _ in 0..20 {
            pipeline.extend_from_slice(&request(&[b"SET", b"value", &[letter; WHOLE_VALUE]]));
            pipeline.extend_from_slice(&request(&[b"GET", b"value"]));
            pipeline.extend_from_slice(&request(&[b"INCR", b"rounds"]));
        }
        shm.exchange(&pipeline, 60);
    }
}

#[test]
fn a_client_killed_within_a_pipeline_leaves_nothing_and_harms_nobody() {
    let mut server = TestServer::start();
    server.warm_up();
    let mut bystanders = Bystanders::of(&server);
    bystanders.assert_unharmed();
    let facts = |server: &TestServer| {
        let process = server.process();
        (process.fds_beside_regions(), process.region_maps())
    };
    server.ask("PING");
    let before = facts(&server);

    for _ in 0..5 {
        server.ask("SET rounds 0");
        let mut other = OtherProcess::run(
            "endless_pipeline_of_another_process",
            server.socket().to_str().unwrap(),
        );
        let rounds = |server: &TestServer| server.ask("GET rounds").len();
        // Three digits, four with the length's line: it is in the middle of it.
        wait_until("it is at work", || rounds(&server) >= "$3\r\n100\r\n".len());
        assert_eq!(server.info("shm_sessions"), 2);
        other.kill();

        wait_until("its session is gone", || server.info("shm_sessions") == 1);
        wait_until("everything is as before", || facts(&server) == before);
        let value = server.ask("GET value");
        let letter = value.trim_end().chars().last().unwrap();
        let whole = letter.to_string().repeat(WHOLE_VALUE);
        assert!(value == format!("${WHOLE_VALUE}\r\n{whole}\r\n"), "half a command was executed");
        bystanders.assert_unharmed();
    }
    assert_eq!(server.info("shm_protocol_errors"), 0, "to die is no violation");
    server.assert_alive();
}

#[test]
fn a_client_that_waits_hears_of_its_servers_death_and_rests() {
    let mut server = TestServer::start();
    let mut waiting = server.shm();
    let id = waiting.id();
    waiting.send("BLPOP queue 0");
    wait_until("it waits", || server.ask(&format!("CLIENT LIST ID {id}")).contains(" cmd=blpop "));
    let mut waiter = Sleeper::run(move || {
        let result = waiting.stream().read(&mut [0; 16]);
        (result, thread_cpu(), waiting)
    });
    waiter.wait_until_asleep();

    server.kill();

    let (result, cpu, mut waiting) = waiter.join();
    let timed_out = |error: &std::io::Error| error.kind() == ErrorKind::TimedOut;
    assert!(!result.as_ref().is_err_and(timed_out), "{result:?}");
    assert!(!result.is_ok_and(|count| count > 0));
    assert!(cpu < Duration::from_secs(1), "{cpu:?} of CPU to wait");
    // Every further use says so at once.
    assert!(waiting.stream().write(b"PING\r\n").is_err());
    assert!(!waiting.stream().read(&mut [0; 16]).is_ok_and(|count| count > 0));
}

#[test]
fn a_redis_rs_connection_whose_server_was_killed_is_closed() {
    let mut server = TestServer::start();
    let mut connection = server.connection();
    let _: () = connection.set("key", 1).unwrap();

    server.kill();

    let error = connection.get::<_, i64>("key").unwrap_err();
    assert!(error.is_connection_dropped() && !error.is_timeout(), "{error}");
    assert!(!connection.is_open());
    let again = connection.get::<_, i64>("key").unwrap_err().to_string();
    assert!(again.contains("closed"), "{again}");
}

#[test]
fn a_write_into_a_full_ring_ends_with_the_server() {
    let mut server = TestServer::with_rings_of(4096);
    let mut shm = server.shm();
    // Nobody reads the replies, so that both rings fill and the writer waits.
    server.process().stop();
    let writer = thread::spawn(move || shm.stream().write_all(&vec![b'x'; 1 << 20]));

    server.process().go_on();
    server.kill();

    let error = writer.join().unwrap().unwrap_err();
    assert_ne!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn a_stopped_server_costs_its_client_the_deadline_and_no_cpu() {
    const DEADLINE: Duration = Duration::from_secs(1);
    let server = TestServer::start();
    let mut connection = server.connection();
    connection.set_response_timeout(Some(DEADLINE)).unwrap();
    assert!(connection.check_connection());

    server.process().stop();
    let before = thread_cpu();
    let error = connection.get::<_, Option<i64>>("key").unwrap_err();
    let cpu = thread_cpu() - before;
    server.process().go_on();

    assert!(error.is_timeout(), "{error}");
    assert!(cpu < DEADLINE / 4, "{cpu:?} of CPU to wait for {DEADLINE:?}");
    // The reply that comes late is not taken for the next one.
    connection.set_response_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(cmd("ECHO").arg("next").query::<String>(&mut connection).unwrap(), "next");
}

/// What a hostile client does; before it, the connection was used.
type Attack = fn(&mut HandMade);

const ATTACKS: [(&str, Attack); 12] = [
    ("its tail is a byte too far", |client| {
        let ring = client.ring_bytes() as u64;
        client.word(words::REQUESTS + words::TAIL).fetch_add(ring + 1, SeqCst);
    }),
    ("its tail is far ahead", |client| {
        client.word(words::REQUESTS + words::TAIL).store(u64::MAX / 2, SeqCst);
    }),
    ("its tail is a byte back", |client| {
        client.word(words::REQUESTS + words::TAIL).fetch_sub(1, SeqCst);
    }),
    ("its tail is at the start again", |client| {
        client.word(words::REQUESTS + words::TAIL).store(0, SeqCst);
    }),
    ("it has read more than was written", |client| {
        // More than the reply's first line, too: Redis 6.2 writes that by itself.
        client.word(words::REPLIES + words::HEAD).fetch_add(100, SeqCst);
        client.send("GET large");
    }),
    ("it has read far more than was written", |client| {
        client.word(words::REPLIES + words::HEAD).store(1 << 63, SeqCst);
        client.send("GET large");
    }),
    ("it takes back what it has read", |client| {
        client.send("GET large");
        for _ in 0..10 {
            client.take(4000);
            client.ring();
        }
        // Full: the server has seen everything that was read.
        client.wait_until_full();
        client.word(words::REPLIES + words::HEAD).fetch_sub(1, SeqCst);
    }),
    ("it empties the whole region", |client| {
        assert_eq!(client.punch_hole(0), Ok(()));
    }),
    ("it sends a byte on the socket that is no doorbell", |client| {
        client.socket.write_all(b"x").unwrap();
    }),
    ("it hides that byte among doorbells", |client| {
        client.socket.write_all(b"\0\0\0\xFF\0").unwrap();
    }),
    ("it sends commands on the socket", |client| {
        client.socket.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
    }),
    ("it sends commands on the socket and in the ring", |client| {
        client.socket.write_all(b"PING\r\n").unwrap();
        client.send("PING");
        // Behind a request they may stay unread; a doorbell without one is looked at.
        wait_until("it is ended", || client.socket.write_all(&[0]).is_err());
    }),
];

#[test]
fn an_attack_ends_the_attackers_session_and_no_other() {
    let mut server = TestServer::with_rings_of(4096);
    server.ask(&format!("SET large {}", "x".repeat(100_000)));
    let mut bystanders = Bystanders::of(&server);
    for (number, (what, attack)) in (1..).zip(ATTACKS) {
        let mut client = HandMade::connect(&server);
        client.assert_answers();

        attack(&mut client);
        client.ring();

        client.assert_ended();
        assert_eq!(server.info("shm_protocol_errors"), number, "{what}");
        wait_until("its session is gone", || server.info("shm_sessions") == 1);
        // What it has not read is left to it, as long as it maps that.
        drop(client);
        wait_until("its region is gone", || server.process().region_maps() == 1);
        bystanders.assert_unharmed();
    }
    server.assert_alive();
}

#[test]
fn an_attack_without_a_doorbell_is_found_as_well() {
    let server = TestServer::start();
    let mut client = HandMade::connect(&server);
    client.assert_answers();
    wait_until("it is parked", || server.info("shm_sessions_hot") == 0);

    client.word(words::REQUESTS + words::TAIL).store(u64::MAX, SeqCst);

    client.assert_ended();
    assert_eq!(server.info("shm_protocol_errors"), 1);
}

#[test]
fn a_client_that_says_it_has_ended_is_believed() {
    let server = TestServer::with_rings_of(4096);
    server.ask(&format!("SET large {}", "x".repeat(100_000)));
    let mut bystanders = Bystanders::of(&server);
    for closed in
        [words::REQUESTS + words::PRODUCER_CLOSED, words::REPLIES + words::CONSUMER_CLOSED]
    {
        let mut client = HandMade::connect(&server);
        client.flag(closed).store(1, SeqCst);
        client.send("GET large");
        client.assert_ended();
        bystanders.assert_unharmed();
    }
    assert_eq!(server.info("shm_protocol_errors"), 0);
    wait_until("their sessions are gone", || server.info("shm_sessions") == 1);
}

#[test]
fn words_overwritten_at_random_harm_nobody_else() {
    let mut server = TestServer::with_rings_of(4096);
    server.ask(&format!("SET large {}", "x".repeat(100_000)));
    let mut bystanders = Bystanders::of(&server);
    for seed in 0..100 {
        let mut random = Random::seeded(seed);
        let mut client = HandMade::connect(&server);
        for _ in 0..random.below(40) {
            scribble(&mut client, &mut random);
        }
        drop(client);
        if seed % 10 == 0 {
            bystanders.assert_unharmed();
        }
    }
    wait_until("their sessions are gone", || server.info("shm_sessions") == 1);
    wait_until("their memory is gone", || server.process().region_maps() == 1);
    bystanders.assert_unharmed();
    server.assert_alive();
}

/// Overwrites something, or does something that makes the server look.
fn scribble(client: &mut HandMade, random: &mut Random) {
    let header = [words::REQUESTS, words::REPLIES][random.below(2)];
    let word = header + 8 * random.below(64);
    match random.below(8) {
        0 => client.word(word).store(random.next(), SeqCst),
        1 => client.word(word).store([0, 1, u64::MAX, 1 << 63][random.below(4)], SeqCst),
        2 => drop(client.word(word).fetch_add(random.next() % 10_000, SeqCst)),
        3 => drop(client.word(word).fetch_sub(random.next() % 10_000, SeqCst)),
        4 => client.word(8 * random.below(words::RINGS / 8)).store(random.next(), SeqCst),
        5 => client.put(&random.bytes(100)),
        6 => client.send("GET large"),
        _ => client.ring(),
    }
}

#[test]
fn the_servers_own_words_are_not_read_back() {
    let server = TestServer::start();
    let mut client = HandMade::connect(&server);
    for _ in 0..100 {
        client.assert_answers();
        // Its position in the requests, its end, and the region's first words.
        client.word(words::REQUESTS + words::HEAD).store(u64::MAX, SeqCst);
        client.flag(words::REQUESTS + words::CONSUMER_CLOSED).store(1, SeqCst);
        client.flag(words::REPLIES + words::PRODUCER_CLOSED).store(1, SeqCst);
        for word in (0..64).step_by(8) {
            client.word(word).store(u64::MAX, SeqCst);
        }
    }
    client.assert_answers();
    assert_eq!(server.info("shm_protocol_errors"), 0);
}

#[test]
fn the_size_of_a_region_cannot_be_changed() {
    let server = TestServer::start();
    let mut client = HandMade::connect(&server);
    let length = 4096 + 2 * client.ring_bytes();

    for bytes in [0, 4096, length - 1, length + 4096] {
        assert_eq!(client.truncate(bytes), Err(libc::EPERM), "{bytes}");
    }
    for seal in [libc::F_SEAL_WRITE, libc::F_SEAL_FUTURE_WRITE] {
        assert_eq!(client.seal(seal), Err(libc::EPERM));
    }

    client.assert_answers();
}

#[test]
fn rings_emptied_under_way_yield_zeros_and_no_crash() {
    let mut server = TestServer::start();
    let mut bystanders = Bystanders::of(&server);
    let mut client = HandMade::connect(&server);

    client.put(&request(&[b"PING"]));
    assert_eq!(client.punch_hole(words::RINGS), Ok(()));
    client.ring();

    // Whatever Redis makes of the zeros; a newline ends them.
    client.send("PING");
    drop(client);
    wait_until("its session is gone", || server.info("shm_sessions") == 1);
    bystanders.assert_unharmed();
    server.assert_alive();
}

#[test]
fn a_storm_of_doorbells_is_borne() {
    let server = TestServer::start();
    let mut bystanders = Bystanders::of(&server);
    let mut client = HandMade::connect(&server);

    for _ in 0..100 {
        client.socket.write_all(&[0; 1000]).unwrap();
        bystanders.assert_unharmed();
    }

    client.assert_answers();
    assert_eq!(server.info("shm_protocol_errors"), 0);
    wait_until("all were heard", || server.info("shm_doorbells_received") >= 100_000);
}

#[test]
fn lies_about_being_asleep_cost_doorbells_only() {
    let server = TestServer::start();
    let mut client = HandMade::connect(&server);
    for _ in 0..100 {
        client.flag(words::REPLIES + words::CONSUMER_PARKED).store(1, SeqCst);
        client.flag(words::REQUESTS + words::PRODUCER_PARKED).store(u32::MAX, SeqCst);
        client.assert_answers();
        // The server is said to be awake, always.
        client.flag(words::REQUESTS + words::CONSUMER_PARKED).store(0, SeqCst);
    }
    assert_eq!(server.info("shm_protocol_errors"), 0);
}

#[test]
fn a_doorbell_that_never_rings_is_missed_and_counted() {
    let server = TestServer::start();
    let mut client = HandMade::connect(&server);
    client.assert_answers();
    wait_until("it is parked", || server.info("shm_sessions_hot") == 0);

    client.put(&request(&[b"PING"]));

    assert_eq!(client.take(7), b"+PONG\r\n");
    assert_eq!(server.info("shm_missed_doorbells"), 1);
}

#[test]
fn a_reader_that_stalls_within_a_reply_costs_no_cpu_and_loses_nothing() {
    const WINDOW: Duration = Duration::from_secs(1);
    let server = TestServer::start();
    let value = Random::seeded(8).bytes(1 << 20);
    let mut shm = server.shm();
    shm.exchange(&request(&[b"SET", b"large", &value]), 1);
    let without = server.process().cpu_ticks_during(WINDOW);

    let expected = bulk(&value);
    let mut reply = vec![0; expected.len()];
    let (first, rest) = reply.split_at_mut(100_000);
    shm.send("GET large");
    shm.stream().read_exact(first).unwrap();
    wait_until("the server waits", || server.info("shm_sessions_hot") == 0);
    // Redis 8's io-threads are now and then busy with each other. A loop that runs is busy
    // in every window.
    let is_idle = |_| server.process().cpu_ticks_during(WINDOW) <= without + NEARLY_NO_TICKS;

    assert!((0..5).any(is_idle), "never idle; {without} ticks before");
    shm.stream().read_exact(rest).unwrap();
    assert!(reply == expected);
    shm.assert_answers();
}

#[test]
fn a_reader_that_never_reads_is_ended_at_its_output_limit() {
    let mut server = TestServer::start();
    let set =
        server.ask_words(&[b"CONFIG", b"SET", b"client-output-buffer-limit", b"normal 1mb 0 0"]);
    assert_eq!(set, "+OK\r\n");
    server.ask(&format!("SET large {}", "x".repeat(1 << 20)));
    let mut bystanders = Bystanders::of(&server);
    let mut shm = server.shm();

    // In one write: soon nothing can be sent any more.
    shm.send_bytes(&request(&[b"GET", b"large"]).repeat(20));

    wait_until("its session is gone", || server.info("shm_sessions") == 1);
    bystanders.assert_unharmed();
    server.assert_alive();
}

#[test]
fn an_idle_client_is_ended_by_the_timeout() {
    let server = TestServer::start();
    let mut shm = server.shm();

    // Time is the subject: one second of silence.
    server.ask("CONFIG SET timeout 1");

    shm.assert_ended();
}

#[test]
fn saving_in_the_background_goes_on_beside_moved_clients() {
    let server = TestServer::start();
    let mut shm = server.shm();
    for command in ["DEBUG POPULATE 2000", "CONFIG SET rdb-key-save-delay 500"] {
        assert_eq!(server.ask(command), "+OK\r\n");
    }
    for (command, running, status) in [
        ("BGSAVE", "rdb_bgsave_in_progress", "rdb_last_bgsave_status"),
        ("BGREWRITEAOF", "aof_rewrite_in_progress", "aof_last_bgrewrite_status"),
    ] {
        assert!(shm.ask(command).starts_with('+'));
        assert_eq!(server.info(running), 1);
        let child = server.process().children()[0];
        assert_eq!(child.region_maps(), 0);

        for round in 0..100 {
            assert_eq!(shm.ask(&format!("SET round {round}")), "+OK\r\n");
        }
        assert_eq!(server.info(running), 1, "all that was meanwhile");

        wait_until("it is done", || server.info(running) == 0);
        assert_eq!(server.info_text(status), "ok");
    }
    shm.assert_answers();
}

#[test]
fn a_child_that_has_a_copy_of_the_socket_keeps_nobody_from_hearing_its_end() {
    let server = TestServer::start();
    let mut killed = server.shm();
    let id = killed.id();
    let mut killed = Sleeper::run(move || killed.assert_ended());
    killed.wait_until_asleep();
    for command in ["DEBUG POPULATE 2000", "CONFIG SET rdb-key-save-delay 1000"] {
        assert_eq!(server.ask(command), "+OK\r\n");
    }
    assert!(server.ask("BGSAVE").starts_with('+'));

    assert_eq!(server.ask(&format!("CLIENT KILL ID {id}")), ":1\r\n");

    killed.join();
    assert_eq!(server.info("rdb_bgsave_in_progress"), 1);
}

#[test]
fn thousands_of_connections_come_and_go_without_a_trace() {
    const ROUNDS: usize = 2000;
    let server = TestServer::start();
    server.warm_up();
    let come_and_go = |rounds: usize| {
        for _ in 0..rounds {
            server.shm().assert_answers();
        }
        wait_until("all are gone", || {
            server.holds_no_shared_memory() && server.info("connected_clients") == 1
        });
        let process = server.process();
        (process.fds_beside_regions(), process.maps(), process.resident_kib())
    };
    // What is made once and kept is made by then.
    let (fds, maps, resident_kib) = come_and_go(200);
    let moved = server.info("shm_total_sessions");

    let after = come_and_go(ROUNDS);

    assert_eq!(after.0, fds);
    // The allocator's own mappings and memory may vary a little; 2000 regions are
    // 270 MiB, 2000 forgotten bytes each 4 MiB.
    assert!(after.1 <= maps + 8, "{} mappings, before {maps}", after.1);
    assert!(after.2 <= resident_kib + 2048, "{} KiB, before {resident_kib}", after.2);
    assert_eq!(server.info("shm_total_sessions"), moved + ROUNDS as u64);
}
