//! Streams of commands, each made of a seed and a number.

use crate::commands::{self, Family};
use crate::malformed;
use crate::support::{Random, request};

/// How many commands are sent in one go at most.
const MOST_IN_A_BURST: usize = 40;
const STEPS: usize = 24;

/// What one connection does, and what happens beside it.
#[derive(Debug, Clone)]
pub(crate) struct CommandStream {
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Requests as they travel, sent without waiting for replies.
    Burst(Vec<Vec<u8>>),
    /// A command of another connection, sent once everything before is answered.
    Beside(Vec<Vec<u8>>),
    /// A command that may wait, and then this of another connection, and if it still
    /// waits `CLIENT UNBLOCK` with an error or not.
    Blocked { request: Vec<u8>, then: Vec<Vec<u8>>, with_error: bool },
}

/// What a stream does beside working on data. Subscribers in RESP2 and silenced clients
/// do not go together: nothing would tell where the replies end.
#[derive(Debug, Clone, Copy)]
enum Flavour {
    Plain,
    Silenced,
    Subscribed,
    Tracking,
}

impl CommandStream {
    /// The stream of this `seed` and `number`.
    pub(crate) fn generate(seed: u64, number: usize) -> Self {
        let random = &mut Random::seeded((seed << 32).wrapping_add(number as u64));
        // The first numbers of neighbouring seeds resemble each other.
        let _ = (random.next(), random.next());
        let flavour = [Flavour::Plain, Flavour::Silenced, Flavour::Subscribed, Flavour::Tracking]
            [random.below(4)];
        // Most streams are of few types, so that commands find what others have left.
        let focus = random.below(commands::DATA.len());
        let mut steps = Vec::new();
        if random.below(2) == 0 {
            steps.push(Step::Burst(vec![request(&[b"HELLO", b"3"])]));
        }
        for _ in 0..STEPS {
            steps.push(match random.below(12) {
                0 | 1 => Step::Beside(beside(focus, random)),
                2 => blocked(random),
                _ => burst(flavour, focus, random),
            });
        }
        steps.push(Step::Burst(match random.below(4) {
            0 => vec![fatal(random)],
            // Whatever was pushed last comes before the end of a burst.
            _ => Vec::new(),
        }));
        Self { steps }
    }

    /// How many commands it sends.
    pub(crate) fn commands(&self) -> usize {
        let of_step = |step: &Step| match step {
            Step::Burst(requests) => requests.len(),
            Step::Beside(_) => 1,
            Step::Blocked { .. } => 2,
        };
        self.steps.iter().map(of_step).sum()
    }
}

fn burst(flavour: Flavour, focus: usize, random: &mut Random) -> Step {
    let count = 1 + random.below(MOST_IN_A_BURST);
    Step::Burst((0..count).map(|_| any_request(flavour, focus, random)).collect())
}

fn any_request(flavour: Flavour, focus: usize, random: &mut Random) -> Vec<u8> {
    if random.below(60) == 0 {
        return malformed::HARMLESS[random.below(malformed::HARMLESS.len())].to_vec();
    }
    let mut words = family(flavour, focus, random).command(random);
    if random.below(25) == 0 && !by_chance(&words[0]) {
        spoil(&mut words, random);
    }
    encode(&words, random)
}

fn family(flavour: Flavour, focus: usize, random: &mut Random) -> &'static Family {
    match random.below(100) {
        0..8 => &commands::TRANSACTIONS,
        8..16 => &commands::SERVER,
        16..21 => &commands::SCRIPTING,
        21 => &commands::BLOCKING,
        22..30 => match flavour {
            Flavour::Plain => data(focus, random),
            Flavour::Silenced => &commands::REPLY_MODES,
            Flavour::Subscribed => &commands::PUBSUB,
            Flavour::Tracking => &commands::TRACKING,
        },
        _ => data(focus, random),
    }
}

