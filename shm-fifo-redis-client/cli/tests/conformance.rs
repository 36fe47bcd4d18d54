//! `redis-shm conformance`: the clients of this project conform, and one that does not is told
//! what it has to do.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use support::cli::{Ended, redis_shm, run};
use support::watchdog::watched;
use tempfile::TempDir;

const DOCUMENTED: &str = include_str!("../../../shm-fifo-redis-server/tests/c/documented_client.c");

fn conformance(options: &[&str], program: &[&str]) -> Ended {
    run(redis_shm(&["conformance"]).args(options).arg("--").args(program))
}

/// All scenarios pass, by unix socket and by TCP, and none is left out but these.
#[track_caller]
fn assert_conforms(program: &[&str], left_out: &[&str]) {
    for options in [&[][..], &["--tcp"]] {
        let ended = conformance(options, program);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.lines().count() > 40, "{ended:?}");
        let skipped = ended.stdout.lines().filter_map(|line| line.strip_prefix("skipped  "));
        assert_eq!(skipped.collect::<Vec<_>>(), left_out, "{ended:?}");
    }
}

/// An example of the Rust client, which cargo has built beside this test.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().with_file_name("examples").join("conformance");
    assert!(
        program.is_file(),
        "there is no {}; build it with: cargo build -p shm-fifo-redis-client --features tokio \
         --example conformance",
        program.display()
    );
    program
}

