//! A server that ends the connection, at any stage of it.

use super::{RING, Scenario};
use crate::conformance::offer::Offer;
use crate::conformance::session::{Played, Session};

const END: &str = "layout.md: The end";
const DEMAND: &str = "say that the connection was lost";

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::error("end-instead-of-an-offer", DEMAND, END, end_instead_of_an_offer),
    Scenario::error("end-behind-an-offer", DEMAND, END, end_behind_an_offer),
    Scenario::error("end-instead-of-the-start", DEMAND, END, end_instead_of_the_start),
    Scenario::error("end-instead-of-a-reply", DEMAND, END, end_instead_of_a_reply),
    Scenario::error("death-instead-of-a-reply", DEMAND, END, death_instead_of_a_reply),
    Scenario::error("half-close-instead-of-a-reply", DEMAND, END, half_close_instead_of_a_reply),
    Scenario::error("end-within-a-reply", DEMAND, END, end_within_a_reply),
    Scenario::error("end-within-a-request", DEMAND, END, end_within_a_request),
];

fn end_instead_of_an_offer(session: &mut Session) -> Played {
    session.until_open()?;
    session.wire.close();
    Ok(())
}

fn end_behind_an_offer(session: &mut Session) -> Played {
    let fd_socket = session.until_open()?;
    session.offer(&Offer::make(RING)?, fd_socket.as_deref())?;
    session.wire.close();
    Ok(())
}

fn end_instead_of_the_start(session: &mut Session) -> Played {
    let fd_socket = session.until_open()?;
    let offer = Offer::make(RING)?;
    session.offer(&offer, fd_socket.as_deref())?;
    session.until_start(&offer)?;
    session.wire.close();
    Ok(())
}

fn end_instead_of_a_reply(session: &mut Session) -> Played {
    waiting_in_the_rings(session)?;
    session.wire.close();
    Ok(())
}

fn death_instead_of_a_reply(session: &mut Session) -> Played {
    waiting_in_the_rings(session)?;
    Ok(session.wire.die()?)
}

fn half_close_instead_of_a_reply(session: &mut Session) -> Played {
    waiting_in_the_rings(session)?;
    session.wire.end_sending();
    Ok(())
}

fn end_within_a_reply(session: &mut Session) -> Played {
    waiting_in_the_rings(session)?;
    session.wire.say(b"$10\r\nhalf")?;
    session.wire.close();
    Ok(())
}

/// Of which there is more than the ring takes.
fn end_within_a_request(session: &mut Session) -> Played {
    waiting_in_the_rings(session)?;
    session.give(20 * RING)?;
    session.wire.close();
    Ok(())
}

fn waiting_in_the_rings(session: &mut Session) -> Played {
    session.share(RING)?;
    session.exchange(&[10, 100])?;
    session.until_it_waits()
}
