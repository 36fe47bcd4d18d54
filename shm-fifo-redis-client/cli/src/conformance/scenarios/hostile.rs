//! A server that breaks the protocol: the client ends that connection, and nothing else.

use super::{SMALL_RING, Scenario};
use crate::conformance::offer::Offer;
use crate::conformance::session::{Played, Session};
use crate::conformance::wire::words;
use std::thread::sleep;
use std::time::Duration;

const POSITIONS: &str = "layout.md: What each side keeps in private memory";
const SLEEPING: &str = "layout.md: Sleeping";
const START: &str = "protocol.md: SHM.START";

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::error("tail-too-far", "check the server's tail", POSITIONS, tail_too_far),
    Scenario::error("tail-moved-back", "check the server's tail", POSITIONS, tail_moved_back),
    Scenario::error("head-too-far", "check the server's head", POSITIONS, head_too_far),
    Scenario::error("head-moved-back", "check the server's head", POSITIONS, head_moved_back),
    Scenario::error("no-doorbell", "take no other byte for a doorbell", SLEEPING, no_doorbell),
    Scenario::error(
        "bytes-behind-the-doorbell",
        "take no other byte for a doorbell",
        START,
        bytes_behind_the_doorbell,
    ),
    Scenario::error("other-answer", "take nothing but +OK first in the ring", START, other_answer),
    Scenario::error(
        "ok-on-the-socket",
        "take no +OK on the socket for a start",
        START,
        ok_on_the_socket,
    ),
];

fn tail_too_far(session: &mut Session) -> Played {
    wrong_tail(session, |tail| tail + SMALL_RING as u64 + 1)
}

fn tail_moved_back(session: &mut Session) -> Played {
    wrong_tail(session, |tail| tail - 1)
}

/// It waits for a reply, and so looks. What it would find, did it not check, is the last reply
/// of all: it would be content.
fn wrong_tail(session: &mut Session, change: fn(u64) -> u64) -> Played {
    session.share(SMALL_RING)?;
    session.exchange(&[10, 100])?;
    session.fill_with_last_replies(SMALL_RING)?;
    session.until_it_waits()?;
    session.wire.scribble(words::REPLIES_TAIL, change)?;
    session.wire.ring(1);
    session.until_it_ends()
}

fn head_too_far(session: &mut Session) -> Played {
    wrong_head(session, |head| head + 3 * SMALL_RING as u64)
}

/// More than a ring has passed by then.
fn head_moved_back(session: &mut Session) -> Played {
    wrong_head(session, |_| 0)
}

/// It has more to send than the ring takes, and so looks.
fn wrong_head(session: &mut Session, change: fn(u64) -> u64) -> Played {
    session.share(SMALL_RING)?;
    session.exchange(&[3 * SMALL_RING, 10])?;
    session.until_it_waits()?;
    session.give(3 * SMALL_RING)?;
    session.wire.scribble(words::REQUESTS_HEAD, change)?;
    // It may sleep for space by now, as it may where the server has read.
    const IT_SLEEPS: Duration = Duration::from_millis(20);
    sleep(IT_SLEEPS);
    session.wire.ring(1);
    session.until_it_ends()
}

fn no_doorbell(session: &mut Session) -> Played {
    session.share(SMALL_RING)?;
    session.exchange(&[10])?;
    session.until_it_waits()?;
    session.wire.say_on_socket(b"+");
    session.until_it_ends()
}

fn bytes_behind_the_doorbell(session: &mut Session) -> Played {
    started(session)?;
    session.wire.say_on_socket(b"\0+OK\r\n");
    session.until_it_ends()
}

fn other_answer(session: &mut Session) -> Played {
    let offer = started(session)?;
    session.wire.enter(offer)?;
    session.wire.say(b"-NO\r\n")?;
    session.until_it_ends()
}

fn ok_on_the_socket(session: &mut Session) -> Played {
    started(session)?;
    session.wire.say_on_socket(b"+OK\r\n");
    session.until_it_ends()
}

/// The client has accepted what is offered.
fn started(session: &mut Session) -> Played<Offer> {
    let fd_socket = session.until_open()?;
    let offer = Offer::make(SMALL_RING)?;
    session.offer(&offer, fd_socket.as_deref())?;
    session.until_start(&offer)?;
    Ok(offer)
}
