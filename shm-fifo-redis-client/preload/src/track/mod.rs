//! What a connection's bytes say of it: whether a reply is outstanding, and
//! whether it may move.
//!
//! At anything that is not understood, or that makes replies come otherwise than
//! one for each request, the connection is given up: it stays where it is.

mod requests;

use requests::{Request, RequestScanner};
use shm_fifo_redis_client::ReplyError;
pub(crate) use shm_fifo_redis_client::wire::{ReplyScanner, Scanned};
use std::collections::VecDeque;

/// Nothing more can be said of this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GivenUp;

impl From<ReplyError> for GivenUp {
    fn from(_: ReplyError) -> Self {
        Self
    }
}

/// How often a server is asked that refuses for the moment.
const MAX_ATTEMPTS: u32 = 3;
/// Logins whose replies are on their way.
const MAX_LOGINS: usize = 64;
/// Replies that came before their requests were seen.
const MAX_EARLY: usize = 1024;

/// The count of one connection's requests and replies.
#[derive(Debug)]
pub(crate) struct Tracker {
    requests: RequestScanner,
    replies: ReplyScanner,
    requested: u64,
    answered: u64,
    /// The types of replies to requests that another thread is still sending.
    early: VecDeque<u8>,
    /// The numbers of the requests that log in, whose replies are on their way.
    logins: VecDeque<u64>,
    in_transaction: bool,
    /// The last request changes the meaning of the next one.
    is_prefix: bool,
    /// Whether the server is to be asked.
    wanted: bool,
    attempts: u32,
    after_commands: u64,
}

impl Tracker {
    /// Of a connection that moves after so many commands.
    pub(crate) fn new(after_commands: u64) -> Self {
        Self {
            requests: RequestScanner::default(),
            replies: ReplyScanner::default(),
            requested: 0,
            answered: 0,
            early: VecDeque::new(),
            logins: VecDeque::new(),
            in_transaction: false,
            is_prefix: false,
            wanted: true,
            attempts: 0,
            after_commands,
        }
    }

    /// The program sent these bytes.
    pub(crate) fn sent(&mut self, mut bytes: &[u8]) -> Result<(), GivenUp> {
        while !bytes.is_empty() {
            let (taken, request) = self.requests.next(bytes)?;
            bytes = &bytes[taken..];
            if let Some(request) = request {
                self.requested(&request)?;
                if let Some(kind) = self.early.pop_front() {
                    self.answered(kind)?;
                }
            }
        }
        Ok(())
    }

    /// Nobody is sending any more: what has been answered was sent.
    pub(crate) fn all_sent(&self) -> Result<(), GivenUp> {
        if self.early.is_empty() { Ok(()) } else { Err(GivenUp) }
    }

    /// The program received these bytes. They may be early: the requests may be what
    /// another thread has sent and not told of yet.
    pub(crate) fn received(&mut self, mut bytes: &[u8], may_be_early: bool) -> Result<(), GivenUp> {
        while !bytes.is_empty() {
            let Scanned { taken, value } = self.replies.next(bytes)?;
            bytes = &bytes[taken..];
            match value {
                // Unasked, or said about the reply that follows.
                None | Some(b'>' | b'|') => {}
                Some(kind) if self.answered == self.requested && may_be_early => {
                    self.early.push_back(kind);
                    if self.early.len() > MAX_EARLY {
                        return Err(GivenUp);
                    }
                }
                Some(kind) => self.answered(kind)?,
            }
        }
        Ok(())
    }

    /// Whether the server may be asked now: everything is answered.
    pub(crate) fn may_move(&self) -> bool {
        self.wanted
            && self.answered >= self.after_commands
            && self.answered == self.requested
            && self.early.is_empty()
            && self.requests.is_between()
            && self.replies.is_between()
            && !self.in_transaction
            && !self.is_prefix
    }

    /// The server was asked.
    pub(crate) fn asked(&mut self) {
        self.wanted = false;
        self.attempts += 1;
    }

    /// It may be granted the next time: worth another try, if not too often.
    pub(crate) fn refused_transiently(&mut self) {
        self.wanted = self.attempts < MAX_ATTEMPTS;
    }

    fn requested(&mut self, request: &Request) -> Result<(), GivenUp> {
        let name = request.name();
        match name {
            // Replies come unasked from now on, or this is no client any more.
            b"MONITOR" | b"SUBSCRIBE" | b"PSUBSCRIBE" | b"SSUBSCRIBE" | b"UNSUBSCRIBE"
            | b"PUNSUBSCRIBE" | b"SUNSUBSCRIBE" | b"SYNC" | b"PSYNC" | b"REPLCONF" | b"QUIT" => {
                return Err(GivenUp);
            }
            // A debugger that needs a plain socket; a program that does it itself.
            b"SCRIPT" if request.argument() == b"DEBUG" => return Err(GivenUp),
            b"SHM.OPEN" | b"SHM.START" => return Err(GivenUp),
            b"CLIENT" if request.argument() == b"REPLY" => return Err(GivenUp),
            b"MULTI" => self.in_transaction = true,
            b"EXEC" | b"DISCARD" | b"RESET" => self.in_transaction = false,
            b"AUTH" | b"HELLO" if self.logins.len() < MAX_LOGINS => {
                self.logins.push_back(self.requested);
            }
            _ => {}
        }
        self.is_prefix = name == b"ASKING" || name == b"CLIENT" && request.argument() == b"CACHING";
        self.requested += 1;
        Ok(())
    }

