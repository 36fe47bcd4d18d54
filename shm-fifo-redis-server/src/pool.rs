//! Regions whose memory is ready before a client asks for one.
//!
//! To allocate a region's memory is most of the work of `SHM.OPEN`, and the only part that
//! grows with it. A thread does that ahead. It makes files and nothing else: it calls no
//! function of the server, maps nothing, so that the server never waits for it in the
//! kernel, and shares one lock with the server's main thread, which never waits for that.
//! Where nothing is ready, whoever asks makes a region itself.
#![allow(unsafe_code)]

use crate::config;
use shm_fifo::{Region, UnmappedRegion};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// So many regions are ready at most, of so many bytes together: a herd of clients is
/// larger, but rarely comes at once.
const MOST_REGIONS: usize = 8;
const MOST_BYTES: usize = 8 << 20;
/// The last file descriptors are left to the server and its clients.
const SPARE_FDS: u64 = 64;
/// How long the thread waits after a region could not be made.
const RETRY_AFTER: Duration = Duration::from_secs(1);

struct Pool {
    ready: Vec<UnmappedRegion>,
    is_stopping: bool,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { ready: Vec::new(), is_stopping: false });
/// There may be something to do for the thread.
static WORK: Condvar = Condvar::new();
static THREAD: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// How many regions are to be ready, with rings of how many bytes.
static WANTED: AtomicUsize = AtomicUsize::new(0);
static RING_BYTES: AtomicUsize = AtomicUsize::new(0);
/// How many are, and the bytes they take.
static READY: AtomicUsize = AtomicUsize::new(0);
static READY_BYTES: AtomicUsize = AtomicUsize::new(0);

// ORDERING, Relaxed, of all four: the regions themselves are handed over under the lock.

/// Starts the thread. Without it everything works, but slower.
pub(crate) fn start() {
    lock().is_stopping = false;
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    if thread.is_none() {
        *thread =
            without_signals(|| thread::Builder::new().name("shm-pool".into()).spawn(run)).ok();
    }
}

/// Ends the thread, and gives back all that is ready.
pub(crate) fn stop() {
    lock().is_stopping = true;
    WORK.notify_all();
    if let Some(thread) = THREAD.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // It catches nothing and panics nowhere; if it did, it is gone as well.
        thread.join().ok();
    }
}

/// A region as the settings have it, of those that are ready or made now. With it,
/// connections and offers take `used_bytes` of memory.
pub(crate) fn region(used_bytes: usize) -> io::Result<Region> {
    let ring_bytes = want(used_bytes);
    match take(ring_bytes) {
        Some(ready) => ready.map(),
        None => Region::create(ring_bytes),
    }
}

/// Has the thread keep as many ready as the settings allow, beside `used_bytes` of memory
/// that connections and offers take. To be called now and then.
pub(crate) fn adjust(used_bytes: usize) {
    let ring_bytes = want(used_bytes);
    let wanted = WANTED.load(Relaxed);
    if (regions(), bytes()) != (wanted, wanted * Region::bytes_with_rings_of(ring_bytes)) {
        WORK.notify_one();
    }
}

/// Tells the thread what is wanted, without waking it. Returns the size of the rings.
fn want(used_bytes: usize) -> usize {
    let ring_bytes = config::ring_bytes();
    let region_bytes = Region::bytes_with_rings_of(ring_bytes);
    RING_BYTES.store(ring_bytes, Relaxed);
    WANTED.store(wanted(region_bytes, used_bytes, &config::limits()), Relaxed);
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

/// How many regions of `region_bytes` may be ready. Another one has to fit beside them:
/// one that is made where none is ready yet.
fn wanted(region_bytes: usize, used_bytes: usize, limits: &config::Limits) -> usize {
    let by_size = MOST_BYTES / region_bytes;
    let by_sessions = usize::try_from(limits.max_sessions).unwrap_or(usize::MAX);
    let by_memory = match usize::try_from(limits.max_memory_bytes) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(limit) => (limit.saturating_sub(used_bytes) / region_bytes).saturating_sub(1),
    };
    MOST_REGIONS.min(by_size).min(by_sessions).min(by_memory)
}

fn take(ring_bytes: usize) -> Option<UnmappedRegion> {
    // Not waited for: the thread may have lost its CPU while it holds it.
    let mut pool = POOL.try_lock().ok()?;
    let region = pool.ready.pop_if(|region| region.ring_bytes() == ring_bytes)?;
    count(&pool);
    let is_low = pool.ready.len() <= WANTED.load(Relaxed) / 2;
    drop(pool);
    if is_low {
        WORK.notify_one();
    }
    Some(region)
}

/// What the thread does.
fn run() {
    while let Some(task) = next_task() {
        match task {
            Task::Drop(surplus) => drop(surplus),
            Task::Make(ring_bytes) => match make(ring_bytes) {
                Ok(region) => put(region),
                Err(_) => drop(WORK.wait_timeout(lock(), RETRY_AFTER)),
            },
        }
    }
}

enum Task {
    Make(usize),
    Drop(Vec<UnmappedRegion>),
}

/// Waits until there is something to do; `None` if that is to end.
fn next_task() -> Option<Task> {
    let mut pool = lock();
    loop {
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
            return Some(Task::Make(ring_bytes));
        }
        pool = WORK.wait(pool).unwrap_or_else(PoisonError::into_inner);
    }
}

fn make(ring_bytes: usize) -> io::Result<UnmappedRegion> {
    let region = UnmappedRegion::create(ring_bytes)?;
    let number = u64::try_from(region.as_fd().as_raw_fd()).unwrap_or(0);
    // The kernel gives the lowest number that is free.
    if number.saturating_add(SPARE_FDS) >= fd_limit() {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    Ok(region)
}

fn put(region: UnmappedRegion) {
    let mut pool = lock();
    // What is too much by now goes with the next task.
    pool.ready.push(region);
    count(&pool);
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
fn fd_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one rlimit.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur
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
    fn few_and_small_regions_are_ready_and_no_large_ones() {
        let wanted_of = |region_bytes| wanted(region_bytes, 0, &limits(10_000, 0));
        assert_eq!(wanted_of(12 * KIB), MOST_REGIONS);
        assert_eq!(wanted_of(260 * KIB), MOST_REGIONS);
        assert_eq!(wanted_of(4 * KIB * KIB + 4096), 1);
        assert_eq!(wanted_of(8 * KIB * KIB + 4096), 0);
    }

    #[test]
    fn what_is_ready_takes_no_room_from_a_connection() {
        let wanted_beside = |used, limit| wanted(100, used, &limits(10_000, limit));
        assert_eq!(wanted_beside(0, 1000), MOST_REGIONS);
        assert_eq!(wanted_beside(0, 500), 4);
        assert_eq!(wanted_beside(300, 500), 1);
        assert_eq!(wanted_beside(400, 500), 0);
        assert_eq!(wanted_beside(900, 500), 0);
    }

    #[test]
    fn nothing_is_ready_where_no_connection_may_move() {
        assert_eq!(wanted(100, 0, &limits(0, 0)), 0);
        assert_eq!(wanted(100, 0, &limits(3, 0)), 3);
    }
}
