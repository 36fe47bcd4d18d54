//! What a connection's bytes say of it: whether a reply is outstanding, and
//! whether it may move.
//!
//! At anything that is not understood, or that makes replies come otherwise than
//! one for each request, the connection is given up: it stays where it is.

mod requests;

use crate::refusals::{self, User};
use crate::sys;
use requests::{Request, RequestScanner};
use shm_fifo_redis_client::wire::{ReplyScanner, Scanned};
use shm_fifo_redis_client::{Refusal, ReplyError};
use std::collections::VecDeque;

/// Nothing more can be said of this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GivenUp;

impl From<ReplyError> for GivenUp {
    fn from(_: ReplyError) -> Self {
        Self
    }
}

/// How long a server is left alone that has refused so many times: from a tenth of a
/// second to a minute.
fn pause_ns(attempts: u32) -> u64 {
    const FIRST_NS: u64 = 100_000_000;
    const LONGEST_NS: u64 = 60_000_000_000;
    FIRST_NS.checked_shl(attempts.saturating_sub(1).min(20)).unwrap_or(LONGEST_NS).min(LONGEST_NS)
}

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
    logins: VecDeque<(u64, User)>,
    in_transaction: bool,
    /// The last request changes the meaning of the next one.
    is_prefix: bool,
    wanted: Wanted,
    attempts: u32,
    /// The server's number.
    server: u64,
    /// Who is logged in there.
    user: User,
    after_commands: u64,
}

/// Whether the server is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Yes,
    /// From that moment on, in nanoseconds of the clock that never goes back.
    From(u64),
    No,
}

impl Tracker {
    /// Of a connection to this server that moves after so many commands.
    pub(crate) fn new(after_commands: u64, server: u64) -> Self {
        Self {
            requests: RequestScanner::default(),
            replies: ReplyScanner::default(),
            requested: 0,
            answered: 0,
            early: VecDeque::new(),
            logins: VecDeque::new(),
            in_transaction: false,
            is_prefix: false,
            wanted: Wanted::Yes,
            attempts: 0,
            server,
            user: User::default(),
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

    /// Whether no reply is outstanding, and the next request means what it says.
    pub(crate) fn is_quiet(&self) -> bool {
        self.answered == self.requested
            && self.early.is_empty()
            && self.requests.is_between()
            && self.replies.is_between()
            && !self.in_transaction
            && !self.is_prefix
    }

    /// Whether the server is to be asked, at a quiet moment.
    pub(crate) fn may_ask(&self) -> bool {
        let is_wanted = match self.wanted {
            Wanted::Yes => true,
            Wanted::From(ns) => sys::monotonic_ns() >= ns,
            Wanted::No => false,
        };
        is_wanted && self.answered >= self.after_commands
    }

    /// What the server has said lately to another connection of this user: until it may be
    /// asked again, this one does not want to.
    pub(crate) fn known_refusal(&mut self) -> Option<Refusal> {
        let (refusal, until_ns) = refusals::known(self.server, self.user)?;
        self.wanted = Wanted::From(until_ns);
        Some(refusal)
    }

    /// The server was asked.
    pub(crate) fn asked(&mut self) {
        self.wanted = Wanted::No;
        self.attempts += 1;
    }

    /// It said no: perhaps it is asked again, later.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.wanted = match refusal {
            Refusal::NoPermission => Wanted::From(sys::monotonic_ns() + refusals::NO_PERMISSION_NS),
            refusal if refusal.may_pass() => self.later(),
            _ => Wanted::No,
        };
        refusals::note(refusal, self.server, self.user);
    }

    /// Its offer was not started in time.
    pub(crate) fn missed_offer(&mut self) {
        self.wanted = self.later();
    }

