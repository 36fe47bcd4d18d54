//! From file descriptors to what is behind them: a tracked connection, or an epoll
//! instance.
//!
//! In a program that never connected to an endpoint a look costs one load, and one more for
//! file descriptors near a known one.
#![allow(unsafe_code)]

use crate::connection::Connection;
use crate::epoll::Epoll;
use crate::{signals, sys};
use libc::epoll_event;
use shm_fifo::interposer::FdTable;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicUsize, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

static TABLE: FdTable<Slot> = FdTable::new();
/// How many connections there are, and epoll instances that watch some: what waits for
/// several file descriptors need not look at each while there are none.
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
    is_watched: AtomicBool,
    /// Threads that wait in this epoll instance without a look at its entry.
    strangers: AtomicU32,
    contents: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    entry: Option<Entry>,
    watch: Watch,
}

/// Who has been told, by `epoll_ctl`, of a file descriptor that is no connection yet.
#[derive(Debug, Clone, Default)]
pub(crate) enum Watch {
    #[default]
    Nobody,
    /// One instance that is known, and how.
    Once(Weak<Epoll>, epoll_event),
    /// Several, or one that is not known.
    Unclear,
}

const EMPTY: u8 = 0;
const CONNECTION: u8 = 1;
/// An epoll instance that has never watched a connection.
const PLAIN_EPOLL: u8 = 2;
const EPOLL: u8 = 3;
const INHERITED: u8 = 4;
/// A descriptor of our own, which the program does not know and so cannot mean.
const PRIVATE: u8 = 5;

/// Whether there is no connection, nor an instance that watches one.
#[inline]
pub(crate) fn is_empty() -> bool {
    IN_USE.load(Relaxed) == 0
}

/// What is behind `fd`, if that is any of our business.
#[inline]
pub(crate) fn entry(fd: RawFd) -> Option<Entry> {
    let slot = TABLE.get(fd)?;
    // ORDERING, Acquire: pairs with the Release in `fill`. A hint; the mutex has
    // the truth.
    match slot.kind.load(Acquire) {
        EMPTY => None,
        INHERITED => Some(Entry::Inherited),
        _ => signals::put_off(|| slot.lock().entry.clone()),
    }
}

/// The connection behind `fd`, if it is a tracked one.
#[inline]
pub(crate) fn connection(fd: RawFd) -> Option<Arc<Connection>> {
    if TABLE.get(fd)?.kind.load(Acquire) != CONNECTION {
        return None;
    }
    match entry(fd)? {
        Entry::Connection(connection) => Some(connection),
        _ => None,
    }
}

/// The epoll instance behind `fd`, if it was seen when it was made.
pub(crate) fn epoll(fd: RawFd) -> Option<Arc<Epoll>> {
    match entry(fd)? {
        Entry::Epoll(epoll) => Some(epoll),
        _ => None,
    }
}

/// The same, if it watches connections, or ever has.
#[inline]
pub(crate) fn watching_epoll(fd: RawFd) -> Option<Arc<Epoll>> {
    if TABLE.get(fd)?.kind.load(Acquire) == EPOLL { epoll(fd) } else { None }
}

/// What is behind `fd`, if waiting for it is not the kernel's business alone.
#[inline]
pub(crate) fn waited_for(fd: RawFd) -> Option<Entry> {
    match TABLE.get(fd)?.kind.load(Acquire) {
        EMPTY | PLAIN_EPOLL | PRIVATE => None,
        _ => entry(fd),
    }
}

/// The epoll instance behind `fds` watches a connection from now on.
pub(crate) fn begins_to_watch(fds: &[RawFd]) {
    for slot in fds.iter().filter_map(|&fd| TABLE.get(fd)) {
        let before = slot.kind.compare_exchange(PLAIN_EPOLL, EPOLL, AcqRel, Acquire);
        IN_USE.fetch_add(usize::from(before.is_ok()), Relaxed);
    }
    // ORDERING, SeqCst: pairs with the fence in `as_stranger`.
    fence(SeqCst);
}

