//! Regions whose memory is ready before a client asks for one.
//!
//! To make the file is a good part of the work of `SHM.OPEN`; where all of its memory has to be
//! allocated at once it is most of it, and grows with the rings. A thread does that ahead. It
//! makes files and nothing else: it calls no
//! function of the server, maps nothing, so that the server never waits for it in the
//! kernel, and shares one lock with the server's main thread, which never waits for that.
//! Where nothing is ready, clients wait; the thread makes what they wait for, and has the main
//! thread woken.
#![allow(unsafe_code)]

use crate::{config, waker};
use shm_fifo::{Region, region::UnmappedRegion};
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// So many regions are ready at most, and of those that are allocated so many bytes together:
/// a herd of clients is larger, but rarely comes at once.
const MOST_REGIONS: usize = 8;
const MOST_ALLOCATED_BYTES: usize = 8 << 20;
/// The last file descriptors are left to the server and its clients, where nobody waits.
const SPARE_FDS: u64 = 64;
/// How long the thread waits after a region could not be made, if nobody waits for one.
const RETRY_AFTER: Duration = Duration::from_secs(1);

struct Pool {
    ready: Vec<UnmappedRegion>,
    is_stopping: bool,
    /// Why a region could not be made, until those who wait are told.
    failure: Option<String>,
}

static POOL: Mutex<Pool> =
    Mutex::new(Pool { ready: Vec::new(), is_stopping: false, failure: None });
/// The thread. Known to the main thread alone, which wakes it by `unpark`: that is not missed
/// by a thread that is just about to sleep, although nobody holds the lock.
static THREAD: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// How many regions are to be ready, with rings of how many bytes.
static WANTED: AtomicUsize = AtomicUsize::new(0);
static RING_BYTES: AtomicUsize = AtomicUsize::new(0);
/// How many clients wait for one.
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// How many are ready, and the bytes they take.
static READY: AtomicUsize = AtomicUsize::new(0);
static READY_BYTES: AtomicUsize = AtomicUsize::new(0);
/// There is a failure for those who wait.
static HAS_FAILED: AtomicBool = AtomicBool::new(false);
/// Regions are allocated when they are made, as far as is known.
static ARE_ALLOCATED: AtomicBool = AtomicBool::new(true);

// ORDERING, Relaxed, of all seven: the regions themselves are handed over under the lock.

/// Starts the thread. Without it everything works, but the server makes regions itself.
pub(crate) fn start() {
    {
        let mut pool = lock();
        pool.is_stopping = false;
        pool.failure = None;
    }
    HAS_FAILED.store(false, Relaxed);
    note_waiting(0);
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    if thread.is_none() {
        *thread =
            without_signals(|| thread::Builder::new().name("shm-pool".into()).spawn(run)).ok();
    }
}

/// Ends the thread, and gives back all that is ready.
pub(crate) fn stop() {
    lock().is_stopping = true;
    if let Some(thread) = THREAD.lock().unwrap_or_else(PoisonError::into_inner).take() {
        thread.thread().unpark();
        // It catches nothing and panics nowhere; if it did, it is gone as well.
        thread.join().ok();
    }
}

/// A region as the settings have it, if one is ready, beside `used_bytes` of memory that
/// connections and offers take.
pub(crate) fn take(used_bytes: usize) -> Option<io::Result<Region>> {
    let region_bytes = Region::bytes_with_rings_of(config::ring_bytes());
    let ring_bytes = want(used_bytes.saturating_add(region_bytes), WAITING.load(Relaxed));
    let ready = take_ready(ring_bytes);
    if ready.is_none() && !has_thread() {
        return Some(Region::create(ring_bytes));
    }
    ready.map(UnmappedRegion::map)
}

/// Says how many clients wait for a region, without one that is about to take it; [`adjust`]
/// has the thread know.
pub(crate) fn note_waiting(count: usize) {
    WAITING.store(count, Relaxed);
}

/// Whether there is something for those who wait that no wake-up follows for: it came before
/// the last of them was noted. Others find it by the wake-up.
pub(crate) fn has_news_already() -> bool {
    // ORDERING, SeqCst: between the count of those who wait and a look for news, as in
    // `tell_those_who_wait` between the news and a look at the count. One of both sees the
    // other's.
    fence(SeqCst);
    regions() > 0 || HAS_FAILED.load(Relaxed)
}

/// Has the main thread look, if anybody waits for what has just been made.
fn tell_those_who_wait() {
    // ORDERING, SeqCst: see `has_news_already`.
    fence(SeqCst);
    if WAITING.load(Relaxed) > 0 {
        waker::wake();
    }
}

/// Why no region can be made, if that has just turned out, for those who wait.
pub(crate) fn failure() -> Option<String> {
    let mut pool = POOL.try_lock().ok()?;
    HAS_FAILED.store(false, Relaxed);
    pool.failure.take()
}

/// Whether a region is ready.
pub(crate) fn has_ready() -> bool {
    regions() > 0 || !has_thread()
}

