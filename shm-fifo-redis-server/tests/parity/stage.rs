//! A scenario with several connections, played once on sockets and once in shared memory,
//! each time with a server of its own.

use crate::line::{Line, Way, is_end};
use crate::normalise::{DIRECTORY, Normalisation};
use crate::support::{PATIENCE, Random, ServerOptions, TestServer, Wire, wait_until};
use std::cell::RefCell;
use std::io::Write as _;
use std::time::Instant;

/// Entries before the first difference that a failure shows.
const SHOWN_ENTRIES: usize = 3;
const SHOWN_BYTES: usize = 2000;

/// Who received something, and what.
type Entry = (String, Vec<u8>);

/// Plays `scenario` both ways.
///
/// # Panics
/// If anybody in it receives something else in shared memory.
pub(crate) fn compare(scenario: impl Fn(&Stage)) {
    compare_on(&ServerOptions::default(), scenario);
}

/// As [`compare`], with servers that are started in a particular way.
pub(crate) fn compare_on(options: &ServerOptions, scenario: impl Fn(&Stage)) {
    let [socket, shared] = Way::BOTH.map(|way| {
        let server = options.clone().start();
        let stage = Stage { server, way, transcript: RefCell::default() };
        scenario(&stage);
        stage.transcript.into_inner()
    });
    let pairs = socket.iter().zip(&shared);
    let same = pairs.take_while(|(socket, shared)| socket == shared).count();
    if same < socket.len().max(shared.len()) {
        let first = same.saturating_sub(SHOWN_ENTRIES);
        let before: String = socket[first..same].iter().map(|entry| shown(Some(entry))).collect();
        let (socket, shared) = (shown(socket.get(same)), shown(shared.get(same)));
        panic!("after\n{before}on a socket\n{socket}in shared memory\n{shared}");
    }
    assert!(same > 0, "nothing was compared");
}

fn shown(entry: Option<&Entry>) -> String {
    let Some((who, bytes)) = entry else { return "  nothing more\n".to_owned() };
    let bytes = &bytes[..bytes.len().min(SHOWN_BYTES)];
    format!("  {who}: {}\n", bytes.escape_ascii())
}

/// Where a scenario is played.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) server: TestServer,
    way: Way,
    transcript: RefCell<Vec<Entry>>,
}

impl Stage {
    /// A connection that is compared.
    pub(crate) fn client(&self, name: &'static str) -> Actor<'_> {
        let mut wire = self.way.connect(&self.server);
        let id = wire.id();
        Actor { stage: self, name, id, wire }
    }

    /// A connection for bytes that are no commands.
    pub(crate) fn line(&self, cuts: u64) -> Line {
        Line::connect(&self.server, self.way, Random::seeded(cuts + self.way as u64))
    }

    /// All that comes back on a line, and whether the server has ended it.
    ///
    /// # Panics
    /// If it is neither answered nor ended.
    pub(crate) fn finish(&self, line: &mut Line) {
        match line.finish() {
            Ok(replies) => self.record("line", &replies),
            Err(error) => {
                let client = self.server.ask(&format!("CLIENT LIST ID {}", line.id));
                panic!("{:?}: {error}\n{client}", self.way);
            }
        }
        self.record("line", if line.has_ended() { b"the end" } else { b"it goes on" });
    }

    /// What a connection on a socket is answered, which is compared as well.
    pub(crate) fn aside(&self, command: &str) {
        let reply = self.server.ask(command);
        self.record("aside", reply.as_bytes());
    }

    pub(crate) fn record(&self, who: &str, bytes: &[u8]) {
        let directory = self.server.file("");
        let name = directory.to_str().unwrap().trim_end_matches('/');
        let bytes = DIRECTORY.apply_to(bytes, name);
        self.transcript.borrow_mut().push((who.to_owned(), bytes));
    }
}

/// A connection of a scenario.
#[derive(Debug)]
pub(crate) struct Actor<'s> {
    stage: &'s Stage,
    name: &'static str,
    /// How the server knows it.
    pub(crate) id: u64,
    wire: Wire,
}