/// Lets a thread wait in the epoll instance `epfd`, which watches no connection, by
/// `wait`. `None`, and it has not waited, if it does watch one.
pub(crate) fn as_stranger<T>(epfd: RawFd, wait: impl FnOnce() -> T) -> Option<T> {
    let Some(slot) = TABLE.get(epfd).filter(|slot| slot.kind.load(Relaxed) != EMPTY) else {
        return Some(wait());
    };
    slot.strangers.fetch_add(1, Relaxed);
    // ORDERING, SeqCst: pairs with the fence in `begins_to_watch`. Either the change is seen
    // here, or this stranger by whoever made it.
    fence(SeqCst);
    let result = (slot.kind.load(Acquire) != EPOLL).then(wait);
    slot.strangers.fetch_sub(1, Relaxed);
    result
}

/// How many threads wait so.
pub(crate) fn strangers(fds: &[RawFd]) -> u32 {
    fds.iter().filter_map(|&fd| TABLE.get(fd)).map(|slot| slot.strangers.load(Relaxed)).sum()
}

/// Puts `entry` behind `fd`.
pub(crate) fn fill(fd: RawFd, entry: Entry) {
    let Some(slot) = TABLE.get_or_insert(fd) else { return };
    let kind = match &entry {
        Entry::Connection(_) => CONNECTION,
        Entry::Epoll(epoll) if epoll.has_watched() => EPOLL,
        Entry::Epoll(_) => PLAIN_EPOLL,
        Entry::Inherited => INHERITED,
    };
    let before = {
        let mut contents = slot.lock();
        // ORDERING, Release: pairs with the Acquire in `entry`.
        let before = slot.kind.swap(kind, Release);
        contents.entry = Some(entry);
        before
    };
    IN_USE.fetch_add(usize::from(counts(kind)), Relaxed);
    IN_USE.fetch_sub(usize::from(counts(before)), Relaxed);
}

/// Forgets what is behind `fd`, and returns it.
pub(crate) fn clear(fd: RawFd) -> Option<Entry> {
    let slot = TABLE.get(fd)?;
    if !slot.is_known() {
        return None;
    }
    let Contents { entry, .. } = {
        let mut contents = slot.lock();
        slot.is_watched.store(false, Relaxed);
        let before = slot.kind.swap(EMPTY, Release);
        IN_USE.fetch_sub(usize::from(counts(before)), Relaxed);
        std::mem::take(&mut *contents)
    };
    entry
}

/// Forgets the connection of that number behind `fd`, but not who may watch it. Another thread may
/// have closed `fd`, and have another one behind it.
pub(crate) fn clear_if(fd: RawFd, connection: u64) {
    let Some(slot) = TABLE.get(fd) else { return };
    let mut contents = slot.lock();
    let is_it = matches!(&contents.entry, Some(Entry::Connection(known)) if known.id == connection);
    if is_it {
        // The caller has the connection: dropping this drops nothing else.
        contents.entry = None;
        contents.watch = Watch::Unclear;
        slot.is_watched.store(true, Relaxed);
        let before = slot.kind.swap(EMPTY, Release);
        IN_USE.fetch_sub(usize::from(counts(before)), Relaxed);
    }
}

fn counts(kind: u8) -> bool {
    !matches!(kind, EMPTY | PLAIN_EPOLL | PRIVATE)
}

/// `fd` is one of our own from now on.
pub(crate) fn make_private(fd: RawFd) {
    if let Some(slot) = TABLE.get_or_insert(fd) {
        slot.kind.store(PRIVATE, Release);
    }
}

/// `fd` is none of our own any more. Returns whether it was until now: a program may have
/// closed it where nobody saw it, and been given the number.
pub(crate) fn unmake_private(fd: RawFd) -> bool {
    let unmade = |slot: &Slot| slot.kind.compare_exchange(PRIVATE, EMPTY, AcqRel, Acquire).is_ok();
    TABLE.get(fd).is_some_and(unmade)
}

/// Whether `fd` is one of our own.
pub(crate) fn is_private(fd: RawFd) -> bool {
    TABLE.get(fd).is_some_and(|slot| slot.kind.load(Acquire) == PRIVATE)
}