fn data(focus: usize, random: &mut Random) -> &'static Family {
    let which = if random.below(3) == 0 { random.below(commands::DATA.len()) } else { focus };
    &commands::DATA[which]
}

fn beside(focus: usize, random: &mut Random) -> Vec<Vec<u8>> {
    if random.below(4) == 0 {
        let channel = [&b"news.a"[..], b"news.b", b"c"][random.below(3)];
        return vec![b"PUBLISH".to_vec(), channel.to_vec(), b"from beside".to_vec()];
    }
    data(focus, random).command(random)
}

fn blocked(random: &mut Random) -> Step {
    const BLOCKED: [&[&[u8]]; 7] = [
        &[b"BLPOP", b"list:0", b"list:1", b"0"],
        &[b"BRPOP", b"list:0", b"100"],
        &[b"BLMOVE", b"list:0", b"list:2", b"LEFT", b"RIGHT", b"0"],
        &[b"BZPOPMIN", b"zset:0", b"zset:1", b"0"],
        &[b"XREAD", b"BLOCK", b"0", b"STREAMS", b"stream:0", b"$"],
        &[b"XREADGROUP", b"GROUP", b"g1", b"bob", b"BLOCK", b"0", b"STREAMS", b"stream:0", b">"],
        &[b"WAIT", b"1", b"0"],
    ];
    const THEN: [&[&[u8]]; 6] = [
        &[b"RPUSH", b"list:0", b"one", b"two"],
        &[b"ZADD", b"zset:0", b"1", b"m1"],
        &[b"XADD", b"stream:0", b"100-1", b"f1", b"v"],
        &[b"DEL", b"stream:0", b"list:0", b"zset:0"],
        &[b"SET", b"list:0", b"not a list"],
        &[b"XGROUP", b"DESTROY", b"stream:0", b"g1"],
    ];
    Step::Blocked {
        request: request(BLOCKED[random.below(BLOCKED.len())]),
        then: THEN[random.below(THEN.len())].iter().map(|word| word.to_vec()).collect(),
        with_error: random.below(2) == 0,
    }
}

/// Whether with other arguments the reply could be one of those that `commands` leaves out.
fn by_chance(name: &[u8]) -> bool {
    [&b"SPOP"[..], b"AUTH", b"COMMAND"].contains(&name)
        || name.windows(4).any(|part| part == b"RAND")
}

/// Makes an error of the command, most likely.
fn spoil(words: &mut Vec<Vec<u8>>, random: &mut Random) {
    let which = random.below(words.len());
    match random.below(4) {
        0 => drop(words.remove(which)),
        1 => words.insert(which, words[which].clone()),
        2 => words[which] = random.bytes(3),
        _ => words.push(b"extra".to_vec()),
    }
    if words.is_empty() {
        words.push(b"GET".to_vec());
    }
}

/// As an array, or now and then as a line where that can say it.
fn encode(words: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let length: usize = words.iter().map(|word| word.len()).sum();
    if random.below(12) != 0 || length > 4000 || words[0].is_empty() {
        return request(&words);
    }
    let quoted = |word: &&[u8]| format!("\"{}\"", quoted(word));
    let line: Vec<String> = words.iter().map(quoted).collect();
    format!("{}\r\n", line.join(" ")).into_bytes()
}

/// As redis-cli would write it between double quotes.
fn quoted(word: &[u8]) -> String {
    word.iter().fold(String::new(), |mut text, &byte| {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
        text
    })
}

/// What ends the connection, with something behind it.
fn fatal(random: &mut Random) -> Vec<u8> {
    let mut bytes = match random.below(4) {
        0 => {
            let mut line = malformed::ENDLESS[random.below(malformed::ENDLESS.len())].to_vec();
            line.resize(malformed::ENDLESS_BYTES, b'x');
            return line;
        }
        _ => malformed::FATAL[random.below(malformed::FATAL.len())].to_vec(),
    };
    bytes.extend_from_slice(&request(&[b"SET", b"string:0", b"behind the end"]));
    bytes
}
