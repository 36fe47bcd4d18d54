//! Regions that were offered to a client and not yet started.
//!
//! The client of an offer that is dropped may keep its file descriptor, and those of
//! any number of others before it. So the memory is given back, whoever maps it.

use shm_fifo::{Region, TOKEN_BYTES};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An offer whose `SHM.START` does not come within this time is dropped.
pub(crate) const LIFETIME: Duration = Duration::from_secs(5);
/// At most so many offers at a time: each holds memory for a client that may
/// never come back.
pub(crate) const MAX_PENDING: usize = 64;

#[derive(Debug)]
struct Offer {
    client_id: u64,
    fd: RawFd,
    region: Region,
    made: Instant,
    /// Its `SHM.START` has come: it stays until that is answered.
    is_claimed: bool,
}

static OFFERS: Mutex<Vec<Offer>> = Mutex::new(Vec::new());
/// How many there are, so that the hook on `close` need not lock.
static PENDING: AtomicUsize = AtomicUsize::new(0);

/// How many offers are pending.
pub(crate) fn pending() -> usize {
    // ORDERING, Relaxed: a hint for threads other than the one that offers.
    PENDING.load(Relaxed)
}

/// Bytes of memory that pending offers hold, apart from that of `client_id`,
/// which a new one would replace.
pub(crate) fn bytes_beside(client_id: u64) -> usize {
    let others = |offer: &&Offer| offer.client_id != client_id;
    lock().iter().filter(others).map(|offer| offer.region.total_bytes()).sum()
}

/// Bytes of memory that all pending offers hold.
pub(crate) fn bytes() -> usize {
    lock().iter().map(|offer| offer.region.total_bytes()).sum()
}

/// How many offers are pending apart from that of `client_id`.
pub(crate) fn pending_beside(client_id: u64) -> usize {
    lock().iter().filter(|offer| offer.client_id != client_id).count()
}

/// The clients that have a pending offer, with the bytes it holds.
pub(crate) fn list() -> Vec<(u64, usize)> {
    lock().iter().map(|offer| (offer.client_id, offer.region.total_bytes())).collect()
}

/// Keeps an offer until its client starts it; it replaces an earlier one.
pub(crate) fn make(client_id: u64, fd: RawFd, region: Region) {
    change(|offers| {
        discard_if(offers, |offer| offer.client_id == client_id);
        let made = Instant::now();
        offers.push(Offer { client_id, fd, region, made, is_claimed: false });
    });
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

/// Has the offer of `client_id` wait for [`take`] if `token` is that of the region.
pub(crate) fn claim(client_id: u64, token: &[u8; TOKEN_BYTES]) -> Claim {
    change(|offers| {
        remove_expired(offers);
        let Some(offer) = offers.iter_mut().find(|offer| offer.client_id == client_id) else {
            return Claim::NoOffer;
        };
        if offer.region.token() != *token {
            return Claim::WrongToken;
        }
        offer.is_claimed = true;
        Claim::Granted(offer.fd)
    })
}

/// The file descriptor of a client that has claimed its offer.
pub(crate) fn claimant(client_id: u64) -> Option<RawFd> {
    lock().iter().find(|offer| is_claimed_by(offer, client_id)).map(|offer| offer.fd)
}

/// The region that `client_id` has claimed, no longer on offer.
pub(crate) fn take(client_id: u64) -> Option<Region> {
    change(|offers| {
        let index = offers.iter().position(|offer| is_claimed_by(offer, client_id))?;
        Some(offers.swap_remove(index).region)
    })
}

fn is_claimed_by(offer: &Offer, client_id: u64) -> bool {
    offer.client_id == client_id && offer.is_claimed
}

/// Drops the offer of a connection that is being closed.
pub(crate) fn withdraw(fd: RawFd) {
    if pending() > 0 {
        change(|offers| discard_if(offers, |offer| offer.fd == fd));
    }
}

/// Drops the offers that were not started in time.
pub(crate) fn expire() {
    if pending() > 0 {
        change(remove_expired);
    }
}

fn remove_expired(offers: &mut Vec<Offer>) {
    discard_if(offers, |offer| !offer.is_claimed && offer.made.elapsed() >= LIFETIME);
}

fn discard_if(offers: &mut Vec<Offer>, is_over: impl Fn(&Offer) -> bool) {
    offers.extract_if(.., |offer| is_over(offer)).for_each(|offer| offer.region.discard());
}

fn change<T>(action: impl FnOnce(&mut Vec<Offer>) -> T) -> T {
    let mut offers = lock();
    let result = action(&mut offers);
    PENDING.store(offers.len(), Relaxed);
    result
}

fn lock() -> MutexGuard<'static, Vec<Offer>> {
    OFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}
