//! Random commands, first over a socket and then over shared memory, to one server that
//! is empty each time: it has one seed for its hash tables, so the order of their
//! members is the same as well.

use crate::generator::{CommandStream, Step};
use crate::line::{Line, Way};
use crate::normalise::HELLO_ID;
use crate::shrink::shrunk;
use crate::support::{Random, ServerOptions, TestServer, Wire};
use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;

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
/// A script that returns each key of the databases that are used, with its type, whether it
/// expires and the SHA1 of its value. What DUMP makes of streams and hashes can hold times.
const CONTENT: &[u8] = b"\
    local all = {} \
    for db = 0, 5 do \
      redis.call('SELECT', db) \
      local keys = redis.call('KEYS', '*') \
      table.sort(keys) \
      for i, key in ipairs(keys) do \
        local type = redis.call('TYPE', key).ok \
        local value = type == 'stream' and cjson.encode(redis.call('XRANGE', key, '-', '+')) \
          or type == 'hash' and table.concat(redis.call('HGETALL', key), ' ') \
          or redis.call('DUMP', key) \
        local ends = redis.call('TTL', key) >= 0 and ' expires ' or ' ' \
        table.insert(all, db .. ' ' .. key .. ' ' .. type .. ends .. redis.sha1hex(value)) \
      end \
    end \
    return all";
const COMMANDS_TO_WARM_UP: usize = 1000;
/// Bytes around the first difference that a failure shows.
const SHOWN_BYTES: usize = 300;

#[test]
fn random_commands_get_the_same_replies_in_shared_memory_as_on_a_socket() {
    let wanted = number("SHM_FIFO_CONFORMANCE_COMMANDS").unwrap_or(20_000);
    let seed = number("SHM_FIFO_CONFORMANCE_SEED").unwrap_or(1);
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
        "conformance: {commands} commands in {streams} streams, seed {seed}, with {servers} servers; \
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
    let io_threads = env::var("SHM_FIFO_TEST_IO_THREADS").is_ok_and(|count| count != "1");
    let hz = if io_threads { "10" } else { "500" };
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

/// One server, and what is used beside the connection that is tested.
struct Sides<'s> {
    server: &'s TestServer,
    beside: Wire,
    /// Requests are cut at other places each time.
    cuts: Random,
}

impl<'s> Sides<'s> {
    fn of(server: &'s TestServer) -> Self {
        Self { server, beside: server.plain(), cuts: Random::seeded(u64::from(server.port())) }
    }

    /// Returns how many bytes of replies were the same, or what was not.
    fn compare(&mut self, stream: &CommandStream) -> Result<usize, String> {
        let [socket, shared] = Way::BOTH.map(|way| self.transcript(stream, way));
        if socket == shared {
            return Ok(socket.iter().map(Vec::len).sum());
        }
        Err(first_difference(&socket, &shared))
    }

    /// A stream that differs, as short as it can be made.
    fn explained(&mut self, stream: &CommandStream) -> String {
        if self.compare(stream).is_ok() {
            return format!("it did not differ again; it was\n  {}", described(stream));
        }
        let shortest = shrunk(stream, |stream| self.compare(stream).is_err());
        let difference = self.compare(&shortest).err().unwrap_or_default();
        format!("the shortest that differs:\n  {}\n{difference}", described(&shortest))
    }

    /// What came back, step by step, and in the end what the server holds.
    fn transcript(&mut self, stream: &CommandStream, way: Way) -> Vec<Vec<u8>> {
        self.empty_the_server();
        let mut line = Line::connect(self.server, way, Random::seeded(self.cuts.next()));
        let mut transcript = Vec::new();
        for (number, step) in stream.steps.iter().enumerate() {
            let bytes = self.perform(step, &mut line, number).unwrap_or_else(|error| {
                let client = self.beside.ask(&format!("CLIENT LIST ID {}", line.id));
                let stream = CommandStream { steps: stream.steps[..=number].to_vec() };
                panic!("{way:?}: {error}\n{client}after\n  {}", described(&stream));
            });
            transcript.push(HELLO_ID.apply(&bytes));
            if line.has_ended() {
                break;
            }
        }
        transcript.push(self.beside.ask_words(&[b"EVAL", CONTENT, b"0"]));
        transcript
    }

    fn empty_the_server(&mut self) {
        for command in ["FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH", "LATENCY RESET"] {
            // Not every server has functions.
            self.beside.ask(command);
        }
    }

    fn perform(&mut self, step: &Step, line: &mut Line, number: usize) -> Result<Vec<u8>, String> {
        match step {
            Step::Burst(requests) => {
                line.begin(&requests.concat(), number);
                line.finish()
            }
            Step::Beside(words) => Ok(self.say_beside(words)),
            Step::Blocked { request, then, with_error } => {
                line.begin(request, number);
                if self.is_blocked(line) {
                    self.say_beside(then);
                }
                if self.is_blocked(line) {
                    let how = if *with_error { "ERROR" } else { "TIMEOUT" };
                    self.beside.ask(&format!("CLIENT UNBLOCK {} {how}", line.id));
                }
                line.finish()
            }
        }
    }

    fn say_beside(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        self.beside.ask_words(&words)
    }

    /// Whether the server lets the connection wait, once it does or has answered all.
    fn is_blocked(&mut self, line: &mut Line) -> bool {
        while !line.is_done() {
            line.exchange(usize::MAX);
            let list = self.beside.ask(&format!("CLIENT LIST ID {}", line.id));
            let flags = list.split_once(" flags=").and_then(|(_, rest)| rest.split(' ').next());
            if flags.is_some_and(|flags| flags.contains('b')) {
                return true;
            }
        }
        false
    }
}

fn first_difference(socket: &[Vec<u8>], shared: &[Vec<u8>]) -> String {
    let pairs = socket.iter().zip(shared);
    let Some(step) = pairs.clone().position(|(socket, shared)| socket != shared) else {
        return format!("{} steps on a socket, {} in shared memory", socket.len(), shared.len());
    };
    let (socket, shared) = (&socket[step], &shared[step]);
    let same = socket.iter().zip(shared).take_while(|(one, other)| one == other).count();
    let mut text = format!("step {step} differs behind {same} bytes of its replies");
    for (name, bytes) in [("socket", socket), ("shared memory", shared)] {
        let first = same.saturating_sub(SHOWN_BYTES);
        let last = bytes.len().min(same + SHOWN_BYTES);
        let shown = bytes[first..last].escape_ascii();
        write!(text, "\n  {name}, {} bytes: …{shown}…", bytes.len()).unwrap();
    }
    text
}

fn described(stream: &CommandStream) -> String {
    let text = |bytes: &[u8]| bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii().to_string();
    let words = |words: &[Vec<u8>]| text(&words.join(&b' '));
    let of_step = |(number, step): (usize, &Step)| match step {
        Step::Burst(requests) => {
            requests.iter().map(|request| format!("{number}: {}", text(request))).collect()
        }
        Step::Beside(command) => vec![format!("{number}, beside: {}", words(command))],
        Step::Blocked { request, then, with_error } => {
            let (request, then) = (text(request), words(then));
            vec![format!("{number}, blocked: {request}; beside: {then}; error: {with_error}")]
        }
    };
    stream.steps.iter().enumerate().flat_map(of_step).collect::<Vec<_>>().join("\n  ")
}
