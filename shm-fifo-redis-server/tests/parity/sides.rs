//! A stream of commands, first over a socket and then over shared memory, to one server
//! that is empty each time: it has one seed for its hash tables, so the order of their
//! members is the same as well.

use crate::difference::{described, first_difference};
use crate::generator::{CommandStream, Step};
use crate::line::{Line, Way};
use crate::normalise::HELLO_ID;
use crate::shrink::shrunk;
use crate::support::{Random, TestServer, Wire};

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

/// One server, and what is used beside the connection that is tested.
pub(crate) struct Sides<'s> {
    server: &'s TestServer,
    beside: Wire,
    /// Requests are cut at other places each time.
    cuts: Random,
}

impl<'s> Sides<'s> {
    pub(crate) fn of(server: &'s TestServer) -> Self {
        Self { server, beside: server.plain(), cuts: Random::seeded(u64::from(server.port())) }
    }

    /// Returns how many bytes of replies were the same, or what was not.
    pub(crate) fn compare(&mut self, stream: &CommandStream) -> Result<usize, String> {
        let [socket, shared] = Way::BOTH.map(|way| self.transcript(stream, way));
        if socket == shared {
            return Ok(socket.iter().map(Vec::len).sum());
        }
        Err(first_difference(&socket, &shared))
    }

    /// A stream that differs, as short as it can be made.
    pub(crate) fn explained(&mut self, stream: &CommandStream) -> String {
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
                let mut replies = Vec::new();
                if self.is_blocked(line) {
                    replies = self.say_beside(then);
                }
                if self.is_blocked(line) {
                    let how = if *with_error { "ERROR" } else { "TIMEOUT" };
                    self.beside.ask(&format!("CLIENT UNBLOCK {} {how}", line.id));
                }
                replies.extend(line.finish()?);
                Ok(replies)
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
