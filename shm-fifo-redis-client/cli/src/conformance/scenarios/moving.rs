//! A server that moves the connection, as awkwardly as the protocol allows.

use super::{RING, SMALL_RING, Scenario};
use crate::conformance::offer::{OK, Offer};
use crate::conformance::session::{PUSH, Played, Session};
use crate::conformance::wire::words;
use std::thread::sleep;
use std::time::Duration;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::well(
        "move",
        "move, go on there as the same client, and ring a server that sleeps",
        "protocol.md: SHM.START",
        a_move,
    ),
    Scenario::well(
        "large-values",
        "pass values that are larger than a ring, and ring a server that waits for space",
        "layout.md: Writing",
        large_values,
    ),
    Scenario::well(
        "answer-in-pieces",
        "take the answer to SHM.OPEN in any pieces",
        "protocol.md: SHM.OPEN",
        answer_in_pieces,
    ),
    Scenario::well(
        "late-answer",
        "send nothing on the socket, and stay announced as asleep, until SHM.START is answered",
        "protocol.md: SHM.START",
        late_answer,
    ),
    Scenario::well(
        "pushes-around-the-move",
        "take pushes before, between and behind the answers, also one with a zero byte",
        "protocol.md: SHM.START",
        pushes_around_the_move,
    ),
    Scenario::well(
        "pushes-among-replies",
        "take pushes for no replies in the ring either",
        "protocol.md: Afterwards",
        pushes_among_replies,
    ),
    Scenario::well(
        "replies-byte-by-byte",
        "take a reply of which each byte is published alone, past the ring's end",
        "layout.md: Reading",
        replies_byte_by_byte,
    ),
    Scenario::well(
        "inline-lengths",
        "take an inline message if the key is that of what is there, and the ring's bytes if not",
        "layout.md: Reading",
        inline_lengths,
    ),
    Scenario::well(
        "doorbells-too-many",
        "take any number of doorbells for one",
        "protocol.md: Afterwards",
        doorbells_too_many,
    ),
    Scenario::well(
        "doorbells-for-nothing",
        "look, and sleep again, where a doorbell rings and nothing is there",
        "layout.md: Sleeping",
        doorbells_for_nothing,
    ),
    Scenario::well(
        "end-behind-the-last-reply",
        "read the last reply of a server that has closed the connection",
        "protocol.md: Afterwards",
        end_behind_the_last_reply,
    ),
    Scenario::well(
        "death-behind-the-last-reply",
        "read the last reply of a server that has died",
        "protocol.md: Afterwards",
        death_behind_the_last_reply,
    ),
    Scenario::well(
        "reset-behind-the-last-reply",
        "read the last reply of a server that has died before it rang, with doorbells unread",
        "protocol.md: Afterwards",
        reset_behind_the_last_reply,
    ),
    Scenario::well(
        "half-close-behind-the-last-reply",
        "read the last reply of a server that will say nothing more",
        "layout.md: The end",
        half_close_behind_the_last_reply,
    ),
];

/// Lengths around those of inline messages, to which a reply adds a line and an end.
const AROUND_INLINE: std::ops::Range<usize> = 36..52;

fn a_move(session: &mut Session) -> Played {
    session.share(RING)?;
    session.exchange(&[0, 1, 2, 100, 1000, 10_000])?;
    session.exchange(&[10; 500])?;
    session.finish()
}

fn large_values(session: &mut Session) -> Played {
    session.share(SMALL_RING)?;
    session.exchange(&[SMALL_RING - 100, SMALL_RING, SMALL_RING + 1, 100_000, 1 << 20])?;
    session.finish()
}

fn answer_in_pieces(session: &mut Session) -> Played {
    let fd_socket = session.until_open()?;
    session.wire.piece_bytes = 1;
    let offer = Offer::make(RING)?;
    session.offer(&offer, fd_socket.as_deref())?;
    session.wire.piece_bytes = usize::MAX;
    session.until_start(&offer)?;
    session.enter(offer)?;
    session.exchange(&[10, 20])?;
    session.finish()
}