impl Actor<'_> {
    #[track_caller]
    pub(crate) fn send(&mut self, command: &str) {
        self.wire.send(command);
    }

    #[track_caller]
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.wire.send_bytes(bytes);
    }

    /// Sends until the server ends the connection.
    #[track_caller]
    pub(crate) fn send_in_vain(&mut self, bytes: &[u8]) {
        match self.wire.stream().write_all(bytes) {
            Ok(()) => {}
            Err(error) if is_end(error.kind()) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// The next reply or push, which is compared.
    #[track_caller]
    pub(crate) fn take(&mut self) -> String {
        let reply = self.wire.reply_bytes();
        self.stage.record(self.name, &reply);
        String::from_utf8_lossy(&reply).into_owned()
    }

    /// The next `count` of them.
    #[track_caller]
    pub(crate) fn take_times(&mut self, count: usize) {
        for _ in 0..count {
            self.take();
        }
    }

    /// As [`Actor::take`], but for what differs by nature.
    #[track_caller]
    pub(crate) fn take_as(&mut self, normalisation: &Normalisation) {
        let reply = self.wire.reply_bytes();
        self.stage.record(self.name, &normalisation.apply(&reply));
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.send(command);
        self.take()
    }

    #[track_caller]
    pub(crate) fn ask_words(&mut self, words: &[&str]) -> String {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.send_bytes(&crate::support::request(&words));
        self.take()
    }

    #[track_caller]
    pub(crate) fn ask_as(&mut self, normalisation: &Normalisation, command: &str) {
        self.send(command);
        self.take_as(normalisation);
    }

    /// Sends `requests` while it takes the `count` replies.
    #[track_caller]
    pub(crate) fn exchange(&mut self, requests: &[u8], count: usize) {
        for reply in self.wire.exchange(requests, count) {
            self.stage.record(self.name, &reply);
        }
    }

    /// What still comes, and then the end of the connection.
    #[track_caller]
    pub(crate) fn take_end(&mut self) {
        while let Some(reply) = self.wire.try_reply() {
            self.stage.record(self.name, &reply);
        }
        self.wire.assert_ended();
        self.stage.record(self.name, b"the end");
    }

    /// The end of the connection, whatever comes before: how much of a reply that is too
    /// large was sent depends on the buffers between.
    #[track_caller]
    pub(crate) fn take_end_only(&mut self) {
        let deadline = Some(Instant::now() + PATIENCE);
        let mut bytes = vec![0; 64 * 1024];
        loop {
            match self.wire.stream().read_until(&mut bytes, deadline) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if is_end(error.kind()) => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.stage.record(self.name, b"the end");
    }

    /// Everything up to `end`, which is no RESP, without comparing it.
    #[track_caller]
    pub(crate) fn read_through(&mut self, end: &[u8]) -> Vec<u8> {
        let deadline = Some(Instant::now() + PATIENCE);
        let mut bytes = Vec::new();
        while !bytes.ends_with(end) {
            let mut byte = [0];
            let count = self.wire.stream().read_until(&mut byte, deadline).unwrap();
            assert_eq!(count, 1, "it ended after {}", bytes.escape_ascii());
            bytes.push(byte[0]);
        }
        bytes
    }

    /// Passes over so many bytes.
    #[track_caller]
    pub(crate) fn skip(&mut self, count: usize) {
        let deadline = Some(Instant::now() + PATIENCE);
        let mut bytes = vec![0; count];
        let mut left = &mut bytes[..];
        while !left.is_empty() {
            let count = self.wire.stream().read_until(left, deadline).unwrap();
            assert!(count > 0, "it ended {} bytes too early", left.len());
            left = &mut left[count..];
        }
    }

    /// Sends a command and waits until the server lets this connection wait, or answers.
    #[track_caller]
    pub(crate) fn send_and_block(&mut self, command: &str) {
        self.send(command);
        let list = format!("CLIENT LIST ID {}", self.id);
        wait_until("the client is blocked", || {
            let line = self.stage.server.ask(&list);
            let flags = line.split_once(" flags=").and_then(|(_, rest)| rest.split(' ').next());
            flags.is_some_and(|flags| flags.contains('b')) || self.wire.has_reply()
        });
    }

    /// Waits until the server no longer knows it.
    #[track_caller]
    pub(crate) fn wait_until_gone(&self) {
        let list = format!("CLIENT LIST ID {}", self.id);
        wait_until("the client is gone", || !self.stage.server.ask(&list).contains("id="));
    }
}
