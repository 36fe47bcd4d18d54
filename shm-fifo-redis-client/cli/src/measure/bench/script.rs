//! What a connection sends: a fixed sequence of commands, over and over, with the
//! replies that must come back. Nothing is made or computed while measuring.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Keys of ours on the server; nobody else's are touched.
const KEY_PREFIX: &str = "shm";
/// `key:__rand_int__` with its twelve digits.
const KEY_BYTES: usize = 16;
/// Requests and replies of one sequence take about this much memory at most.
const MOST_BYTES: usize = 16 << 20;
/// So many keys are drawn from a keyspace, at most.
const MOST_KEYS: u64 = 65_536;
/// Commands of the mixed load before it repeats.
const MIXED_COMMANDS: u64 = 200;
const MIXED_SMALLEST: f64 = 3.0;
const MIXED_LARGEST: f64 = 65_536.0;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Load {
    /// PING.
    Ping,
    /// SET of one key, or of many with -r.
    Set,
    /// GET of one key, or of many with -r.
    Get,
    /// 10 % PING, 30 % SET and 60 % GET; values of 3 B to 64 KiB.
    Mixed,
}

impl Load {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Set => "SET",
            Self::Get => "GET",
            Self::Mixed => "MIXED",
        }
    }

    /// Whether its values have the size that `-d` names.
    pub(crate) fn has_values_of_one_size(self) -> bool {
        matches!(self, Self::Set | Self::Get)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// One command and its reply, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) request: Vec<u8>,
    pub(crate) reply: Vec<u8>,
}

impl Step {
    pub(crate) fn ping() -> Self {
        Self { request: encode(&[b"PING"]), reply: b"+PONG\r\n".to_vec() }
    }

    pub(crate) fn echo(bytes: usize) -> Self {
        let value = value(0, bytes);
        Self { request: encode(&[b"ECHO", &value]), reply: bulk(&value) }
    }

    /// A script that keeps the server busy for `loops` additions.
    pub(crate) fn busy_loop(loops: u64) -> Self {
        let script = format!("local x = 0 for i = 1, {loops} do x = x + 1 end return x");
        let request = encode(&[b"EVAL", script.as_bytes(), b"0"]);
        Self { request, reply: format!(":{loops}\r\n").into_bytes() }
    }

    pub(crate) fn set(key: u64, bytes: usize) -> Self {
        let request = encode(&[b"SET", name(key, bytes).as_bytes(), &value(key, bytes)]);
        Self { request, reply: b"+OK\r\n".to_vec() }
    }

    fn get(key: u64, bytes: usize) -> Self {
        let request = encode(&[b"GET", name(key, bytes).as_bytes()]);
        Self { request, reply: bulk(&value(key, bytes)) }
    }
}

/// As long as redis-benchmark's keys, where that is enough. The size is part of the
/// name: what one measurement stores, no other reads.
fn name(key: u64, bytes: usize) -> String {
    let prefix = format!("{KEY_PREFIX}:{bytes}:");
    let digits = KEY_BYTES.saturating_sub(prefix.len());
    format!("{prefix}{key:0digits$}")
}

/// Letters that differ from key to key, so that a reply to another command shows.
fn value(key: u64, bytes: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().skip((key % 26) as usize).take(bytes).collect()
}

fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend(bulk(word));
    }
    request
}

fn bulk(value: &[u8]) -> Vec<u8> {
    let mut text = format!("${}\r\n", value.len()).into_bytes();
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
    text
}

/// A sequence of commands that repeats.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) requests: Bytes,
    pub(crate) replies: Bytes,
    /// What must be stored before its values can be read.
    pub(crate) stores: Vec<Step>,
    pub(crate) value_bytes: u64,
}

/// The bytes of one sequence, and where each command's part of them begins.
#[derive(Debug)]
pub(crate) struct Bytes {
    all: Vec<u8>,
    /// One more than there are commands: the last is the end.
    starts: Vec<usize>,
}

impl Script {
    /// The commands of `load` with values of `value_bytes`, keys from a keyspace
    /// of `keys`, for batches of `depth`.
    pub(crate) fn new(load: Load, value_bytes: usize, keys: u64, depth: usize) -> Self {
        let mut random = Random::new();
        let drawn: Vec<u64> = match keys {
            0 | 1 => vec![0],
            keys => (0..keys.min(MOST_KEYS)).map(|_| random.below(keys)).collect(),
        };
        let sets = || drawn.iter().map(|&key| Step::set(key, value_bytes));
        let gets = || drawn.iter().map(|&key| Step::get(key, value_bytes));
        match load {
            Load::Ping => Self::of(vec![Step::ping()], Vec::new(), depth, 0),
            Load::Set => Self::of(within_memory(sets()), Vec::new(), depth, value_bytes as u64),
            Load::Get => {
                let gets = within_memory(gets());
                let stores = sets().take(gets.len()).collect();
                Self::of(gets, stores, depth, value_bytes as u64)
            }
            Load::Mixed => Self::mixed(&mut random, depth),
        }
    }

