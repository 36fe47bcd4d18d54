//! Replies and requests of megabytes, through the smallest rings.

use crate::stage::compare_on;
use crate::support::{Random, ServerOptions, request};

const MEGABYTE: usize = 1 << 20;

fn small_rings() -> ServerOptions {
    ServerOptions::default().module_args(&["ring-bytes", "4096"])
}

#[test]
fn large_values() {
    compare_on(&small_rings(), |stage| {
        let mut a = stage.client("a");
        let value = Random::seeded(1).bytes(8 * MEGABYTE + 5);
        a.exchange(&request(&[b"SET", b"x", &value]), 1);
        a.exchange(&request(&[b"GET", b"x"]), 1);
        a.exchange(&request(&[b"GETRANGE", b"x", b"100", b"5000000"]), 1);
        let pipeline = request(&[b"GET", b"x"]).repeat(4);
        a.exchange(&pipeline, 4);
        a.exchange(&request(&[b"ECHO", &value]), 1);
    });
}

#[test]
fn commands_and_replies_of_many_parts() {
    compare_on(&small_rings(), |stage| {
        let mut a = stage.client("a");
        let words: Vec<Vec<u8>> =
            (0..60_000).map(|number| format!("element:{number}").into()).collect();
        let with = |start: &[&'static [u8]]| {
            let words = words.iter().map(Vec::as_slice);
            request(&start.iter().copied().chain(words).collect::<Vec<_>>())
        };
        a.exchange(&with(&[b"RPUSH", b"list"]), 1);
        a.exchange(&request(&[b"LRANGE", b"list", b"0", b"-1"]), 1);
        a.exchange(&with(&[b"MSET"]), 1);
        a.exchange(&with(&[b"MGET"]), 1);
        a.exchange(&with(&[b"DEL"]), 1);
        let script = b"local t = {} for i = 1, 50000 do t[i] = {i, tostring(i)} end return t";
        a.exchange(&request(&[b"EVAL", script, b"0"]), 1);
    });
}

#[test]
fn long_pipelines_cut_anywhere() {
    compare_on(&small_rings(), |stage| {
        for cuts in 0..4 {
            let mut line = stage.line(cuts);
            let mut requests = Vec::new();
            for number in 0..10_000 {
                let number = number.to_string();
                requests.extend(request(&[b"RPUSH", b"list", number.as_bytes()]));
                requests.extend(request(&[b"LINDEX", b"list", b"-1"]));
            }
            requests.extend(request(&[b"DEL", b"list"]));
            line.begin(&requests, 0);
            stage.finish(&mut line);
        }
    });
}

#[test]
fn large_messages() {
    compare_on(&small_rings(), |stage| {
        let (mut a, mut b) = (stage.client("a"), stage.client("b"));
        a.ask("SUBSCRIBE news");
        let message = Random::seeded(2).bytes(3 * MEGABYTE);
        b.exchange(&request(&[b"PUBLISH", b"news", &message]), 1);
        a.take();
    });
}
