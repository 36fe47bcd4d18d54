//! A server that refuses, and offers that no client may use: the connection goes on over its
//! socket.

use super::{RING, Scenario};
use crate::conformance::forged::{
    Forged, UNEVEN_RINGS, UNSEALED, WRONG_MAGIC, WRONG_SIZE, WRONG_VERSION, pipe,
};
use crate::conformance::offer::{Offer, answer};
use crate::conformance::session::{Played, Session, deliver};
use shm_fifo::region::Token;
use std::os::fd::OwnedFd;

const OPEN: &str = "protocol.md: SHM.OPEN";
const REGION: &str = "protocol.md: The region";
const ATTACHING: &str = "layout.md: Attaching";
const START: &str = "protocol.md: Requests before the answer";

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::well("no-module", "stay where the server does not know SHM.OPEN", OPEN, |session| {
        refused(session, b"-ERR unknown command 'SHM.OPEN', with args beginning with: '2' \r\n")
    }),
    Scenario::well("no-permission", "stay where its user may not", OPEN, |session| {
        refused(session, b"-NOPERM this user has no permissions to run the 'shm.open' command\r\n")
    }),
    Scenario::well("not-logged-in", "stay where nobody may without a login", OPEN, |session| {
        refused(session, b"-NOAUTH Authentication required.\r\n")
    }),
    Scenario::well("limit-reached", "stay where there is no memory for it", OPEN, |session| {
        refused(session, b"-ERR SHM.OPEN: shm.max-sessions (1) is reached; raise it\r\n")
    }),
    Scenario::well("no-descriptor", "stay where no descriptor comes", OPEN, no_descriptor),
    Scenario::well("pipe-for-a-region", "use nothing but a region", REGION, |session| {
        offered_another(session, &pipe()?)
    }),
    Scenario::well("unsealed", "use no file that can shrink", REGION, |session| {
        offered_forged(session, UNSEALED)
    }),
    Scenario::well("wrong-magic", "use no file that begins otherwise", ATTACHING, |session| {
        offered_forged(session, WRONG_MAGIC)
    }),
    Scenario::well("wrong-version", "use no other layout version", ATTACHING, |session| {
        offered_forged(session, WRONG_VERSION)
    }),
    Scenario::well(
        "wrong-size",
        "use no file of another size than its rings'",
        ATTACHING,
        |session| offered_forged(session, WRONG_SIZE),
    ),
    Scenario::well("uneven-rings", "use no rings that are no power of two", ATTACHING, |session| {
        offered_forged(session, UNEVEN_RINGS)
    }),
    Scenario::well(
        "other-token",
        "use no region that the answer does not name",
        REGION,
        other_token,
    )
    .over_tcp(),
    Scenario::well("no-token", "use no region where the answer names none", REGION, no_token)
        .over_tcp(),
    Scenario::well(
        "strangers-memory",
        "write nothing into a region that somebody else has sent",
        REGION,
        strangers_memory,
    )
    .over_tcp(),
    Scenario::well(
        "start-refused",
        "send again on the socket what is in the ring",
        START,
        |session| refused_to_start(session, b"-BUSY Redis is busy running a script\r\n"),
    ),
    Scenario::well("start-expired", "go on where the offer has expired", START, |session| {
        refused_to_start(session, b"-ERR SHM.START: nothing is offered; send SHM.OPEN\r\n")
    }),
    Scenario::well("start-forbidden", "go on where its user may not any more", START, |session| {
        refused_to_start(session, b"-NOPERM this user has no permissions\r\n")
    }),
];

fn refused(session: &mut Session, answer: &[u8]) -> Played {
    session.until_open()?;
    session.refuse(answer)?;
    session.go_on()?;
    session.finish()
}

fn no_descriptor(session: &mut Session) -> Played {
    let fd_socket = session.until_open()?;
    let answer = answer(Token::from_bytes([7; 16]), fd_socket.as_deref());
    session.wire.say(&answer)?;
    session.go_on()?;
    session.finish()
}

fn offered_forged(session: &mut Session, forged: Forged) -> Played {
    offered_another(session, &forged.make()?)
}

/// The token is the one that a forged region has.
fn offered_another(session: &mut Session, fd: &OwnedFd) -> Played {
    let fd_socket = session.until_open()?;
    let answer = answer(Token::from_bytes([0; 16]), fd_socket.as_deref());
    session.offer_as(fd, fd_socket.as_deref(), &answer)?;
    session.go_on()?;
    session.finish()
}

fn other_token(session: &mut Session) -> Played {
    offered_region_of(session, b"+OK 00000000000000000000000000000000\r\n")
}

fn no_token(session: &mut Session) -> Played {
    offered_region_of(session, b"+OK\r\n")
}

/// A good region, with this answer.
fn offered_region_of(session: &mut Session, answer: &[u8]) -> Played {
    let fd_socket = session.until_open()?;
    session.offer_as(&Offer::make(RING)?.fd, fd_socket.as_deref(), answer)?;
    session.go_on()?;
    session.finish()
}

/// It may look for the server's own among what has come, or stay.
fn strangers_memory(session: &mut Session) -> Played {
    let fd_socket = session.until_open()?;
    let (strangers, own) = (Offer::make(RING)?, Offer::make(RING)?);
    if let Some(name) = &fd_socket {
        deliver(name, &strangers.fd)?;
    }
    session.offer(&own, fd_socket.as_deref())?;
    session.enter_if_it_starts(own)?;
    session.go_on()?;
    session.nothing_was_written(&strangers)?;
    session.finish()
}

fn refused_to_start(session: &mut Session, answer: &[u8]) -> Played {
    let fd_socket = session.until_open()?;
    let offer = Offer::make(RING)?;
    session.offer(&offer, fd_socket.as_deref())?;
    session.until_start(&offer)?;
    session.watch_it_wait(&offer)?;
    session.refuse(answer)?;
    session.go_on()?;
    session.finish()
}
