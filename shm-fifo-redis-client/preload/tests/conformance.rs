//! A preloaded program keeps to the protocol, whatever a server does: `redis-shm conformance`.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::process::Command;
use support::{Kind, program, redis_shm, watched};

/// By a shell, for the address is known to the program alone.
fn exec(kind: Kind) -> &'static str {
    match kind {
        Kind::Unix => r#"exec "$0" exec --after 1 -s "$SHM_FIFO_CONFORMANCE" -- "$1""#,
        Kind::Tcp => {
            r#"exec "$0" exec --after 1 -h 127.0.0.1 -p "${SHM_FIFO_CONFORMANCE##*:}" -- "$1""#
        }
    }
}

#[test]
fn a_program_that_knows_nothing_of_it_conforms() {
    watched(|| {
        for kind in [Kind::Unix, Kind::Tcp] {
            let mut command = Command::new(redis_shm());
            command.arg("conformance");
            if kind == Kind::Tcp {
                command.arg("--tcp");
            }
            command.args(["--", "sh", "-c", exec(kind)]);
            command.arg(redis_shm()).arg(program("conformance"));
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{kind:?}: {output:?}");
            assert!(said.lines().all(|line| line.starts_with("ok ")), "{kind:?}: {said}");
        }
    });
}
