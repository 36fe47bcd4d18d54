//! A client in C that was written from `docs/protocol.md` and `docs/layout.md` alone.

#[path = "../../shm-fifo/tests/support/document.rs"]
mod document;
mod support;

use document::{Claims, Row};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{TestServer, request, wait_until, words};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/documented_client.c")
}

fn compiled(directory: &Path) -> PathBuf {
    let source = source();
    let program = directory.join("documented_client");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(&compiler)
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&program, &source])
        .status()
        .expect("a C compiler starts; install one (Debian, Ubuntu: apt-get install gcc)");
    assert!(status.success(), "the client does not compile");
    program
}

#[test]
fn a_client_written_from_the_documents_works() {
    let server = TestServer::start();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let program = compiled(directory.path());
    let socket = server.socket().display().to_string();
    let port = server.port().to_string();
    for (kind, place) in [("unix", &socket), ("tcp", &port)] {
        let output = Command::new(&program).args([kind, place]).output().expect("the client runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "by {kind}: {} {errors}", output.status);
    }
    assert_eq!(server.info("shm_missed_doorbells"), 0);
    wait_until("the server has freed everything", || server.holds_no_shared_memory());
}

#[test]
fn the_client_has_the_tables_of_the_document() {
    let mut claims = Claims::of(&source());
    for Row { name, offset, .. } in document::region() {
        match name {
            "to_creator_header" => claims.add(&format!("TO_CREATOR_HEADER == {offset}")),
            "to_attacher_header" => claims.add(&format!("TO_ATTACHER_HEADER == {offset}")),
            "to_creator_ring" => claims.add(&format!("RINGS == {offset}")),
            // It begins where the other one ends.
            "to_attacher_ring" => {}
            _ => claims.add(&format!("{}_AT == {offset}", name.to_uppercase())),
        }
    }
    for Row { name, offset, .. } in document::fifo_header() {
        // It stores nothing inline, tells no CPU and never leaves, as it may.
        let has_none = ["inline", "cpu", "leaves"].iter().any(|part| name.contains(part));
        if !has_none {
            claims.add(&format!("{} == {offset}", name.to_uppercase()));
        }
    }
    for (name, value) in document::numbers() {
        // Likewise, and it never leaves.
        if !["INLINE_BYTES", "KEY_FACTOR", "LEAVE"].contains(&name) {
            claims.add(&format!("{name} == {value}"));
        }
    }
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    claims.check(directory.path());
}

#[test]
fn the_client_that_tests_make_by_hand_has_them_too() {
    let offset = |name: &str| {
        let mut rows = document::region().into_iter().chain(document::fifo_header());
        rows.find(|row| row.name == name).expect("the row exists").offset
    };
    let own = [
        ("token", words::TOKEN),
        ("to_creator_header", words::REQUESTS),
        ("to_attacher_header", words::REPLIES),
        ("to_creator_ring", words::RINGS),
        ("tail", words::TAIL),
        ("producer_closed", words::PRODUCER_CLOSED),
        ("producer_leaves", words::PRODUCER_LEAVES),
        ("head", words::HEAD),
        ("consumer_closed", words::CONSUMER_CLOSED),
        ("consumer_parked", words::CONSUMER_PARKED),
        ("producer_parked", words::PRODUCER_PARKED),
    ];
    for (name, own) in own {
        assert_eq!(own, offset(name), "{name}");
    }
}

#[test]
fn the_module_speaks_the_version_of_the_document_alone() {
    let server = TestServer::start();
    let numbers = document::numbers();
    let (_, version) = *numbers.iter().find(|row| row.0 == "PROTOCOL_VERSION").expect("the row");
    for (asked, is_spoken) in [(version - 1, false), (version, true), (version + 1, false)] {
        let mut socket = UnixStream::connect(server.socket()).expect("it listens");
        let asked = asked.to_string();
        socket.write_all(&request(&[b"SHM.OPEN", asked.as_bytes()])).expect("it goes");
        let mut first = [0];
        socket.read_exact(&mut first).expect("an answer comes");
        assert_eq!(first == *b"+", is_spoken, "version {asked}");
    }
}