    /// Each of the mixed load's commands has a key of its own.
    fn mixed(random: &mut Random, depth: usize) -> Self {
        let mut keyed: Vec<(u64, usize)> =
            (0..MIXED_COMMANDS).map(|key| (key, mixed_bytes(key))).collect();
        random.shuffle(&mut keyed);
        let mean = keyed.iter().map(|(_, bytes)| *bytes as u64).sum::<u64>() / MIXED_COMMANDS;
        let stores = keyed.iter().map(|&(key, bytes)| Step::set(key, bytes)).collect();
        let step = |(key, bytes): (u64, usize)| match key % 10 {
            0 => Step::ping(),
            1..=3 => Step::set(key, bytes),
            _ => Step::get(key, bytes),
        };
        Self::of(keyed.into_iter().map(step).collect(), stores, depth, mean)
    }

    /// ECHO with payloads from one byte to `most`, evenly over the magnitudes.
    pub(crate) fn echoes(most: usize, count: u64) -> Self {
        let size = |index| spread(index, count, 1.0, most as f64);
        let mut sizes: Vec<usize> = (0..count).map(size).collect();
        Random::new().shuffle(&mut sizes);
        let mean = sizes.iter().map(|bytes| *bytes as u64).sum::<u64>() / count.max(1);
        Self::of(sizes.into_iter().map(Step::echo).collect(), Vec::new(), 1, mean)
    }

    /// Repeats `steps` until whole batches of `depth` fit, so that a batch is one
    /// write, unless that takes too much memory.
    pub(crate) fn of(steps: Vec<Step>, stores: Vec<Step>, depth: usize, value_bytes: u64) -> Self {
        let bytes: usize = steps.iter().map(|step| step.request.len() + step.reply.len()).sum();
        let wanted = steps.len().next_multiple_of(depth.max(1));
        let wanted = least_common_multiple(steps.len(), depth.max(1)).unwrap_or(wanted);
        let most = steps.len() * (MOST_BYTES / bytes.max(1)).max(1);
        let commands = wanted.min(most);
        let cycle = || steps.iter().cycle().take(commands);
        Self {
            requests: Bytes::of(cycle().map(|step| step.request.as_slice())),
            replies: Bytes::of(cycle().map(|step| step.reply.as_slice())),
            stores,
            value_bytes,
        }
    }

    pub(crate) fn commands(&self) -> usize {
        self.requests.starts.len() - 1
    }
}

impl Bytes {
    fn of<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut bytes = Self { all: Vec::new(), starts: vec![0] };
        for part in parts {
            bytes.all.extend_from_slice(part);
            bytes.starts.push(bytes.all.len());
        }
        bytes
    }

    /// How many bytes `count` commands from the `first` one on have.
    pub(crate) fn length(&self, first: usize, count: usize) -> u64 {
        let commands = self.starts.len() - 1;
        let (cycles, rest) = (count / commands, count % commands);
        let end = first + rest;
        let partial = if end <= commands {
            self.starts[end] - self.starts[first]
        } else {
            self.all.len() - self.starts[first] + self.starts[end - commands]
        };
        cycles as u64 * self.all.len() as u64 + partial as u64
    }

    pub(crate) fn start(&self, command: usize) -> usize {
        self.starts[command]
    }

    /// The bytes from `at` on, `most` of them, or up to the end of the sequence.
    pub(crate) fn from(&self, at: usize, most: u64) -> &[u8] {
        let rest = &self.all[at..];
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        &rest[..rest.len().min(most)]
    }

    /// The place `bytes` after `at`.
    pub(crate) fn advance(&self, at: usize, bytes: usize) -> usize {
        let next = at + bytes;
        if next >= self.all.len() { next - self.all.len() } else { next }
    }
}

/// As many of `steps` as the memory for a sequence holds; one at least.
fn within_memory(steps: impl Iterator<Item = Step>) -> Vec<Step> {
    let mut bytes = 0;
    let fits = |step: &Step| {
        let fits = bytes == 0 || bytes < MOST_BYTES;
        bytes += step.request.len() + step.reply.len();
        fits
    };
    steps.take_while(fits).collect()
}

