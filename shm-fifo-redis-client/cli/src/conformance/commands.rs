//! What a server answers to the commands by which client libraries set a connection up.

/// The answer to `words`, by whose name the connection speaks RESP3 or does not.
pub(super) fn answer(words: &[Vec<u8>], speaks_resp3: bool) -> Vec<u8> {
    let word = |index: usize| words.get(index).map(|word| word.to_ascii_uppercase());
    let second = word(1).unwrap_or_default();
    match word(0).unwrap_or_default().as_slice() {
        b"HELLO" => hello(speaks_resp3),
        b"PING" => words.get(1).map_or(b"+PONG\r\n".to_vec(), |word| bulk(word)),
        b"CLIENT" if second == b"ID" => b":1\r\n".to_vec(),
        b"COMMAND" | b"CONFIG" => b"*0\r\n".to_vec(),
        b"INFO" => bulk(b"# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n"),
        b"AUTH" | b"CLIENT" | b"SELECT" | b"READONLY" | b"QUIT" => b"+OK\r\n".to_vec(),
        name => format!("-ERR unknown command '{}'\r\n", name.escape_ascii()).into_bytes(),
    }
}

fn hello(speaks_resp3: bool) -> Vec<u8> {
    let version = if speaks_resp3 { 3 } else { 2 };
    let begin = if speaks_resp3 { "%7" } else { "*14" };
    format!(
        "{begin}\r\n+server\r\n+redis\r\n+version\r\n+7.0.15\r\n+proto\r\n:{version}\r\n+id\r\n:1\r\n\
         +mode\r\n+standalone\r\n+role\r\n+master\r\n+modules\r\n*0\r\n"
    )
    .into_bytes()
}

pub(super) fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
