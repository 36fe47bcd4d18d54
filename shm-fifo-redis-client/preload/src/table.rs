//! From file descriptors to what is behind them: a tracked connection, or an epoll
//! instance that watches one.
//!
//! Two levels, as in a page table: in a program that never connected to the
//! endpoint a look costs one load, and one more for file descriptors near a
//! tracked one.
#![allow(unsafe_code)]

use crate::connection::Connection;
use crate::epoll::Epoll;
use crate::{signals, sys};
use std::os::fd::RawFd;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, fence,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SLOTS_PER_PAGE: usize = 256;
/// Pages for a million file descriptors, as many as Linux allows by default.
const PAGES: usize = 4096;

type Page = [Slot; SLOTS_PER_PAGE];

static TABLE: [AtomicPtr<Page>; PAGES] = [const { AtomicPtr::new(null_mut()) }; PAGES];
/// How many slots are not empty.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
/// The process whose file descriptors these are.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// How often the owner has forked.
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// What is behind a file descriptor.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Connection(Arc<Connection>),
    Epoll(Arc<Epoll>),
    /// A connection on shared memory of the process that forked this one.
    Inherited,
}

#[derive(Debug, Default)]
struct Slot {
    kind: AtomicU8,
    /// An epoll instance may know this file descriptor from before it was tracked.
    watched: AtomicBool,
    /// Threads that wait in this epoll instance without a look at its entry.
    strangers: AtomicU32,
    entry: Mutex<Option<Entry>>,
}

const EMPTY: u8 = 0;
const CONNECTION: u8 = 1;
const EPOLL: u8 = 2;
const INHERITED: u8 = 3;

/// Whether nothing at all is tracked.
#[inline]
pub(crate) fn is_empty() -> bool {
    IN_USE.load(Relaxed) == 0
}

/// What is behind `fd`, if that is any of our business.
#[inline]
pub(crate) fn entry(fd: RawFd) -> Option<Entry> {
    let slot = slot(fd)?;
    // ORDERING, Acquire: pairs with the Release in `fill`. A hint; the mutex has
    // the truth.
    match slot.kind.load(Acquire) {
        EMPTY => None,
        INHERITED => Some(Entry::Inherited),
        _ => signals::put_off(|| slot.lock().clone()),
    }
}

/// The connection behind `fd`, if it is a tracked one.
#[inline]
pub(crate) fn connection(fd: RawFd) -> Option<Arc<Connection>> {
    match entry(fd)? {
        Entry::Connection(connection) => Some(connection),
        _ => None,
    }
}

/// The epoll instance behind `fd`, if it watches, or watched, a tracked connection.
#[inline]
pub(crate) fn epoll(fd: RawFd) -> Option<Arc<Epoll>> {
    match entry(fd)? {
        Entry::Epoll(epoll) => Some(epoll),
        _ => None,
    }
}

/// Lets a thread wait in the epoll instance `epfd`, of which nothing is known, by
/// `wait`. `None`, and it has not waited, if something has just become known.
pub(crate) fn as_stranger<T>(epfd: RawFd, wait: impl FnOnce() -> T) -> Option<T> {
    let Some(slot) = slot_or_insert(epfd) else { return Some(wait()) };
    slot.strangers.fetch_add(1, Relaxed);
    // ORDERING, SeqCst: pairs with the fence in `fill`. Either the entry is seen here, or
    // this stranger by whoever made it.
    fence(SeqCst);
    let result = (slot.kind.load(Acquire) != EPOLL).then(wait);
    slot.strangers.fetch_sub(1, Relaxed);
    result
}

/// How many threads wait so.
pub(crate) fn strangers(epfd: RawFd) -> u32 {
    slot(epfd).map_or(0, |slot| slot.strangers.load(Relaxed))
}

/// Puts `entry` behind `fd`.
pub(crate) fn fill(fd: RawFd, entry: Entry) {
    let Some(slot) = slot_or_insert(fd) else { return };
    let kind = match entry {
        Entry::Connection(_) => CONNECTION,
        Entry::Epoll(_) => EPOLL,
        Entry::Inherited => INHERITED,
    };
    let mut place = slot.lock();
    if place.replace(entry).is_none() {
        IN_USE.fetch_add(1, Relaxed);
    }
    // ORDERING, Release: pairs with the Acquire in `entry`.
    slot.kind.store(kind, Release);
    // ORDERING, SeqCst: pairs with the fence in `as_stranger`.
    fence(SeqCst);
}

/// Forgets what is behind `fd`, and returns it.
pub(crate) fn clear(fd: RawFd) -> Option<Entry> {
    let slot = slot(fd)?;
    slot.watched.store(false, Relaxed);
    if slot.kind.load(Acquire) == EMPTY {
        return None;
    }
    let taken = slot.lock().take();
    slot.kind.store(EMPTY, Release);
    IN_USE.fetch_sub(1, Relaxed);
    taken
}

/// Notes that an epoll instance has been told of `fd`, which is not tracked.
pub(crate) fn note_watched(fd: RawFd) {
    if let Some(slot) = slot_or_insert(fd) {
        slot.watched.store(true, Relaxed);
    }
}

/// Whether an epoll instance may have been told of `fd` before it was tracked.
pub(crate) fn was_watched(fd: RawFd) -> bool {
    slot(fd).is_some_and(|slot| slot.watched.load(Relaxed))
}

