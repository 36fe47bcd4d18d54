//! `redis-shm` in a terminal of 80 columns. Needs redis-server, and the module:
//! `SHM_FIFO_MODULE` names it, as `make test` does.
#![cfg(feature = "measure")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use shm_fifo_redis_client::Client;
use support::cli::{Ended, PROGRAM, in_terminal, redis_shm, run};
use support::redis_server::RedisServer;
use support::terminal::Screen;
use support::watchdog::watched;

const COLUMNS: usize = 80;

/// No line is longer, but for a word that is not to be torn apart, such as a path.
fn assert_fits<'t>(lines: impl IntoIterator<Item = &'t str>) {
    for line in lines {
        let before_last = line.trim_end().rfind(' ').unwrap_or(0);
        let is_one_word = line[..before_last].trim().is_empty();
        assert!(line.chars().count() <= COLUMNS || is_one_word, "{line:?} is too long");
    }
}

fn assert_all_fits(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.is_empty());
    assert_fits(ended.stdout.lines());
}

#[test]
fn redis_doctor_folds_what_it_says() {
    watched(|| {
        let server = RedisServer::with_module(&["max-sessions", "1", "wait", "park"]);
        // For a note on refusals.
        let address = server.unix_address();
        let open = || Client::open(address.as_str()).unwrap().get_connection().unwrap();
        drop([open(), open()]);
        let mut command = redis_shm(&["doctor", "-s", &server.path()]);

        let ended = run(command.env("COLUMNS", "80"));
        assert_all_fits(&ended);

        // A wider terminal has longer lines, and a file has each check in one.
        let wider = run(command.env("COLUMNS", "200"));
        let whole = run(command.env_remove("COLUMNS"));
        let lines = [&ended, &wider, &whole].map(|ended| ended.stdout.lines().count());
        assert!(lines[0] > lines[1] && lines[1] >= lines[2], "{lines:?}");
        let line = format!("{PROGRAM} doctor -s {}", server.path());
        let ended = run(in_terminal(50, &line).env("COLUMNS", "200").env("NO_COLOR", "1"));
        assert_all_fits(&ended);
    });
}

#[test]
fn redis_stat_fits() {
    watched(|| {
        let server = RedisServer::with_module(&[]);
        let line = format!("{PROGRAM} stat -s {} -i 0.01 -n 3", server.path());
        assert_all_fits(&run(in_terminal(20, &line).env("NO_COLOR", "1")));
    });
}

#[test]
fn redis_latency_fits_in_each_form() {
    watched(|| {
        let server = RedisServer::with_module(&[]);
        for form in ["", "--compare", "--history -i 0.1", "--dist -i 0.1"] {
            let line = format!("{PROGRAM} latency -s {} {form} --duration 0.3", server.path());
            let ended = run(in_terminal(40, &line).env("NO_COLOR", "1"));
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let shown = Screen::showing(&ended.stdout);
            // The title names the server, wherever that is.
            assert_fits(shown[1..].iter().map(String::as_str));
        }
    });
}

#[test]
fn redis_bench_fits() {
    watched(|| {
        let sweep = ["bench", "-c", "1,50", "-P", "1,1000", "-n", "50", "--rounds", "1"];
        assert_all_fits(&run(redis_shm(&sweep).env("COLUMNS", "80")));
        let conditions = "two-cores,one-core,oversubscribed,slow-commands,cpu-quota";
        let conditions = ["bench", "--conditions", conditions, "-n", "30", "--rounds", "2"];
        assert_all_fits(&run(redis_shm(&conditions).env("COLUMNS", "80")));
    });
}

#[test]
fn redis_demo_fits() {
    watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().to_str().unwrap();
        let mut command = redis_shm(&["demo", "--requests", "50", "--output", output]);
        assert_all_fits(&run(command.env("COLUMNS", "80")));
    });
}
