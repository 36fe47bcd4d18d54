//! Regions that were offered to a client and not yet started.
//!
//! The client of an offer that is dropped may keep its file descriptor, and those of
//! any number of others before it. So the memory is given back, whoever maps it.
//!
//! Only the server's main thread comes here, and no hook: a signal handler of the server
//! opens and closes files in the middle of whatever that thread does. An offer leaves a mark
//! on its connection's file descriptor, which ends with that; whoever comes here next finds
//! that it is gone.

use shm_fifo::{Region, channel::Endpoint, region::Token, vfd};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An offer whose `SHM.START` does not come within this time is dropped.
pub(crate) const LIFETIME: Duration = Duration::from_secs(5);

/// The socket from which an offer's descriptor was sent.
#[derive(Debug)]
pub(crate) enum Way {
    /// The client's own.
    Connection,
    /// One beside it, kept as long as the offer.
    Beside(UnixDatagram),
}

#[derive(Debug)]
struct Offer {
    fd: RawFd,
    /// What `fd` is marked with as long as it is this connection's.
    mark: u64,
    way: Way,
    endpoint: Endpoint,
    token: Token,
    made: Instant,
    /// Its `SHM.START` has come: it stays until that is answered.
    is_claimed: bool,
}

#[derive(Debug)]
struct Offers {
    by_client: BTreeMap<u64, Offer>,
    bytes: usize,
    last_mark: u64,
}

static OFFERS: Mutex<Offers> =
    Mutex::new(Offers { by_client: BTreeMap::new(), bytes: 0, last_mark: 0 });

/// How many there are and the bytes that their regions take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) offers: usize,
    pub(crate) bytes: usize,
}

/// The offers that are pending.
pub(crate) fn pending() -> Pending {
    let offers = lock();
    Pending { offers: offers.by_client.len(), bytes: offers.bytes }
}

/// Those apart from the ones of `clients`, which new ones would replace.
pub(crate) fn pending_beside(clients: impl IntoIterator<Item = u64>) -> Pending {
    let offers = lock();
    let mut beside = Pending { offers: offers.by_client.len(), bytes: offers.bytes };
    for own in clients.into_iter().filter_map(|client_id| offers.by_client.get(&client_id)) {
        beside.offers -= 1;
        beside.bytes -= own.endpoint.total_bytes();
    }
    beside
}

/// The clients that have a pending offer, with the bytes it holds.
pub(crate) fn list() -> Vec<(u64, usize)> {
    let offers = lock();
    offers.by_client.iter().map(|(&id, offer)| (id, offer.endpoint.total_bytes())).collect()
}

/// Keeps an offer until its client starts it; it replaces an earlier one.
pub(crate) fn make(client_id: u64, fd: RawFd, way: Way, region: Region, token: Token) {
    let endpoint = region.into_endpoint();
    let mut offers = lock();
    offers.last_mark += 1;
    let mark = offers.last_mark;
    if !vfd::set_mark(fd, mark) {
        // Its end would not be heard of.
        endpoint.discard();
        return;
    }
    offers.bytes += endpoint.total_bytes();
    let made = Instant::now();
    let offer = Offer { fd, mark, way, endpoint, token, made, is_claimed: false };
    if let Some(replaced) = offers.by_client.insert(client_id, offer) {
        offers.discard(replaced);
    }
}

/// Whether the client has not read yet what it was offered last, so that a descriptor is
/// still under way to it. However often it asks, there is no more than one.
pub(crate) fn is_unread(client_id: u64) -> bool {
    lock().by_client.get(&client_id).is_some_and(|offer| match &offer.way {
        Way::Connection => has_unread(offer.fd),
        Way::Beside(socket) => has_unread(socket.as_raw_fd()),
    })
}

/// As [`is_unread`], of a unix socket whose offer may have been dropped meanwhile.
pub(crate) fn is_unread_on(fd: RawFd) -> bool {
    vfd::mark(fd) != 0 && has_unread(fd)
}

/// Whether a unix socket's peer has not read all that was sent to it.
#[allow(unsafe_code)]
fn has_unread(socket: RawFd) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: writes one int (unix(7), SIOCOUTQ of socket.h, which is TIOCOUTQ).
    let asked = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut bytes) };
    asked == 0 && bytes > 0
}

/// What [`claim`] found.
#[derive(Debug)]
pub(crate) enum Claim {
    /// The offer of the client with this file descriptor, which does not expire any more.
    Granted(RawFd),
    /// The token is not the offered region's; the offer stands.
    WrongToken,
    /// The client has no offer, or it has expired.
    NoOffer,
}

/// Has the offer of `client_id` wait for [`take`] if `token` is that of the region. One that
/// is late, but still there, is as good as any: its client may have written into the ring.
pub(crate) fn claim(client_id: u64, token: Token) -> Claim {
    let mut offers = lock();
    let Some(offer) = offers.by_client.get_mut(&client_id) else { return Claim::NoOffer };
    if offer.token != token {
        return Claim::WrongToken;
    }
    offer.is_claimed = true;
    Claim::Granted(offer.fd)
}

/// The file descriptor of a client that has claimed its offer.
pub(crate) fn claimant(client_id: u64) -> Option<RawFd> {
    let offers = lock();
    offers.by_client.get(&client_id).filter(|offer| offer.is_claimed).map(|offer| offer.fd)
}

/// What `client_id` has claimed, no longer on offer.
pub(crate) fn take(client_id: u64) -> Option<Endpoint> {
    let mut offers = lock();
    if !offers.by_client.get(&client_id)?.is_claimed {
        return None;
    }
    let offer = offers.by_client.remove(&client_id)?;
    offers.bytes -= offer.endpoint.total_bytes();
    Some(offer.endpoint)
}

/// Drops the offers that were not started in time, and those of connections that have ended.
pub(crate) fn drop_old() {
    let mut offers = lock();
    let over = offers.by_client.iter().filter(|(_, offer)| offer.is_over());
    let over: Vec<u64> = over.map(|(client_id, _)| *client_id).collect();
    for client_id in over {
        if let Some(offer) = offers.by_client.remove(&client_id) {
            offers.discard(offer);
        }
    }
}

impl Offer {
    fn is_over(&self) -> bool {
        let has_ended = vfd::mark(self.fd) != self.mark;
        has_ended || !self.is_claimed && self.made.elapsed() >= LIFETIME
    }
}

impl Offers {
    /// Gives an offer's memory back that is no longer in the list.
    fn discard(&mut self, offer: Offer) {
        self.bytes -= offer.endpoint.total_bytes();
        offer.endpoint.discard();
    }
}

fn lock() -> MutexGuard<'static, Offers> {
    OFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}
