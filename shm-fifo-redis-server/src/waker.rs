//! Having the server's main loop look at once, for another thread that must not call it.
//!
//! The loop watches an eventfd of ours as it watches sockets. Servers before Redis 7.0 watch
//! nothing for a module: who relies on being woken asks [`is_there`].
#![allow(unsafe_code)]

use crate::status::OK;
use redis_module::{Context, raw};
use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// Never closed, so that no thread can write to what its number is by then.
static EVENTS: OnceLock<OwnedFd> = OnceLock::new();
/// What is looked with; null while the loop does not watch. ORDERING, Relaxed: the server's
/// main thread alone uses it.
static CONTEXT: AtomicPtr<raw::RedisModuleCtx> = AtomicPtr::new(null_mut());
/// What is called. It is the same each time.
static LOOK: OnceLock<fn(&Context)> = OnceLock::new();

const READABLE: c_int = raw::REDISMODULE_EVENTLOOP_READABLE as c_int;

/// Has the main loop call `look` whenever it was woken. Where the server cannot do that, or
/// has no file descriptor for it, nothing is changed.
pub(crate) fn start(context: &Context, look: fn(&Context)) {
    LOOK.get_or_init(|| look);
    if !is_there() {
        watch(context);
    }
}

fn watch(context: &Context) -> Option<()> {
    // SAFETY: set by the server before it runs the module's own code, as all of them.
    let watch = unsafe { raw::RedisModule_EventLoopAdd }?;
    // SAFETY: as above.
    let detach = unsafe { raw::RedisModule_GetDetachedThreadSafeContext }?;
    let fd = match EVENTS.get() {
        Some(events) => events.as_raw_fd(),
        None => eventfd().map(|events| EVENTS.get_or_init(|| events))?.as_raw_fd(),
    };
    // SAFETY: an open file descriptor, and a function of the right signature.
    let watched = unsafe { watch(fd, READABLE, Some(woken), null_mut()) };
    if watched == OK {
        // SAFETY: a live context, from which the new one takes the module.
        CONTEXT.store(unsafe { detach(context.ctx) }, Relaxed);
    }
    Some(())
}

/// A new one, if a file descriptor is free.
pub(crate) fn eventfd() -> Option<OwnedFd> {
    // SAFETY: takes no pointer.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    // SAFETY: the kernel just gave us this descriptor; nobody else has it.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the eventfd out of the main loop. Nobody may rely on [`wake`] any more.
pub(crate) fn stop() {
    let context = CONTEXT.swap(null_mut(), Relaxed);
    if context.is_null() {
        return;
    }
    // SAFETY: set by the server before it calls any function of the module.
    if let (Some(forget), Some(events)) = (unsafe { raw::RedisModule_EventLoopDel }, EVENTS.get()) {
        // SAFETY: what `watch` has added.
        unsafe { forget(events.as_raw_fd(), READABLE) };
    }
    // SAFETY: set by the server before it calls any function of the module.
    if let Some(free) = unsafe { raw::RedisModule_FreeThreadSafeContext } {
        // SAFETY: what `watch` has made, no longer in use.
        unsafe { free(context) };
    }
}

/// Whether the main loop can be woken. For the main thread.
pub(crate) fn is_there() -> bool {
    !CONTEXT.load(Relaxed).is_null()
}

/// Wakes the main loop, if it watches; from any thread.
pub(crate) fn wake() {
    if let Some(events) = EVENTS.get() {
        let one = 1_u64;
        // SAFETY: eight readable bytes. Full, it is signalled already.
        unsafe { libc::write(events.as_raw_fd(), (&raw const one).cast(), size_of_val(&one)) };
    }
}

extern "C" fn woken(fd: RawFd, _data: *mut c_void, _mask: c_int) {
    let mut count = 0_u64;
    // SAFETY: eight writable bytes.
    unsafe { libc::read(fd, (&raw mut count).cast(), size_of_val(&count)) };
    let context = CONTEXT.load(Relaxed);
    if let Some(look) = LOOK.get().filter(|_| !context.is_null()) {
        // A panic must not go on into the server.
        drop(catch_unwind(AssertUnwindSafe(|| look(&Context::new(context)))));
    }
}
