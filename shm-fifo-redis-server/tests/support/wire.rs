//! Redis' protocol, byte for byte: a reply is the very bytes that came.

use super::PATIENCE;
use shm_fifo_redis_client::{Attempt, Interest, Stream, Transport, move_to_shared_memory};
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Instant;

/// How much is read at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A connection that knows how long a reply is and nothing else.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    inbox: Vec<u8>,
}

impl Wire {
    pub(crate) fn over(mut stream: Stream) -> Self {
        stream.set_timeout(Some(PATIENCE));
        Self { stream, inbox: Vec::new() }
    }

    /// The same connection, moved to shared memory.
    ///
    /// # Panics
    /// If the server refuses.
    #[track_caller]
    pub(crate) fn into_shm(self) -> Self {
        match move_to_shared_memory(self.into_stream(), Some(Instant::now() + PATIENCE)) {
            Ok(Attempt::Moved(stream)) => Self::over(stream),
            Ok(Attempt::Stayed(_, refusal)) => panic!("not moved: {refusal}"),
            Err(error) => panic!("lost while moving: {error}"),
        }
    }

    /// Its stream, of which nothing was read that was not asked for.
    #[track_caller]
    pub(crate) fn into_stream(self) -> Stream {
        assert!(self.inbox.is_empty(), "replies are outstanding");
        self.stream
    }

    pub(crate) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    pub(crate) fn is_shm(&self) -> bool {
        self.stream.transport() == Transport::SharedMemory
    }

    /// Sends `command`, whose words are separated by spaces.
    #[track_caller]
    pub(crate) fn send(&mut self, command: &str) {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.send_bytes(&request(&words));
    }

    #[track_caller]
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next reply or push.
    #[track_caller]
    pub(crate) fn reply_bytes(&mut self) -> Vec<u8> {
        match self.try_reply() {
            Some(reply) => reply,
            None => panic!("the connection ended; before: {:?}", self.inbox.escape_ascii()),
        }
    }

    /// As [`Wire::reply_bytes`]; `None` is the end of the connection.
    #[track_caller]
    pub(crate) fn try_reply(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = length_of_value(&self.inbox) {
                let rest = self.inbox.split_off(length);
                return Some(std::mem::replace(&mut self.inbox, rest));
            }
            let mut chunk = vec![0; CHUNK_BYTES];
            let count = match self.stream.read(&mut chunk) {
                Ok(count) => count,
                // Over a socket, what a killed connection had not read yet.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
                Err(error) => panic!("{error}"),
            };
            if count == 0 {
                return None;
            }
            self.inbox.extend_from_slice(&chunk[..count]);
        }
    }

    /// Whether a reply has come, without waiting for one.
    #[track_caller]
    pub(crate) fn has_reply(&mut self) -> bool {
        let mut chunk = vec![0; CHUNK_BYTES];
        if let Some(count) = unless_it_would_block(self.stream.try_read(&mut chunk)) {
            self.inbox.extend_from_slice(&chunk[..count]);
        }
        length_of_value(&self.inbox).is_some()
    }

    /// As [`Wire::reply_bytes`], as text.
    #[track_caller]
    pub(crate) fn reply(&mut self) -> String {
        String::from_utf8_lossy(&self.reply_bytes()).into_owned()
    }

    /// Sends `command` and returns its reply.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.send(command);
        self.reply()
    }

    /// As [`Wire::ask`], for words with any bytes in them.
    #[track_caller]
    pub(crate) fn ask_words(&mut self, words: &[&[u8]]) -> Vec<u8> {
        self.send_bytes(&request(words));
        self.reply_bytes()
    }

    /// Sends `requests` and meanwhile takes the `count` replies to them.
    ///
    /// A client that reads only once it has written everything waits for ever when
    /// both directions are full, over a socket as well. Panics if nothing moves for long.
    #[track_caller]
    pub(crate) fn exchange(&mut self, requests: &[u8], count: usize) -> Vec<Vec<u8>> {
        let mut unsent = requests;
        let mut replies = Vec::with_capacity(count);
        let mut chunk = vec![0; CHUNK_BYTES];
        while !unsent.is_empty() || replies.len() < count {
            if let Some(sent) = unless_it_would_block(self.stream.try_write(unsent)) {
                unsent = &unsent[sent..];
            }
            if let Some(count) = unless_it_would_block(self.stream.try_read(&mut chunk)) {
                assert!(count > 0, "the connection ended");
                self.inbox.extend_from_slice(&chunk[..count]);
                replies.extend(values_at_front(&mut self.inbox));
                continue;
            }
            let writable = !unsent.is_empty();
            let deadline = Some(Instant::now() + PATIENCE);
            self.stream.wait(Interest { readable: true, writable }, deadline).unwrap();
        }
        replies
    }

    /// Whether the connection has ended, with nothing left to read.
    ///
    /// # Panics
    /// If it has not within [`PATIENCE`].
    #[track_caller]
    pub(crate) fn assert_ended(&mut self) {
        if let Some(reply) = self.try_reply() {
            panic!("not ended, but sent {:?}", reply.escape_ascii().to_string());
        }
        assert!(self.inbox.is_empty(), "ended within {:?}", self.inbox.escape_ascii().to_string());
    }

    #[track_caller]
    pub(crate) fn assert_answers(&mut self) {
        assert_eq!(self.ask("PING"), "+PONG\r\n");
    }

    /// The id by which the server knows this connection.
    #[track_caller]
    pub(crate) fn id(&mut self) -> u64 {
        let reply = self.ask("CLIENT ID");
        reply.trim_start_matches(':').trim_end().parse().unwrap()
    }
}

fn unless_it_would_block(result: std::io::Result<usize>) -> Option<usize> {
    match result {
        Ok(count) => Some(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

/// A command as it travels.
pub(crate) fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut packed = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        packed.extend_from_slice(&bulk(word));
    }
    packed
}

/// A string as it travels.
pub(crate) fn bulk(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(bytes.len() + 32);
    packed.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
    packed.extend_from_slice(bytes);
    packed.extend_from_slice(b"\r\n");
    packed
}

/// Takes all whole values off the front.
fn values_at_front(inbox: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let mut rest = &inbox[..];
    while let Some(length) = length_of_value(rest) {
        values.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    let taken = inbox.len() - rest.len();
    inbox.drain(..taken);
    values
}

/// Bytes of the value at the front, RESP2 or RESP3; `None` if it is not all there.
fn length_of_value(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let count = || std::str::from_utf8(&bytes[1..line - 2]).unwrap().parse::<i64>().unwrap();
    let parts = match bytes[0] {
        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => 0,
        b'$' | b'=' | b'!' => {
            let whole = usize::try_from(count()).map_or(line, |text| line + text + 2);
            return (bytes.len() >= whole).then_some(whole);
        }
        b'*' | b'~' | b'>' => count().max(0),
        b'%' => 2 * count(),
        // What it says is about the value that follows.
        b'|' => 2 * count() + 1,
        other => panic!("no value begins with {:?}", char::from(other)),
    };
    (0..parts).try_fold(line, |length, _| Some(length + length_of_value(&bytes[length..])?))
}
