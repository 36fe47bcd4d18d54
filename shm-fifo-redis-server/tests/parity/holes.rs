//! What the holes of templates are filled with: from small pools, so that commands
//! meet each other's keys, members and channels.

use crate::support::Random;

/// Kinds of keys. A key is of the type that its kind says, most of the time.
pub(crate) const KINDS: [&str; 8] =
    ["string", "list", "hash", "set", "zset", "stream", "bits", "geo"];
const KEYS_OF_A_KIND: usize = 3;

const SCRIPTS: [&str; 16] = [
    "return redis.call('GET', KEYS[1])",
    "return redis.call('SET', KEYS[1], ARGV[1])",
    "return {1, 2, {3, 'four', {5}}, nil, 6}",
    "return {KEYS, ARGV, #KEYS, #ARGV}",
    "return redis.pcall('LPUSH', KEYS[1], ARGV[1])",
    "return redis.error_reply('MINE own error')",
    "return redis.status_reply('FINE')",
    "return {err='a table'}",
    "redis.call('INCR', KEYS[1]) return redis.call('INCRBYFLOAT', KEYS[1], '0.5')",
    "return 3.999",
    "return",
    "this is no Lua",
    "error('thrown')",
    "redis.setresp(3) return {double = 1.5}",
    "return string.rep('x', 20000)",
    // What depends on the time or on the order of the keyspace, made comparable.
    "local t = redis.call('TTL', KEYS[1]) return t > 100 and 100 or t",
];

const FUNCTIONS: [&str; 4] = [
    "#!lua name=one\nredis.register_function('get', function(k, a) \
     return redis.call('GET', k[1]) end)",
    "#!lua name=two\nredis.register_function{function_name='echo', \
     callback=function(k, a) return {k, a} end, flags={'no-writes'}}",
    "#!lua name=bad\nthis is no Lua",
    "#!js name=other\nno engine",
];

/// The SHA1 of the first of [`SCRIPTS`], and one of nothing.
const DIGESTS: [&str; 2] =
    ["d3c21d0c2b9ca22f82737626a27bcaf5d288f99f", "0000000000000000000000000000000000000000"];

/// Fills the hole `name` of a template whose keys are mostly of the kind `home`.
///
/// # Panics
/// If there is no such hole.
pub(crate) fn fill(name: &str, home: &str, random: &mut Random) -> Vec<u8> {
    match name {
        "key" => key(home, random),
        "any" => key(KINDS[random.below(KINDS.len())], random),
        "value" => value(random),
        "text" => one_of(&["a", "b", "hello", "Hello World", "", "x\r\ny", "10", "3.5"], random),
        "big" => big(random),
        "int" => integer(random),
        "small" => number(random, 6),
        "index" => (number_below(random, 12) - 5).to_string().into(),
        "float" => {
            one_of(&["0", "1.5", "-2.25", "3e2", "inf", "-inf", "nan", "0.1", "1e400", "x"], random)
        }
        "score" => one_of(&["0", "1", "2", "2.5", "-3", "1e3", "+inf", "-inf", "7"], random),
        "bound" => one_of(&["-inf", "+inf", "0", "(1", "2", "(2.5", "5", "x"], random),
        "lex" => one_of(&["-", "+", "[a", "(b", "[m3", "(m5", "[", "z"], random),
        "field" => format!("f{}", random.below(14)).into(),
        "member" => format!("m{}", random.below(14)).into(),
        "offset" => number(random, 300),
        "bit" => number(random, 2),
        "id" => format!("{}-{}", random.below(40), random.below(3)).into(),
        "range-id" => one_of(&["-", "+", "5", "(5-1", "20", "30-1", "x"], random),
        "group" => one_of(&["g1", "g2"], random),
        "consumer" => one_of(&["alice", "bob"], random),
        "ttl" => one_of(&["1000", "100000", "0", "-1", "9999999999999999", "x"], random),
        // Of the next centuries: SET keeps a key of the past until somebody looks.
        "at" => one_of(&["9000000000", "8000000000"], random),
        "at-ms" => one_of(&["9000000000000", "8000000000000"], random),
        "pattern" => one_of(&["*", "f1*", "m?", "[a-c]*", "news.*", "nothing"], random),
        // Where two of them fit one channel, their order is that of a table which outlives
        // its subscribers.
        "channels" => one_of(&["news.*", "[cd]*", "__keyevent*"], random),
        "channel" => one_of(&["news.a", "news.b", "c", "__keyevent@0__:set"], random),
        "longitude" => one_of(&["13.361389", "15.087269", "-122.4", "2.35", "181", "x"], random),
        "latitude" => one_of(&["38.115556", "37.502669", "37.77", "48.85", "-86"], random),
        "script" => one_of(&SCRIPTS, random),
        "function" => one_of(&FUNCTIONS, random),
        "digest" => one_of(&DIGESTS, random),
        "protocol-type" => one_of(
            &[
                "string", "integer", "double", "null", "array", "set", "map", "attrib", "push",
                "verbatim", "true", "false", "bignum",
            ],
            random,
        ),
        other => panic!("there is no hole <{other}>"),
    }
}

fn one_of(all: &[&str], random: &mut Random) -> Vec<u8> {
    all[random.below(all.len())].into()
}

fn key(home: &str, random: &mut Random) -> Vec<u8> {
    let kind = if random.below(8) == 0 { KINDS[random.below(KINDS.len())] } else { home };
    format!("{kind}:{}", random.below(KEYS_OF_A_KIND)).into()
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(60) {
        0 => big(random),
        1..10 => {
            let length = random.below(60);
            random.bytes(length)
        }
        10..25 => integer(random),
        _ => fill("text", "", random),
    }
}

/// Larger than Redis' buffers, or than a small ring, or just something.
fn big(random: &mut Random) -> Vec<u8> {
    let length = [600, 5000, 17_000, 33_000, 70_000, 200_000][random.below(6)];
    let mut bytes = random.bytes(16);
    bytes.resize(length + random.below(100), b'.');
    bytes
}

fn integer(random: &mut Random) -> Vec<u8> {
    match random.below(12) {
        0 => b"9223372036854775807".to_vec(),
        1 => b"-9223372036854775808".to_vec(),
        2 => b"18446744073709551616".to_vec(),
        3 => b"12x".to_vec(),
        _ => (number_below(random, 300) - 100).to_string().into(),
    }
}

fn number(random: &mut Random, limit: usize) -> Vec<u8> {
    random.below(limit).to_string().into()
}

fn number_below(random: &mut Random, limit: usize) -> i64 {
    i64::try_from(random.below(limit)).expect("a small limit")
}
