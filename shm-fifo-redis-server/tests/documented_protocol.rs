//! A client in C that was written from `docs/protocol.md` and `docs/layout.md` alone.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use support::{TestServer, wait_until};

fn compiled(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/documented_client.c");
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