fn late_answer(session: &mut Session) -> Played {
    let fd_socket = session.until_open()?;
    let offer = Offer::make(RING)?;
    session.offer(&offer, fd_socket.as_deref())?;
    session.until_start(&offer)?;
    session.watch_it_wait(&offer)?;
    session.enter(offer)?;
    session.exchange(&[10, 20])?;
    session.finish()
}

fn pushes_around_the_move(session: &mut Session) -> Played {
    let fd_socket = session.until_open()?;
    session.needs_pushes()?;
    session.wire.say(PUSH)?;
    let offer = Offer::make(RING)?;
    let answer = [&offer.answer(fd_socket.as_deref())[..], PUSH].concat();
    session.offer_as(&offer.fd, fd_socket.as_deref(), &answer)?;
    session.until_start(&offer)?;
    session.wire.say(PUSH)?;
    session.watch_it_wait(&offer)?;
    session.wire.say(PUSH)?;
    session.wire.enter(offer)?;
    session.wire.say(&[OK, PUSH].concat())?;
    session.exchange(&[10, 20])?;
    session.finish()
}

fn pushes_among_replies(session: &mut Session) -> Played {
    session.share(SMALL_RING)?;
    for length in 0..200 {
        session.until_it_waits()?;
        session.needs_pushes()?;
        session.wire.say(PUSH)?;
        session.give(length)?;
        session.wire.say(PUSH)?;
    }
    session.finish()
}

fn replies_byte_by_byte(session: &mut Session) -> Played {
    session.share(SMALL_RING)?;
    session.wire.piece_bytes = 1;
    session.exchange(&[100; 60])?;
    session.finish()
}

fn inline_lengths(session: &mut Session) -> Played {
    session.share(SMALL_RING)?;
    let lengths: Vec<usize> = AROUND_INLINE.flat_map(|length| [length, 100, length]).collect();
    for length in lengths {
        session.until_it_waits()?;
        // What a longer message leaves there is of the last that was short enough, or nothing.
        let (bits, lies) = (session.wire.said_in_rings() << 6, [0, 1, 49, 63]);
        session.wire.scribble(words::REPLIES_KEY, |_| bits | lies[length % lies.len()])?;
        session.give(length)?;
    }
    session.finish()
}

fn doorbells_too_many(session: &mut Session) -> Played {
    session.share(RING)?;
    session.wire.spare_doorbells = 3;
    session.exchange(&[10; 200])?;
    session.finish()
}

fn doorbells_for_nothing(session: &mut Session) -> Played {
    const ITS_SPIN_IS_OVER: Duration = Duration::from_millis(2);
    session.share(RING)?;
    for _ in 0..20 {
        session.until_it_waits()?;
        for doorbells in 0..3 {
            sleep(ITS_SPIN_IS_OVER);
            session.wire.ring(doorbells);
        }
        session.give(10)?;
    }
    session.finish()
}

fn end_behind_the_last_reply(session: &mut Session) -> Played {
    session.share(RING)?;
    session.finish()?;
    session.wire.close();
    Ok(())
}

fn death_behind_the_last_reply(session: &mut Session) -> Played {
    session.share(RING)?;
    session.finish()?;
    Ok(session.wire.die()?)
}

fn reset_behind_the_last_reply(session: &mut Session) -> Played {
    const IT_SLEEPS: Duration = Duration::from_millis(20);
    session.share(RING)?;
    session.exchange(&[10])?;
    session.wire.is_deaf = true;
    session.until_it_waits()?;
    sleep(IT_SLEEPS);
    session.wire.keep_it_asleep()?;
    session.say_last_reply()?;
    Ok(session.wire.die()?)
}

fn half_close_behind_the_last_reply(session: &mut Session) -> Played {
    session.share(RING)?;
    session.finish()?;
    session.wire.end_sending();
    Ok(())
}
