//! Why a connection did not move, or was lost while it tried.

use super::machine::Violation;
use super::words::{NO_DESCRIPTOR, NO_MODULE, NO_PERMISSION, NOT_ATTACHED, NOT_LOGGED_IN, REFUSED};
use crate::reply::ReplyError;
use crate::stream::Stream;
use shm_fifo::region::AttachError;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Why a connection stayed on its socket, where it works as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The server does not know `SHM.OPEN`.
    #[error("{NO_MODULE}; load it with MODULE LOAD or a loadmodule line in redis.conf")]
    NoModule,
    /// The server runs on another host. It was not asked.
    #[error(
        "the server at {0} runs on another host; shared memory needs a unix socket, a loopback \
         address or an address of this host"
    )]
    RemotePeer(SocketAddr),
    /// This user may not use `SHM.OPEN` or `SHM.START`.
    #[error("{NO_PERMISSION}")]
    NoPermission,
    /// Nobody may, who has not logged in.
    #[error("{NOT_LOGGED_IN}; give user and password")]
    NotLoggedIn,
    /// The server said no; its text says why.
    #[error("{REFUSED}: {0}")]
    Refused(String),
    /// The server said yes, but no file descriptor came with it.
    #[error(
        "{NO_DESCRIPTOR}; connect to the server itself, and in its network namespace if over TCP"
    )]
    NoDescriptor,
    /// What came is not shared memory that can be used safely.
    #[error("{NOT_ATTACHED}: {0}; use the same version of shm-fifo in server and client")]
    Attach(#[from] AttachError),
    /// What came over TCP is not what the server offers. Anybody in the network namespace may
    /// send something there.
    #[error(
        "the shared memory that arrived is not the server's: another program sent it, or the \
         server's module is older than this; connect by unix socket"
    )]
    NotTheServers,
    /// The socket for the file descriptor could not be made.
    #[error("cannot make the socket on which shared memory arrives: {0}; connect by unix socket")]
    FdSocket(#[source] io::Error),
}

/// The connection was lost while it tried to move.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// The server ended the connection.
    #[error("the server ended the connection while it was moving to shared memory; see its log")]
    Ended,
    /// No answer came in time, so the connection's state is unknown.
    #[error(
        "the server did not answer SHM.OPEN or SHM.START in time; allow it more or see its log"
    )]
    TimedOut,
    /// The server sent something that the protocol does not know here.
    #[error(
        "while moving to shared memory the server sent {0}; is it the shm module that answers?"
    )]
    Violation(&'static str),
    /// The server sent something that is no reply at all.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// The socket failed.
    #[error("the connection failed while it was moving to shared memory: {0}")]
    Io(#[source] io::Error),
}

impl From<Violation> for MoveError {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Reply(error) => Self::Reply(error),
            Violation::Unexpected(what) => Self::Violation(what),
        }
    }
}

impl From<io::Error> for MoveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Io(error),
        }
    }
}

/// The refusal that is certain before the server is asked.
pub(super) fn without_asking(stream: &Stream) -> Option<Refusal> {
    match stream.tcp_addresses()? {
        Ok((peer, own)) if is_this_host(peer.ip(), own.ip()) => None,
        Ok((peer, _)) => Some(Refusal::RemotePeer(peer)),
        // The socket has failed; asking will tell how.
        Err(_) => None,
    }
}

fn is_this_host(peer: IpAddr, own: IpAddr) -> bool {
    peer.to_canonical().is_loopback() || peer == own
}

impl Refusal {
    /// Whether the same connection may not be refused later: a limit was reached, or the
    /// server has no module at the moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::NoModule | Self::Refused(_))
    }

    /// What the server means by this answer to `SHM.OPEN` or `SHM.START`. Of a long one the
    /// beginning will do.
    pub(super) fn in_answer(answer: &[u8]) -> Self {
        let begins_with = |beginning: &str| {
            let part = answer.get(..beginning.len());
            part.is_some_and(|part| part.eq_ignore_ascii_case(beginning.as_bytes()))
        };
        if begins_with("-ERR unknown command") {
            Self::NoModule
        } else if begins_with("-NOPERM") {
            Self::NoPermission
        } else if begins_with("-NOAUTH") {
            Self::NotLoggedIn
        } else {
            Self::Refused(text_of(answer))
        }
    }
}

/// An error's text, or what came in its place.
fn text_of(answer: &[u8]) -> String {
    let text = answer.strip_prefix(b"-").unwrap_or(answer);
    String::from_utf8_lossy(text).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_own_addresses_are_this_host() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(is_this_host(ip("127.0.0.1"), ip("127.0.0.1")));
        assert!(is_this_host(ip("127.9.9.9"), ip("127.0.0.1")));
        assert!(is_this_host(ip("::1"), ip("::1")));
        assert!(is_this_host(ip("::ffff:127.0.0.1"), ip("::ffff:127.0.0.1")));
        assert!(is_this_host(ip("192.0.2.7"), ip("192.0.2.7")));
        assert!(!is_this_host(ip("192.0.2.7"), ip("192.0.2.8")));
    }

    #[test]
    fn a_refusal_is_known_by_its_first_words() {
        let table: [(&[u8], Refusal, bool); 8] = [
            (b"-ERR unknown command 'SHM.OPEN', with args\r\n", Refusal::NoModule, true),
            (b"-err Unknown Command\r\n", Refusal::NoModule, true),
            (b"-NOPERM this user has no permissions\r\n", Refusal::NoPermission, false),
            (b"-NOAUTH Authentication required.\r\n", Refusal::NotLoggedIn, false),
            (b"-NOA", Refusal::Refused("NOA".to_owned()), true),
            (b"-ERR SHM.OPEN: no\r\n", Refusal::Refused("ERR SHM.OPEN: no".to_owned()), true),
            (b"-LOADING Redis\r\n", Refusal::Refused("LOADING Redis".to_owned()), true),
            (b"+QUEUED\r\n", Refusal::Refused("+QUEUED".to_owned()), true),
        ];
        for (answer, expected, may_pass) in table {
            let refusal = Refusal::in_answer(answer);
            assert_eq!(refusal.to_string(), expected.to_string());
            assert_eq!(refusal.may_pass(), may_pass, "{refusal}");
        }
    }

    #[test]
    fn a_text_is_an_errors_or_what_came_in_its_place() {
        assert_eq!(text_of(b"-ERR SHM.OPEN: no\r\n"), "ERR SHM.OPEN: no");
        assert_eq!(text_of(b"+QUEUED\r\n"), "+QUEUED");
        assert_eq!(text_of(b"-ERR \xff cut of"), "ERR \u{fffd} cut of");
    }
}
