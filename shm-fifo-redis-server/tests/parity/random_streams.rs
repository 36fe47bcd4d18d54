//! As many random commands as are wanted, and how they came out.

use crate::generator::CommandStream;
use crate::sides::Sides;
use crate::support::{ServerOptions, TestServer, has_io_threads};
use std::collections::BTreeSet;
use std::env;

/// So many streams are sent to a server before the next one is started, which has other
/// hash tables and other rings.
const STREAMS_PER_SERVER: usize = 40;
const RING_BYTES: [&str; 3] = ["4096", "16384", "65536"];
/// Small limits, so that all encodings of the types are met; every server knows them by
/// these names.
const SMALL_ENCODINGS: [&str; 12] = [
    "--hash-max-ziplist-entries",
    "6",
    "--set-max-intset-entries",
    "6",
    "--zset-max-ziplist-entries",
    "6",
    "--list-max-ziplist-size",
    "4",
    "--stream-node-max-entries",
    "6",
    "--hll-sparse-max-bytes",
    "100",
];
const COMMANDS_TO_WARM_UP: usize = 1000;

#[test]
fn random_commands_get_the_same_replies_in_shared_memory_as_on_a_socket() {
    let wanted = number("SHM_FIFO_PARITY_COMMANDS").unwrap_or(20_000);
    let seed = number("SHM_FIFO_PARITY_SEED").unwrap_or(1);
    let mut total = Total::default();
    while total.commands < wanted {
        let server = start(total.servers);
        let mut sides = Sides::of(&server);
        for _ in 0..STREAMS_PER_SERVER {
            let stream = CommandStream::generate(seed as u64, total.streams);
            total.reply_bytes += sides.compare(&stream).unwrap_or_else(|difference| {
                let name = format!("seed {seed}, stream {}", total.streams);
                panic!("{name}: {difference}\n{}", sides.explained(&stream));
            });
            total.streams += 1;
            total.commands += stream.commands();
        }
        total.servers += 1;
        total.succeeded.extend(commands_that_succeeded(&server));
    }
    let Total { commands, streams, servers, reply_bytes, succeeded } = total;
    println!(
        "parity: {commands} commands in {streams} streams, seed {seed}, with {servers} servers; \
         {reply_bytes} bytes of replies; {} kinds of commands succeeded: no difference",
        succeeded.len()
    );
}

#[derive(Debug, Default)]
struct Total {
    commands: usize,
    streams: usize,
    servers: usize,
    reply_bytes: usize,
    /// Names of commands, subcommands apart.
    succeeded: BTreeSet<String>,
}

/// Those that did not fail each time: what a generator never gets right it does not test.
fn commands_that_succeeded(server: &TestServer) -> Vec<String> {
    let stats = server.ask("INFO commandstats");
    let count = |line: &str, name: &str| -> u64 {
        let value = line.split(name).nth(1).and_then(|rest| rest.split([',', '\r']).next());
        value.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    let lines = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_"));
    let succeeded = lines.filter(|line| count(line, "calls=") > count(line, "failed_calls="));
    succeeded.filter_map(|line| line.split(':').next()).map(str::to_owned).collect()
}

fn number(variable: &str) -> Option<usize> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

fn start(number: usize) -> TestServer {
    // Timeouts end at the server's ticks. Redis 8 stops its io-threads at each, which takes
    // long on few CPUs.
    let hz = if has_io_threads() { "10" } else { "500" };
    let server = ServerOptions::default()
        .module_args(&["ring-bytes", RING_BYTES[number % RING_BYTES.len()]])
        .args(&[&SMALL_ENCODINGS[..], &["--hz", hz]].concat())
        .start();
    // The table of commands is still growing, by a step at each look-up; COMMAND shows
    // it in its order.
    for _ in 0..COMMANDS_TO_WARM_UP {
        server.ask("PING");
    }
    server
}