fn wake_thread() {
    if let Some(thread) = &*THREAD.lock().unwrap_or_else(PoisonError::into_inner) {
        thread.thread().unpark();
    }
}

fn has_thread() -> bool {
    let thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    thread.as_ref().is_some_and(|thread| !thread.is_finished())
}

/// Has the thread keep as many ready as the settings allow, beside `used_bytes` of memory
/// that connections and offers take. To be called now and then.
pub(crate) fn adjust(used_bytes: usize) {
    let ring_bytes = want(used_bytes, WAITING.load(Relaxed));
    let wanted = WANTED.load(Relaxed);
    let region_bytes = Region::bytes_with_rings_of(ring_bytes);
    if (regions(), bytes()) != (wanted, wanted.saturating_mul(region_bytes)) {
        wake_thread();
    }
}

/// Tells the thread what is wanted, without waking it. Returns the size of the rings.
fn want(used_bytes: usize, waiting: usize) -> usize {
    let ring_bytes = config::ring_bytes();
    let region_bytes = Region::bytes_with_rings_of(ring_bytes);
    RING_BYTES.store(ring_bytes, Relaxed);
    let most = most_ready(region_bytes, are_allocated(), waiting);
    WANTED.store(most.min(room(region_bytes, used_bytes, waiting, &config::limits())), Relaxed);
    ring_bytes
}

/// How many regions are ready.
pub(crate) fn regions() -> usize {
    READY.load(Relaxed)
}

/// Bytes of memory that they take.
pub(crate) fn bytes() -> usize {
    READY_BYTES.load(Relaxed)
}

/// Whether it takes longer to make a region the larger it is.
pub(crate) fn are_allocated() -> bool {
    ARE_ALLOCATED.load(Relaxed)
}

/// How many regions of `region_bytes` are to be ready at most, where so many clients wait for
/// one.
fn most_ready(region_bytes: usize, are_allocated: bool, waiting: usize) -> usize {
    match are_allocated {
        true => MOST_REGIONS.min(MOST_ALLOCATED_BYTES / region_bytes).max(waiting.min(1)),
        false => MOST_REGIONS,
    }
}

/// How many regions of `region_bytes` the limits have room for. If nobody waits for one,
/// another one has to fit beside them.
fn room(region_bytes: usize, used_bytes: usize, waiting: usize, limits: &config::Limits) -> usize {
    let by_sessions = usize::try_from(limits.max_sessions).unwrap_or(usize::MAX);
    let spare = usize::from(waiting == 0);
    let by_memory = match usize::try_from(limits.max_memory_bytes) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(limit) => (limit.saturating_sub(used_bytes) / region_bytes).saturating_sub(spare),
    };
    by_sessions.min(by_memory)
}

fn take_ready(ring_bytes: usize) -> Option<UnmappedRegion> {
    // Not waited for: the thread may have lost its CPU while it holds it.
    let mut pool = POOL.try_lock().ok()?;
    let region = pool.ready.pop_if(|region| region.ring_bytes() == ring_bytes)?;
    count(&pool);
    let is_low = pool.ready.len() <= WANTED.load(Relaxed) / 2;
    drop(pool);
    if is_low {
        wake_thread();
    }
    Some(region)
}

fn run() {
    while let Some(task) = next_task() {
        match task {
            Task::Drop(surplus) => drop(surplus),
            Task::Make { ring_bytes, is_waited_for } => match UnmappedRegion::create(ring_bytes) {
                Ok(region) => put(region),
                Err(error) => pause(is_waited_for.then(|| error.to_string())),
            },
            Task::Pause => pause(None),
        }
    }
}

/// Waits after a failure, of which those hear who wait, but not longer than somebody comes.
fn pause(failure: Option<String>) {
    {
        let mut pool = lock();
        HAS_FAILED.store(failure.is_some(), Relaxed);
        pool.failure = failure;
    }
    tell_those_who_wait();
    let until = Instant::now() + RETRY_AFTER;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let pool = lock();
        if pool.is_stopping || pool.failure.is_none() && WAITING.load(Relaxed) > 0 {
            break;
        }
        drop(pool);
        thread::park_timeout(left);
    }
}

#[derive(Debug)]
enum Task {
    Make {
        ring_bytes: usize,
        is_waited_for: bool,
    },
    Drop(Vec<UnmappedRegion>),
    /// There is something to make, but no file descriptor to spare.
    Pause,
}

