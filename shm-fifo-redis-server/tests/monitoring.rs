//! What is shipped to watch a server by.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use std::collections::BTreeMap;
use support::TestServer;

/// As redis_exporter runs it: `EVAL script 0 0`, for a flat list of names and values.
fn figures(server: &TestServer) -> BTreeMap<String, f64> {
    let script = include_str!("../packaging/monitoring/shm.lua");
    let reply = server.ask_words(&[b"EVAL", script.as_bytes(), b"0", b"0"]);
    assert!(reply.starts_with('*'), "{reply}");
    let words: Vec<&str> =
        reply.split("\r\n").filter(|line| !line.starts_with(['*', '$'])).collect();
    let pairs = words.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].parse().unwrap()));
    pairs.collect()
}

#[test]
fn the_script_for_redis_exporter_gives_every_figure_of_info() {
    let server = TestServer::start();
    let _shm = server.shm();

    let figures = figures(&server);

    assert_eq!(figures["shm_sessions"], 1.0);
    let info = server.ask("INFO shm");
    let names = info.lines().filter_map(|line| Some(line.strip_prefix("shm_")?.split_once(':')?.0));
    for name in names.filter(|name| *name != "version") {
        assert!(figures.contains_key(&format!("shm_{name}")), "{name}: {figures:?}");
    }
}

#[test]
fn alerts_are_on_figures_that_there_are() {
    let server = TestServer::start();
    let figures = figures(&server);
    let alerts = include_str!("../packaging/monitoring/alerts.yml");
    let is_part = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let words = alerts.split(|letter| !is_part(letter));
    let names: Vec<&str> = words.filter(|word| word.starts_with("shm_")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(figures.contains_key(name), "{name}");
    }
}