/// Who has been told of `fd` as long as it is no connection.
pub(crate) fn watch(fd: RawFd) -> Watch {
    let known = match TABLE.get(fd) {
        Some(slot) if slot.is_watched.load(Relaxed) => slot.lock().watch.clone(),
        _ => Watch::Nobody,
    };
    match known {
        // It is gone, and with it what it had been told.
        Watch::Once(epoll, _) if epoll.strong_count() == 0 => Watch::Nobody,
        known => known,
    }
}

/// Changes that.
pub(crate) fn change_watch(fd: RawFd, change: impl FnOnce(&mut Watch)) {
    let Some(slot) = TABLE.get_or_insert(fd) else { return };
    let mut contents = slot.lock();
    change(&mut contents.watch);
    slot.is_watched.store(!matches!(contents.watch, Watch::Nobody), Relaxed);
}

/// Whether anything is known of `fd`, if only that it is watched.
#[inline]
pub(crate) fn is_known(fd: RawFd) -> bool {
    TABLE.get(fd).is_some_and(Slot::is_known)
}

/// The file descriptors from `first` to `last` of which anything is known.
pub(crate) fn known_between(first: RawFd, last: RawFd) -> Vec<RawFd> {
    let known = TABLE.iter().filter(|(_, slot)| slot.is_known()).map(|(fd, _)| fd);
    known.filter(|fd| (first..=last).contains(fd)).collect()
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
    // SAFETY: the functions are of this library, which is never unloaded.
    unsafe { libc::pthread_atfork(Some(before_fork), Some(forked), Some(forked_child)) };
}

/// Before, so that no move begins in between.
unsafe extern "C" fn before_fork() {
    signals::fork_begins();
    FORKS.fetch_add(1, Relaxed);
}

unsafe extern "C" fn forked() {
    signals::fork_is_done();
}

/// In a forked child: the moved connections are the parent's; what is on its socket
/// is left alone. An epoll instance is shared with the parent, who alone waits for what
/// moved.
unsafe extern "C" fn forked_child() {
    OWNER.store(sys::process_id(), Relaxed);
    let mut in_use = 0;
    let inherit = |fd, slot: &mut Slot| {
        slot.inherit(fd);
        in_use += usize::from(counts(*slot.kind.get_mut()));
    };
    // SAFETY: a forked child has one thread, this one, which is in `fork`: nobody has a reference
    // to a slot.
    unsafe { TABLE.for_each_mut(inherit) };
    IN_USE.store(in_use, Relaxed);
    signals::fork_is_done_in_child();
}

impl Slot {
    #[inline]
    fn is_known(&self) -> bool {
        self.kind.load(Acquire) != EMPTY || self.is_watched.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes what a forked child has of it. Nothing is dropped: other threads may have been in
    /// the middle of it when the process was copied.
    fn inherit(&mut self, fd: RawFd) {
        *self.strangers.get_mut() = 0;
        let was_watched = *self.is_watched.get_mut();
        if *self.kind.get_mut() == EMPTY && !was_watched {
            return;
        }
        let contents = std::mem::take(&mut self.contents).into_inner().unwrap_or_default();
        let (kind, entry) = match &contents.entry {
            Some(Entry::Connection(connection)) if connection.is_moved() => {
                (INHERITED, Some(Entry::Inherited))
            }
            Some(Entry::Inherited) => (INHERITED, Some(Entry::Inherited)),
            Some(Entry::Epoll(epoll)) => {
                epoll.close_private();
                (PLAIN_EPOLL, Some(Entry::Epoll(Arc::new(Epoll::new(fd)))))
            }
            Some(Entry::Connection(_)) | None => (EMPTY, None),
        };
        std::mem::forget(contents);
        // Whose registration it was, and by which of the two processes, is not clear.
        let watch = if was_watched { Watch::Unclear } else { Watch::Nobody };
        self.contents = Mutex::new(Contents { entry, watch });
        *self.kind.get_mut() = kind;
    }
}