/// The mixed load's value sizes: evenly spread over the magnitudes.
fn mixed_bytes(key: u64) -> usize {
    // Neighbouring keys, which are different commands, get different magnitudes.
    spread(key * 37 % MIXED_COMMANDS, MIXED_COMMANDS, MIXED_SMALLEST, MIXED_LARGEST)
}

/// The place of `index` among `count` on a logarithmic scale.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between the bounds")]
fn spread(index: u64, count: u64, smallest: f64, largest: f64) -> usize {
    let part = index as f64 / (count.max(2) - 1) as f64;
    (smallest * (largest / smallest).powf(part)).round() as usize
}

fn least_common_multiple(one: usize, other: usize) -> Option<usize> {
    let (mut a, mut b) = (one, other);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    (one / a.max(1)).checked_mul(other)
}

/// The same numbers in every run (SplitMix64): runs can be compared.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(0x5eed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or(0);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).expect("ASCII")
    }

    #[test]
    fn a_batch_of_pings_is_one_piece() {
        let script = Script::new(Load::Ping, 3, 0, 1000);
        assert_eq!(script.commands(), 1000);
        assert_eq!(script.requests.length(0, 1000), 14_000);
        assert_eq!(script.requests.from(0, 14_000).len(), 14_000);
        assert_eq!(script.replies.length(0, 1000), 7_000);
    }

    #[test]
    fn what_is_set_is_what_get_expects() {
        let set = Script::new(Load::Set, 5, 0, 1);
        let get = Script::new(Load::Get, 5, 0, 1);
        assert_eq!(get.stores[0].request, set.requests.from(0, u64::MAX));
        assert_eq!(text(get.replies.from(0, u64::MAX)), "$5\r\nabcde\r\n");
        assert!(
            text(get.requests.from(0, u64::MAX)).contains("GET\r\n$16\r\nshm:5:0000000000\r\n")
        );
    }

    #[test]
    fn a_keyspace_gives_many_keys_and_their_values() {
        let script = Script::new(Load::Get, 8, 1_000_000, 1);
        assert_eq!(script.commands(), 65_536);
        assert_eq!(script.stores.len(), 65_536);
        let mut requests: Vec<_> = script.stores.iter().map(|step| &step.request).collect();
        requests.sort();
        requests.dedup();
        assert!(requests.len() > 60_000, "{}", requests.len());
    }

    #[test]
    fn memory_bounds_a_sequence_of_large_values() {
        let script = Script::new(Load::Set, 65_536, 1_000_000, 10_000);
        assert!((200..400).contains(&script.commands()), "{}", script.commands());
        assert!(script.requests.all.len() < 2 * MOST_BYTES);
    }

    #[test]
    fn lengths_count_across_the_end_of_the_sequence() {
        let bytes = Bytes::of([b"a".as_slice(), b"bb", b"ccc"].into_iter());
        assert_eq!(bytes.length(0, 3), 6);
        assert_eq!(bytes.length(2, 2), 4);
        assert_eq!(bytes.length(1, 7), 12 + 2);
        assert_eq!(bytes.length(0, 0), 0);
        assert_eq!(bytes.advance(bytes.start(2), 3), 0);
        assert_eq!(bytes.from(1, 2), b"bb");
    }

    #[test]
    fn the_mix_has_all_sizes_and_the_shares_it_names() {
        let script = Script::new(Load::Mixed, 3, 0, 1);
        let requests = text(&script.requests.all);
        let count = |word: &str| requests.matches(word).count();
        assert_eq!(
            ["PING", "SET", "GET"].map(|name| count(&format!("\r\n{name}\r\n"))),
            [20, 60, 120]
        );
        let sizes: Vec<usize> = (0..MIXED_COMMANDS).map(mixed_bytes).collect();
        assert_eq!((sizes.iter().min(), sizes.iter().max()), (Some(&3), Some(&65_536)));
        assert!(script.value_bytes > 5_000 && script.value_bytes < 8_000);
    }

    #[test]
    fn echoes_have_all_sizes() {
        let script = Script::echoes(300_000, 100);
        let lengths: Vec<u64> = (0..100).map(|index| script.replies.length(index, 1)).collect();
        assert_eq!(lengths.iter().min(), Some(&7));
        assert_eq!(lengths.iter().max(), Some(&300_011));
    }

    #[test]
    fn sequences_are_the_same_in_every_run() {
        let scripts = [0; 2].map(|_| Script::new(Load::Set, 3, 1000, 1));
        assert_eq!(scripts[0].requests.all, scripts[1].requests.all);
    }
}
