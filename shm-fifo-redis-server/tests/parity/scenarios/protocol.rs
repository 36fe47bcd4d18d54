//! Every malformed request, cut at other places each time.

use crate::malformed::{CROSS_PROTOCOL, ENDLESS, ENDLESS_BYTES, FATAL, HARMLESS};
use crate::stage::{Stage, compare};
use crate::support::{has_io_threads, request};

/// Each is sent so often.
const TRIES: u64 = 3;

/// Sends `bytes` on a new connection, and takes all replies.
fn send(stage: &Stage, bytes: &[u8], number: u64) {
    let mut line = stage.line(number);
    line.begin(bytes, 0);
    stage.finish(&mut line);
}

#[test]
fn malformed_requests() {
    compare(|stage| {
        for (bytes, number) in HARMLESS.iter().chain(FATAL).chain(CROSS_PROTOCOL).zip(0..) {
            for again in 0..TRIES {
                send(stage, bytes, number * TRIES + again);
            }
        }
    });
}

#[test]
fn malformed_requests_behind_good_ones_and_in_resp3() {
    compare(|stage| {
        for (bytes, number) in HARMLESS.iter().chain(FATAL).zip(0..) {
            let before = [request(&[b"HELLO", b"3"]), request(&[b"HGETALL", b"none"])].concat();
            let before = before.repeat(usize::try_from(number).unwrap() % 3);
            // The reply to HELLO names the client, so it is not asked for one.
            let silent = request(&[b"CLIENT", b"REPLY", b"OFF"]);
            let loud = request(&[b"CLIENT", b"REPLY", b"ON"]);
            let before = [silent, before, loud].concat();
            if has_io_threads() {
                // On a socket, too, Redis 8.0 does not look at what is malformed, if it
                // comes with what is not, until more comes.
                let mut line = stage.line(number);
                line.begin(&before, 0);
                stage.finish(&mut line);
                line.begin(bytes, 1);
                stage.finish(&mut line);
            } else {
                send(stage, &[&before, *bytes].concat(), number);
            }
        }
    });
}

#[test]
fn lines_that_never_end() {
    compare(|stage| {
        for (beginning, number) in ENDLESS.iter().zip(0..) {
            let mut bytes = beginning.to_vec();
            bytes.resize(ENDLESS_BYTES, b'x');
            send(stage, &bytes, number);
        }
    });
}

#[test]
fn strangers_have_tighter_limits() {
    compare(|stage| {
        let too_much: [&[u8]; 3] = [b"*11\r\n", b"*2\r\n$16385\r\n", b"*1\r\n$16385\r\n"];
        // Who is not known cannot move to shared memory; who is forgotten later stays.
        let strangers = too_much.map(|bytes| (bytes, stage.client("stranger")));
        stage.aside("CONFIG SET requirepass secret");
        for (bytes, mut stranger) in strangers {
            stranger.ask("RESET");
            stranger.ask("PING");
            stranger.send_bytes(bytes);
            stranger.take_end();
        }
    });
}

#[test]
fn inline_commands_and_their_quotes() {
    compare(|stage| {
        let mut a = stage.client("a");
        for line in [
            "SET key \"a b\\x00c\"",
            "GET key",
            "get   key  ",
            "SET 'single quoted' ''",
            "EXISTS 'single quoted'",
            "ECHO \"\\xzz\\x4\"",
            "ECHO '\\n'",
            "nonsense with words",
        ] {
            a.send_bytes(format!("{line}\r\n").as_bytes());
            a.take();
        }
        // Valkey 8.1 takes what follows for a line again, whatever it begins with.
        a.send_bytes(b"   \r\nPING\r\n");
        a.take();
        a.send_bytes(b"ECHO a\"b\r\n");
        a.take_end();
    });
}