/// Whether anything is known of `fd`, if only that it is watched.
#[inline]
pub(crate) fn is_known(fd: RawFd) -> bool {
    slot(fd).is_some_and(Slot::is_known)
}

/// The file descriptors from `first` to `last` of which anything is known.
pub(crate) fn known_between(first: RawFd, last: RawFd) -> Vec<RawFd> {
    all().filter(|&fd| (first..=last).contains(&fd) && is_known(fd)).collect()
}

/// The connections of which nobody is in the middle: a signal handler may ask.
pub(crate) fn connections() -> Vec<Arc<Connection>> {
    let entry_of = |fd| slot(fd)?.entry.try_lock().ok()?.clone();
    let connection_of = |fd| match entry_of(fd) {
        Some(Entry::Connection(connection)) => Some(connection),
        _ => None,
    };
    all().filter_map(connection_of).collect()
}

/// Whether this process is the one whose file descriptors are in the table. A child
/// by `vfork` is not, though it shares the memory; one by `fork` has its own table.
pub(crate) fn is_own_process() -> bool {
    OWNER.load(Relaxed) == sys::process_id()
}

/// How often this process has forked: children may use what is on sockets.
pub(crate) fn forks() -> usize {
    FORKS.load(Relaxed)
}

/// Makes forks known to the table. To be called once.
pub(crate) fn prepare() {
    OWNER.store(sys::process_id(), Relaxed);
    // SAFETY: both functions are of this library, which is never unloaded.
    unsafe { libc::pthread_atfork(None, Some(forked_parent), Some(forked_child)) };
}

unsafe extern "C" fn forked_parent() {
    FORKS.fetch_add(1, Relaxed);
}

/// In a forked child: the moved connections are the parent's; what is on its socket
/// is left alone. An epoll instance is shared with the parent: of its events those that
/// are the parent's doorbells are no news here. Nothing is dropped: other threads may
/// have been in the middle of it when the process was copied.
unsafe extern "C" fn forked_child() {
    OWNER.store(sys::process_id(), Relaxed);
    let mut in_use = 0;
    for (number, page) in TABLE.iter().enumerate() {
        let page = page.load(Acquire);
        if page.is_null() {
            continue;
        }
        for index in 0..SLOTS_PER_PAGE {
            // SAFETY: a leaked page. A forked child has one thread, this one: nobody
            // has a reference to the slot.
            let slot = unsafe { &mut (*page)[index] };
            *slot.strangers.get_mut() = 0;
            if *slot.kind.get_mut() == EMPTY {
                continue;
            }
            let entry = std::mem::take(&mut slot.entry).into_inner().ok().flatten();
            let (kind, childs) = match &entry {
                Some(Entry::Connection(connection)) if connection.is_moved() => {
                    (INHERITED, Some(Entry::Inherited))
                }
                Some(Entry::Inherited) => (INHERITED, Some(Entry::Inherited)),
                Some(Entry::Epoll(_)) => {
                    let fd = RawFd::try_from(number * SLOTS_PER_PAGE + index).unwrap_or(-1);
                    (EPOLL, Some(Entry::Epoll(Arc::new(Epoll::new(fd)))))
                }
                Some(Entry::Connection(_)) | None => (EMPTY, None),
            };
            std::mem::forget(entry);
            in_use += usize::from(childs.is_some());
            slot.entry = Mutex::new(childs);
            *slot.kind.get_mut() = kind;
        }
    }
    IN_USE.store(in_use, Relaxed);
}

impl Slot {
    #[inline]
    fn is_known(&self) -> bool {
        self.kind.load(Acquire) != EMPTY || self.watched.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Entry>> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(fd: RawFd) -> Option<(&'static AtomicPtr<Page>, usize)> {
    let fd = usize::try_from(fd).ok()?;
    Some((TABLE.get(fd / SLOTS_PER_PAGE)?, fd % SLOTS_PER_PAGE))
}

#[inline]
fn slot(fd: RawFd) -> Option<&'static Slot> {
    let (page, index) = place(fd)?;
    // SAFETY: null, or a page leaked by `slot_or_insert`.
    let page = unsafe { page.load(Acquire).as_ref() }?;
    Some(&page[index])
}

fn slot_or_insert(fd: RawFd) -> Option<&'static Slot> {
    slot(fd).or_else(|| {
        let (page, _) = place(fd)?;
        let fresh: Box<Page> = Box::new(std::array::from_fn(|_| Slot::default()));
        let fresh = Box::into_raw(fresh);
        // ORDERING, AcqRel: publishes the empty slots to the Acquire loads.
        if page.compare_exchange(null_mut(), fresh, AcqRel, Acquire).is_err() {
            // SAFETY: made above and never shared: another thread was first.
            drop(unsafe { Box::from_raw(fresh) });
        }
        slot(fd)
    })
}

/// All numbers that have a slot.
fn all() -> impl Iterator<Item = RawFd> {
    let pages = (0..PAGES).filter(|&page| !TABLE[page].load(Acquire).is_null());
    pages
        .flat_map(|page| page * SLOTS_PER_PAGE..(page + 1) * SLOTS_PER_PAGE)
        .filter_map(|fd| RawFd::try_from(fd).ok())
}