/// Waits until there is something to do; `None` if that is to end.
fn next_task() -> Option<Task> {
    loop {
        let mut pool = lock();
        let (wanted, ring_bytes) = match pool.is_stopping {
            true => (0, 0),
            false => (WANTED.load(Relaxed), RING_BYTES.load(Relaxed)),
        };
        let mut kept = 0;
        let is_surplus = |region: &mut UnmappedRegion| {
            let is_kept = region.ring_bytes() == ring_bytes && kept < wanted;
            kept += usize::from(is_kept);
            !is_kept
        };
        let surplus: Vec<_> = pool.ready.extract_if(.., is_surplus).collect();
        count(&pool);
        if !surplus.is_empty() {
            return Some(Task::Drop(surplus));
        }
        if pool.is_stopping {
            return None;
        }
        if pool.ready.len() < wanted {
            let is_waited_for = pool.ready.len() < WAITING.load(Relaxed);
            drop(pool);
            return Some(match is_waited_for || has_fd_to_spare() {
                true => Task::Make { ring_bytes, is_waited_for },
                false => Task::Pause,
            });
        }
        drop(pool);
        thread::park();
    }
}

/// Whether the file descriptor that a region would have is not one of the last.
fn has_fd_to_spare() -> bool {
    // The kernel gives the lowest number that is free.
    let Some(lowest) = waker::eventfd() else { return false };
    let number = u64::try_from(lowest.as_raw_fd()).unwrap_or(0);
    number.saturating_add(SPARE_FDS) < fd_limit().rlim_cur
}

fn put(region: UnmappedRegion) {
    let mut pool = lock();
    ARE_ALLOCATED.store(region.is_allocated(), Relaxed);
    // What is too much by now goes with the next task.
    pool.ready.push(region);
    count(&pool);
    drop(pool);
    tell_those_who_wait();
}

fn count(pool: &Pool) {
    let bytes = pool.ready.iter().map(|region| Region::bytes_with_rings_of(region.ring_bytes()));
    READY.store(pool.ready.len(), Relaxed);
    READY_BYTES.store(bytes.sum(), Relaxed);
}

fn lock() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many file descriptors this process may have.
fn fd_limit() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one rlimit.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit
}

/// Calls `spawn` with all signals blocked, which a new thread inherits: the server's
/// handlers run on its own threads.
fn without_signals<T>(spawn: impl FnOnce() -> T) -> T {
    // SAFETY: a plain C type, for which zeros are valid.
    let [mut all, mut before]: [libc::sigset_t; 2] = unsafe { std::mem::zeroed() };
    // SAFETY: a live set.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: live sets.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    let result = spawn();
    // SAFETY: the set that the call above has filled.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn limits(max_sessions: u64, max_memory_bytes: u64) -> config::Limits {
        config::Limits { max_sessions, max_memory_bytes }
    }

    #[test]
    fn of_large_regions_few_are_ready_if_they_are_allocated() {
        let ready_of = |region_bytes| most_ready(region_bytes, true, 0);
        assert_eq!(ready_of(12 * KIB), MOST_REGIONS);
        assert_eq!(ready_of(260 * KIB), MOST_REGIONS);
        assert_eq!(ready_of(4 * KIB * KIB + 4096), 1);
        assert_eq!(ready_of(8 * KIB * KIB + 4096), 0);
        // One by one, where they are waited for.
        assert_eq!(most_ready(8 * KIB * KIB + 4096, true, 20), 1);
        assert_eq!(most_ready(2 << 30, false, 0), MOST_REGIONS);
    }

    #[test]
    fn what_is_ready_takes_no_room_from_a_connection() {
        let room_beside = |used, limit| room(100, used, 0, &limits(10_000, limit));
        assert_eq!(room_beside(0, 1000), 9);
        assert_eq!(room_beside(0, 500), 4);
        assert_eq!(room_beside(300, 500), 1);
        assert_eq!(room_beside(400, 500), 0);
        assert_eq!(room_beside(900, 500), 0);
    }

    #[test]
    fn nothing_is_ready_where_no_connection_may_move() {
        assert_eq!(room(100, 0, 0, &limits(0, 0)), 0);
        assert_eq!(room(100, 0, 0, &limits(3, 0)), 3);
    }

    #[test]
    fn what_is_waited_for_is_made_as_long_as_it_fits() {
        let room_for = |waiting, limit| room(100, 400, waiting, &limits(10_000, limit));
        assert_eq!([room_for(0, 500), room_for(1, 500), room_for(1, 499)], [0, 1, 0]);
    }

    #[test]
    fn none_is_made_of_the_last_file_descriptors_unless_it_is_waited_for() {
        let before = fd_limit();
        WANTED.store(1, Relaxed);
        RING_BYTES.store(4096, Relaxed);
        assert!(matches!(next_task(), Some(Task::Make { is_waited_for: false, .. })));

        // All there are, whichever other tests of this process open and close: enough for those.
        set_rlimit(libc::rlimit { rlim_cur: SPARE_FDS, ..before });
        assert!(matches!(next_task(), Some(Task::Pause)));
        note_waiting(1);
        assert!(matches!(next_task(), Some(Task::Make { is_waited_for: true, .. })));

        set_rlimit(before);
        note_waiting(0);
        WANTED.store(0, Relaxed);
    }

    fn set_rlimit(limit: libc::rlimit) {
        // SAFETY: reads one rlimit.
        let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        assert_eq!(set, 0);
    }
}
