//! The smallest possible client: one command, built beforehand, and the reply
//! that must come back. The same loop runs over every transport.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read, Write};
use std::time::Instant;

pub(crate) const KEY: &str = "redis-shm:demo";
const VALUE: &str = "sixteen bytes ok";

/// The commands that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Command {
    Ping,
    Set,
    Get,
}

impl Command {
    /// In this order: SET stores what GET reads.
    pub(crate) const ALL: [Self; 3] = [Self::Ping, Self::Set, Self::Get];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Set => "SET",
            Self::Get => "GET",
        }
    }

    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Ping => &["PING"],
            Self::Set => &["SET", KEY, VALUE],
            Self::Get => &["GET", KEY],
        }
    }

    /// What the server must answer, as text.
    pub(crate) fn answer(self) -> &'static str {
        match self {
            Self::Ping => "PONG",
            Self::Set => "OK",
            Self::Get => VALUE,
        }
    }

    pub(crate) fn exchange(self) -> Exchange {
        let answer = self.answer();
        let reply = match self {
            Self::Ping | Self::Set => format!("+{answer}\r\n"),
            Self::Get => format!("${}\r\n{answer}\r\n", answer.len()),
        };
        Exchange::new(self.words(), reply.as_bytes())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// The bytes that go out and those that must come back.
#[derive(Debug)]
pub(crate) struct Exchange {
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Exchange {
    /// The command made of `words` and the one reply that is right.
    pub(crate) fn new(words: &[&str], reply: &[u8]) -> Self {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        Self { request: request.into_bytes(), reply: reply.to_vec() }
    }

    /// Sends the request and reads until the reply is complete.
    ///
    /// `InvalidData` if it is another reply than the expected one.
    pub(crate) fn run(&self, stream: &mut (impl Read + Write)) -> io::Result<()> {
        stream.write_all(&self.request)?;
        let mut buffer = [0; 256];
        let mut length = 0;
        while length < self.reply.len() {
            match stream.read(&mut buffer[length..]).map_err(name_timeout)? {
                0 => return Err(ended()),
                read => length += read,
            }
            if !self.reply.starts_with(&buffer[..length]) {
                return Err(unexpected(&buffer[..length]));
            }
        }
        Ok(())
    }
}

/// A socket calls its timeout "resource temporarily unavailable".
fn name_timeout(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time")
        }
        _ => error,
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server ended the connection")
}

fn unexpected(reply: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(reply);
    let message = format!("the server answered {:?}", text.trim_end());
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Fills `samples_ns` with how long `exchange` takes, time after time.
///
/// The clock is read once for each: the end of one is the beginning of the next.
pub(crate) fn time<E>(
    samples_ns: &mut [u64],
    mut exchange: impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    let mut before = Instant::now();
    for sample_ns in samples_ns {
        exchange()?;
        let after = Instant::now();
        *sample_ns = u64::try_from((after - before).as_nanos()).unwrap_or(u64::MAX);
        before = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that has its replies ready, in pieces.
    struct Script {
        written: Vec<u8>,
        pieces: Vec<&'static [u8]>,
    }

    impl Read for Script {
        fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
            if self.pieces.is_empty() {
                return Ok(0);
            }
            let piece = self.pieces.remove(0);
            target[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    impl Write for Script {
        fn write(&mut self, source: &[u8]) -> io::Result<usize> {
            self.written.extend_from_slice(source);
            Ok(source.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn run(command: Command, pieces: &[&'static [u8]]) -> (io::Result<()>, Vec<u8>) {
        let mut script = Script { written: Vec::new(), pieces: pieces.to_vec() };
        let result = command.exchange().run(&mut script);
        (result, script.written)
    }

    #[test]
    fn a_reply_in_pieces_is_read_to_its_end() {
        let (result, written) =
            run(Command::Get, &[b"$1", b"6\r\nsixteen ", b"bytes ok", b"\r", b"\n"]);
        result.expect("the reply is right");
        assert_eq!(written, b"*2\r\n$3\r\nGET\r\n$14\r\nredis-shm:demo\r\n");
    }

    #[test]
    fn a_wrong_reply_is_an_error_that_shows_it() {
        let (result, _) = run(Command::Set, &[b"-OOM command not allowed\r\n"]);
        let error = result.expect_err("not the expected reply");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("-OOM command not allowed"), "{error}");
    }

    #[test]
    fn bytes_after_the_reply_are_an_error() {
        let (result, _) = run(Command::Ping, &[b"+PONG\r\n+PONG\r\n"]);
        assert_eq!(result.expect_err("too much").kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_end_of_the_stream_is_an_error() {
        let (result, _) = run(Command::Ping, &[b"+PO"]);
        assert_eq!(result.expect_err("cut off").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn every_exchange_is_timed() {
        let mut samples_ns = [0; 100];
        let mut runs = 0;
        time(&mut samples_ns, || {
            runs += 1;
            std::hint::black_box((0..100).sum::<u32>());
            Ok::<(), ()>(())
        })
        .expect("nothing fails");
        assert_eq!(runs, 100);
    }
}