/// The client in C that was written from the documents, with these changes.
fn documented(directory: &TempDir, changes: &[(&str, &str)]) -> PathBuf {
    let mut source = DOCUMENTED.to_owned();
    for (before, after) in changes {
        assert!(source.contains(before), "there is no {before}");
        source = source.replace(before, after);
    }
    let program = directory.path().join("documented_client");
    let file = program.with_extension("c");
    std::fs::write(&file, source).unwrap();
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(&compiler);
    command.args(["-std=gnu11", "-O2", "-w", "-o"]).arg(&program).arg(&file);
    let status = command.status().expect("a C compiler runs; apt-get install gcc");
    assert!(status.success(), "the client does not compile");
    program
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_blocking_client_conforms() {
    watched(|| assert_conforms(&[text(&example()), "blocking"], &[]));
}

#[test]
fn the_client_on_tokio_conforms() {
    // It says HELLO only when it has moved.
    let left_out = ["pushes-around-the-move: it speaks RESP2"];
    watched(move || assert_conforms(&[text(&example()), "tokio"], &left_out));
}

#[test]
fn the_client_that_is_written_from_the_documents_conforms() {
    watched(|| {
        let directory = TempDir::new().unwrap();
        assert_conforms(&[text(&documented(&directory, &[]))], &[]);
    });
}

/// A fault of the documented client, the scenario that finds it, and what that says.
const FAULTS: [(&str, &str, &str, &str); 18] = [
    (
        "CHECK(count <= ring_bytes && count >= seen_tail - my_head);",
        "count = count <= ring_bytes ? count : ring_bytes;",
        "tail-too-far",
        "says that all was well",
    ),
    (
        "CHECK(count <= ring_bytes && count >= seen_tail - my_head);",
        "count = count <= ring_bytes ? count : ring_bytes;",
        "tail-moved-back",
        "says that all was well",
    ),
    (
        "CHECK(used <= ring_bytes && used <= my_tail - seen_head);",
        "used = used <= ring_bytes ? used : 0;",
        "head-too-far",
        "did not end the connection",
    ),
    (
        "send(sock, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);",
        "(void)byte;",
        "move",
        "did not ring a server that sleeps",
    ),
    (
        "ring_if_parked(word32(TO_ATTACHER_HEADER, PRODUCER_PARKED));",
        "",
        "large-values",
        "did not ring a server that sleeps for space",
    ),
    ("|| !(seals & F_SEAL_SHRINK)", "", "unsealed", "must not use"),
    ("magic != MAGIC", "0 * magic", "wrong-magic", "must not use"),
    ("version != LAYOUT_VERSION", "0 * version", "wrong-version", "must not use"),
    ("(uint64_t)status.st_size != RINGS + 2 * ring_bytes", "0", "wrong-size", "must not use"),
    ("strcmp(command + 10, proof) != 0", "0", "other-token", "must not use"),
    (
        "/* Value by value,",
        "__atomic_store_n(word32(TO_ATTACHER_HEADER, CONSUMER_PARKED), 0, __ATOMIC_RELAXED); /*",
        "late-answer",
        "stored 0 in its consumer_parked",
    ),
    ("CHECK(bytes[i] == DOORBELL);", ";", "no-doorbell", "did not end the connection"),
    (
        "expect(\"+OK\\r\\n\", 5);\n}",
        "{ char answer[5]; read_all(answer, 5); }\n}",
        "other-answer",
        "did not end the connection",
    ),
    (
        "while ((count = available()) == 0) {",
        "if (__atomic_load_n(word32(TO_ATTACHER_HEADER, PRODUCER_CLOSED), __ATOMIC_ACQUIRE))\n\
         return 0;\nwhile ((count = available()) == 0) {",
        "end-behind-the-last-reply",
        "ended with exit status: 1",
    ),
    ("if (*line == '-')\n            return 0;", "", "start-refused", "ended the connection"),
    ("errno == ECONNRESET", "0", "reset-behind-the-last-reply", "ended with exit status: 1"),
    // A doorbell that nobody takes off the socket, and then nothing more.
    (
        "write_all(\"GET next\\r\\n\", 10);",
        "static int requests; char bell = 0;
         if (moved && ++requests == 2) { send(sock, &bell, 1, 0); pause(); }
         write_all(\"GET next\\r\\n\", 10);",
        "reset-behind-the-last-reply",
        "nothing came",
    ),
    ("PROTOCOL_VERSION, name);", "PROTOCOL_VERSION, \"00000\");", "no-token", "does not take it"),
];

#[test]
fn a_client_with_a_fault_does_not() {
    watched(|| {
        for (before, after, scenario, expected) in FAULTS {
            let directory = TempDir::new().unwrap();
            let program = documented(&directory, &[(before, after)]);
            let mut options = vec!["--timeout", "2", "--only", scenario];
            if ["other-token", "no-token"].contains(&scenario) {
                options.push("--tcp");
            }
            let ended = conformance(&options, &[text(&program)]);
            assert_eq!(ended.code, Some(1), "{scenario}: {ended:?}");
            assert_eq!(ended.stderr, "redis-shm: 1 of 1 scenarios failed\n");
            let line = format!("FAILED   {scenario}: ");
            assert!(ended.stdout.starts_with(&line), "{scenario}: {ended:?}");
            assert!(ended.stdout.contains(expected), "{scenario}: {ended:?}");
        }
    });
}

#[test]
fn a_client_that_never_asks_is_told_so_and_one_without_pushes_is_not_sent_any() {
    watched(|| {
        let directory = TempDir::new().unwrap();
        let stays = documented(&directory, &[("    move_to_shared_memory(is_unix);\n", "")]);
        let ended = conformance(&["--only", "move,no-module"], &[text(&stays)]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stdout.matches("it did not send SHM.OPEN in 400 commands").count(), 2);

        let changes = [("HELLO 3", "HELLO 2"), ("if (*line == '_')", "if (line[1] == '-')")];
        let resp2 = documented(&directory, &changes);
        let ended = conformance(&["--only", "move,pushes-around-the-move"], &[text(&resp2)]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains("skipped  pushes-around-the-move: it speaks RESP2"));
    });
}

/// In the middle of a request, whose reply may be in the ring by then.
#[test]
fn a_client_that_goes_back_to_its_socket_is_served_there() {
    const REQUEST: &str = "write_all(\"GET next\\r\\n\", 10);";
    const LEAVE: &str = "static int requests; char byte = 1;
        if (moved && ++requests == 5) {
            SAYS_SO
            CHECK(send(sock, &byte, 1, 0) == 1);
            do CHECK(recv(sock, &byte, 1, 0) == 1);
            while (byte == 0);
            CHECK(byte == 1);
            moved = 0;
        }";
    const SAYS_SO: &str = "__atomic_store_n(word32(TO_CREATOR_HEADER, 68), 1, __ATOMIC_RELAXED);";
    watched(|| {
        let directory = TempDir::new().unwrap();
        let in_silence = [REQUEST, &LEAVE.replace("SAYS_SO", "")].concat();
        let leaves = documented(&directory, &[(REQUEST, &in_silence)]);
        let ended = conformance(&["--only", "move"], &[text(&leaves)]);
        assert!(ended.stdout.contains("did not say so in producer_leaves"), "{ended:?}");

        let in_order = [REQUEST, &LEAVE.replace("SAYS_SO", SAYS_SO)].concat();
        let leaves = documented(&directory, &[(REQUEST, &in_order)]);
        for options in [&[][..], &["--tcp"]] {
            let options = [options, &["--only", "move,large-values,inline-lengths"]].concat();
            let ended = conformance(&options, &[text(&leaves)]);
            assert_eq!(ended.code, Some(0), "{ended:?}");
            assert_eq!(ended.stdout.matches("ok ").count(), 3, "{ended:?}");
        }
    });
}

#[test]
fn what_cannot_be_looked_at_is_an_error() {
    watched(|| {
        let silent = conformance(&["--only", "move"], &["true"]);
        assert_eq!(silent.code, Some(2), "{silent:?}");
        assert!(silent.stderr.contains("the program did not connect"), "{silent:?}");

        let speaking = conformance(&[], &["sh", "-c", "echo why it did not >&2"]);
        assert!(speaking.stderr.contains("and said: why it did not"), "{speaking:?}");

        let missing = conformance(&[], &["/nonexistent/program"]);
        assert_eq!(missing.code, Some(2), "{missing:?}");
        // The second is played by TCP alone.
        for name in ["mvoe", "other-token"] {
            let unknown = conformance(&["--only", name], &["true"]);
            assert_eq!(unknown.code, Some(2), "{unknown:?}");
            assert!(unknown.stderr.contains("--list names all"), "{unknown:?}");
        }
    });
}

#[test]
fn each_scenario_is_listed_with_where_its_demand_is_written() {
    let pages = [
        ("protocol.md", include_str!("../../../docs/protocol.md")),
        ("layout.md", include_str!("../../../docs/layout.md")),
    ];
    let ended = run(redis_shm(&["conformance", "--list"]).env_remove("COLUMNS"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.lines().count() > 40, "{ended:?}");
    for line in ended.stdout.lines() {
        let section = line.rsplit_once('(').unwrap().1.strip_suffix(')').unwrap();
        let (page, heading) = section.split_once(": ").unwrap();
        let text = pages.iter().find(|(name, _)| *name == page).expect(line).1;
        assert!(text.lines().any(|line| line.trim_start_matches('#') == format!(" {heading}")));
    }
}

#[test]
fn what_is_said_fits_a_terminal() {
    watched(|| {
        let fits = |said: &str| said.lines().all(|line| line.chars().count() <= 80);
        let listed = run(redis_shm(&["conformance", "--list"]).env("COLUMNS", "80"));
        assert!(fits(&listed.stdout), "{listed:?}");

        let directory = TempDir::new().unwrap();
        let stays = documented(&directory, &[("    move_to_shared_memory(is_unix);\n", "")]);
        let mut command = redis_shm(&["conformance", "--only", "move", "--", text(&stays)]);
        let failed = run(command.env("COLUMNS", "80"));
        assert!(failed.stdout.lines().count() > 1 && fits(&failed.stdout), "{failed:?}");
    });
}