    fn later(&self) -> Wanted {
        Wanted::From(sys::monotonic_ns() + pause_ns(self.attempts))
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
            b"SCRIPT" if request.argument_is(b"DEBUG") => return Err(GivenUp),
            b"SHM.OPEN" | b"SHM.START" => return Err(GivenUp),
            b"CLIENT" if request.argument_is(b"REPLY") => return Err(GivenUp),
            b"MULTI" => self.in_transaction = true,
            b"EXEC" | b"DISCARD" | b"RESET" => self.in_transaction = false,
            b"AUTH" | b"HELLO" if self.logins.len() < MAX_LOGINS => {
                self.logins.push_back((self.requested, User::of_login(request.words())));
            }
            _ => {}
        }
        self.is_prefix = name == b"ASKING" || name == b"CLIENT" && request.argument_is(b"CACHING");
        self.requested += 1;
        Ok(())
    }

    fn answered(&mut self, kind: u8) -> Result<(), GivenUp> {
        if self.answered == self.requested {
            return Err(GivenUp);
        }
        let answered = self.answered;
        let of_login = self.logins.front().is_some_and(|(login, _)| *login == answered);
        if of_login
            && let Some((_, user)) = self.logins.pop_front()
            && kind != b'-'
            && kind != b'!'
        {
            // What was refused before may be granted to this user.
            self.user = user;
            self.wanted = Wanted::Yes;
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
        let mut tracker = Tracker::new(commands, 0);
        for (request, reply) in exchange {
            tracker.sent(request)?;
            tracker.received(reply, false)?;
        }
        Ok(tracker.is_quiet() && tracker.may_ask())
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
        let mut tracker = Tracker::new(1, 0);
        tracker.received(PONG, true).unwrap();
        tracker.received(PONG, true).unwrap();
        assert!(!(tracker.is_quiet() && tracker.may_ask()));
        tracker.sent(PING).unwrap();
        assert!(!(tracker.is_quiet() && tracker.may_ask()));
        assert_eq!(tracker.all_sent(), Err(GivenUp));
        tracker.sent(PING).unwrap();
        assert_eq!(tracker.all_sent(), Ok(()));
        assert!((tracker.is_quiet() && tracker.may_ask()));
    }

    #[test]
    fn a_refused_connection_tries_again_after_a_login() {
        let mut tracker = Tracker::new(0, 0);
        tracker.asked();
        assert!(!(tracker.is_quiet() && tracker.may_ask()));
        let auth = b"*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n";
        tracker.sent(auth).unwrap();
        tracker.received(b"-WRONGPASS no\r\n", false).unwrap();
        assert!(!(tracker.is_quiet() && tracker.may_ask()));
        tracker.sent(auth).unwrap();
        tracker.received(b"+OK\r\n", false).unwrap();
        assert!((tracker.is_quiet() && tracker.may_ask()));
    }

    #[test]
    fn a_server_that_refused_is_left_alone_for_longer_each_time() {
        let mut tracker = Tracker::new(0, 0);
        tracker.asked();
        tracker.refused(&Refusal::Refused("ERR SHM.OPEN: not now".to_owned()));
        assert!(matches!(tracker.wanted, Wanted::From(_)));
        assert!(!tracker.may_ask());
        assert_eq!([1, 2, 5].map(pause_ns), [100_000_000, 200_000_000, 1_600_000_000]);
        assert_eq!([20, u32::MAX].map(pause_ns), [60_000_000_000; 2]);
    }

    #[test]
    fn who_may_not_ask_does_so_again_after_a_while() {
        let mut tracker = Tracker::new(0, 7);
        tracker.asked();
        tracker.refused(&Refusal::NoPermission);
        assert!(matches!(tracker.wanted, Wanted::From(_)));
        let mut other = Tracker::new(0, 7);
        assert!(other.may_ask());
        assert!(matches!(other.known_refusal(), Some(Refusal::NoPermission)));
        assert!(!other.may_ask());
        assert!(Tracker::new(0, 8).known_refusal().is_none());
    }

    #[test]
    fn users_are_told_apart() {
        let logged_in_by = |request: &[u8]| {
            let mut tracker = Tracker::new(0, 0);
            tracker.sent(request).unwrap();
            tracker.received(b"+OK\r\n", false).unwrap();
            tracker.user
        };
        let names = ["alice", "ALICE", "application-of-alice", "application-of-bob"];
        let users = names.map(|name| logged_in_by(format!("AUTH {name} pw\r\n").as_bytes()));
        let greeting = |name: &str| format!("HELLO 3 SETNAME app AUTH {name} pw\r\n");
        let greeted = names.map(|name| logged_in_by(greeting(name).as_bytes()));
        for users in [users, greeted] {
            assert!(
                (0..4).all(|one| (0..one).all(|other| users[one] != users[other])),
                "{users:?}"
            );
        }
    }
}
