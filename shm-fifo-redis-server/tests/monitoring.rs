//! What is shipped to watch a server by.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
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

/// The names of figures in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let is_part = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let words = text.split(|letter| !is_part(letter));
    words.filter(|word| word.starts_with("shm_")).collect()
}

#[test]
fn alerts_are_on_figures_that_there_are() {
    let server = TestServer::start();
    let figures = figures(&server);
    let names = names(include_str!("../packaging/monitoring/alerts.yml"));
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(figures.contains_key(name), "{name}");
    }
}

/// But for two: the size of new rings, and how many of them are made ahead, beside their bytes.
#[test]
fn the_dashboard_shows_all_figures_and_no_other() {
    let server = TestServer::start();
    let mut shown = names(include_str!("../packaging/monitoring/grafana.json"));
    let figures = figures(&server);
    shown.extend(["shm_ring_bytes", "shm_ready_regions"]);
    let there: BTreeSet<&str> = figures.keys().map(String::as_str).collect();
    assert_eq!(shown, there);
}