    fn answered(&mut self, kind: u8) -> Result<(), GivenUp> {
        if self.answered == self.requested {
            return Err(GivenUp);
        }
        if self.logins.front() == Some(&self.answered) {
            self.logins.pop_front();
            // What was refused before may be granted to this user.
            self.wanted |= kind != b'-' && kind != b'!';
        }
        self.answered += 1;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
    const PONG: &[u8] = b"+PONG\r\n";

    fn after(commands: u64, exchange: &[(&[u8], &[u8])]) -> Result<bool, GivenUp> {
        let mut tracker = Tracker::new(commands);
        for (request, reply) in exchange {
            tracker.sent(request)?;
            tracker.received(reply, false)?;
        }
        Ok(tracker.may_move())
    }

    #[test]
    fn it_may_move_once_enough_commands_are_answered() {
        assert_eq!(after(2, &[(PING, PONG)]), Ok(false));
        assert_eq!(after(2, &[(PING, PONG), (PING, PONG)]), Ok(true));
        assert_eq!(after(1, &[(PING, PONG), (PING, b"")]), Ok(false));
        assert_eq!(after(1, &[(PING, b"+PONG\r\n+PONG\r\n")]), Err(GivenUp));
        assert_eq!(after(1, &[(PING, PONG), (b"*1\r\n$4\r\nPI", b"")]), Ok(false));
    }

    #[test]
    fn pushes_and_attributes_are_no_replies() {
        let push = b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n+PONG\r\n";
        assert_eq!(after(1, &[(PING, push)]), Ok(true));
        let attribute = b"|1\r\n+ttl\r\n:3\r\n+PONG\r\n";
        assert_eq!(after(1, &[(PING, attribute)]), Ok(true));
    }

    #[test]
    fn it_stays_in_a_transaction_and_before_what_a_prefix_changes() {
        let multi = b"*1\r\n$5\r\nmulti\r\n";
        let exec = b"*1\r\n$4\r\nEXEC\r\n";
        assert_eq!(after(1, &[(multi, b"+OK\r\n")]), Ok(false));
        assert_eq!(after(1, &[(multi, b"+OK\r\n"), (exec, b"*0\r\n")]), Ok(true));
        assert_eq!(after(1, &[(b"*1\r\n$6\r\nASKING\r\n", b"+OK\r\n")]), Ok(false));
        let caching = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n";
        assert_eq!(after(1, &[(caching, b"+OK\r\n")]), Ok(false));
        assert_eq!(after(1, &[(caching, b"+OK\r\n"), (PING, PONG)]), Ok(true));
    }

    #[test]
    fn what_breaks_the_count_is_given_up() {
        let table: [&[u8]; 6] = [
            b"*1\r\n$7\r\nMONITOR\r\n",
            b"*2\r\n$9\r\nsubscribe\r\n$1\r\na\r\n",
            b"*3\r\n$6\r\nCLIENT\r\n$5\r\nreply\r\n$3\r\noff\r\n",
            b"*2\r\n$8\r\nSHM.OPEN\r\n$1\r\n2\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            b"SET a \"b c\"\r\n",
        ];
        for request in table {
            assert_eq!(after(1, &[(request, b"")]), Err(GivenUp), "{request:?}");
        }
        assert_eq!(after(1, &[(b"", PONG)]), Err(GivenUp));
    }

    #[test]
    fn a_reply_may_overtake_what_is_known_of_its_request() {
        let mut tracker = Tracker::new(1);
        tracker.received(PONG, true).unwrap();
        tracker.received(PONG, true).unwrap();
        assert!(!tracker.may_move());
        tracker.sent(PING).unwrap();
        assert!(!tracker.may_move());
        assert_eq!(tracker.all_sent(), Err(GivenUp));
        tracker.sent(PING).unwrap();
        assert_eq!(tracker.all_sent(), Ok(()));
        assert!(tracker.may_move());
    }

    #[test]
    fn a_refused_connection_tries_again_after_a_login() {
        let mut tracker = Tracker::new(0);
        tracker.asked();
        assert!(!tracker.may_move());
        let auth = b"*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n";
        tracker.sent(auth).unwrap();
        tracker.received(b"-WRONGPASS no\r\n", false).unwrap();
        assert!(!tracker.may_move());
        tracker.sent(auth).unwrap();
        tracker.received(b"+OK\r\n", false).unwrap();
        assert!(tracker.may_move());
    }

    #[test]
    fn a_transient_refusal_is_forgiven_a_few_times() {
        let mut tracker = Tracker::new(0);
        for attempt in 1..=MAX_ATTEMPTS {
            assert!(tracker.may_move(), "attempt {attempt}");
            tracker.asked();
            tracker.refused_transiently();
        }
        assert!(!tracker.may_move());
    }
}
