//! What a thread is announced as asleep for, where its sleep may never end: a signal handler
//! leaves it by `siglongjmp`, or the thread is cancelled.
//!
//! Whoever is announced so for ever keeps all others from taking doorbells. So each thread
//! notes its sleeps, and how deep in its stack they are. What calls in here from less deep has
//! left them: a signal handler that interrupts a sleep is deeper. And a thread that ends has
//! left them all.
#![allow(unsafe_code)]

use crate::connection::Connection;
use crate::errno::untouched;
use crate::sys;
use crate::thread;
use libc::{c_void, pthread_key_t};
use shm_fifo::Interest;
use std::collections::VecDeque;
use std::ptr::null_mut;
use std::sync::{Arc, OnceLock};

/// One thread's, in the order in which they began.
pub(crate) type Sleeps = VecDeque<Sleep>;

#[derive(Debug)]
pub(crate) struct Sleep {
    connection: Arc<Connection>,
    interest: Interest,
    /// Something is here in the stack that ends with it.
    depth: usize,
}

/// Has a thread's end noticed.
static KEY: OnceLock<pthread_key_t> = OnceLock::new();

/// To be called once.
pub(crate) fn prepare() {
    let mut key = 0;
    // SAFETY: a live place for the key, and a function of this library, which stays.
    if unsafe { libc::pthread_key_create(&raw mut key, Some(thread_ends)) } == 0 {
        KEY.get_or_init(|| key);
    }
}

/// This thread is about to sleep for that.
#[inline(never)]
pub(crate) fn begin(connection: &Arc<Connection>, interest: Interest) {
    let here = 0_u8;
    let depth = (&raw const here).addr();
    let sleep = Sleep { connection: Arc::clone(connection), interest, depth };
    with_own(|sleeps| sleeps.push_back(sleep));
}

/// It is awake. `false` if it was taken to have left.
pub(crate) fn end(connection: &Arc<Connection>, interest: Interest) -> bool {
    let is_it =
        |sleep: &Sleep| Arc::ptr_eq(&sleep.connection, connection) && sleep.interest == interest;
    with_own(|sleeps| {
        // The one that began last in a signal handler; `poll` ends those of its own in the
        // order in which they began.
        let is_last = sleeps.back().is_some_and(is_it);
        let place = if is_last { Some(sleeps.len() - 1) } else { sleeps.iter().position(is_it) };
        place.and_then(|place| sleeps.remove(place)).is_some()
    })
}

/// A call comes in, from `here` in the stack, of a thread that has sleeps.
#[cold]
pub(crate) fn end_deeper_than(here: *const u8) {
    // Another stack says nothing of the first one's depth.
    if sys::is_on_signal_stack() {
        return;
    }
    let is_left = |sleep: &Sleep| sleep.depth < here.addr();
    while let Some(sleep) = with_own(|sleeps| {
        let place = sleeps.iter().position(is_left)?;
        sleeps.remove(place)
    }) {
        sleep.connection.left(sleep.interest);
    }
}

/// Nobody but its own thread, which is busy in here, is at its list.
fn with_own<T>(work: impl FnOnce(&mut Sleeps) -> T) -> T {
    let thread = thread::own();
    if thread.sleeps.get().is_null() {
        let fresh = Box::into_raw(Box::new(Sleeps::new()));
        thread.sleeps.set(fresh);
        if let Some(&key) = KEY.get() {
            // SAFETY: a key that was made; what is kept is freed by `thread_ends` alone.
            unsafe { libc::pthread_setspecific(key, fresh.cast()) };
        }
    }
    // SAFETY: made above or earlier, and not freed as long as it is found here. No handler
    // comes in between, and `work` does not come here again.
    let sleeps = unsafe { &mut *thread.sleeps.get() };
    let result = work(sleeps);
    thread.has_sleeps.set(!sleeps.is_empty());
    result
}

unsafe extern "C" fn thread_ends(sleeps: *mut c_void) {
    untouched(|| {
        let thread = thread::own();
        thread.sleeps.set(null_mut());
        thread.has_sleeps.set(false);
        // SAFETY: what `with_own` made and keeps no more.
        let sleeps = unsafe { Box::from_raw(sleeps.cast::<Sleeps>()) };
        sleeps.iter().for_each(|sleep| sleep.connection.left(sleep.interest));
    });
}
