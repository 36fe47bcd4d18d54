//! Commands that wait.
//!
//! `SHM.OPEN` waits for a region, where none is ready: to make one takes longer the larger it
//! is, and the server serves nobody meanwhile. Those that wait are served in their order, as
//! soon as the thread that makes regions has woken the server's loop.
//!
//! `SHM.START` waits for a socket to take what the server has begun to send. Redis stops
//! sending where a socket is full, in the middle of a value if need be, and that value cannot
//! go on in the ring. Pushes (invalidations, messages) do that to a client that has not read
//! them yet. To refuse its `SHM.START` would be wrong: it may have written requests into the
//! ring already.
//!
//! So the command is answered later. The server executes nothing else of that client
//! meanwhile, as of any blocked one. A timer looks where nobody wakes the loop: for sockets,
//! and for regions in servers that let no module do that.
#![allow(unsafe_code)]

use crate::open::{FdSocket, open_again};
use crate::refusal::Refusal;
use crate::start::start_again;
use crate::status::{ERR, OK};
use crate::{commands, offers, pool, waker};
use redis_module::{Context, ContextFlags, raw};
use shm_fifo::vfd;
use std::collections::VecDeque;
use std::ffi::{CString, c_int, c_longlong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How soon it is looked again. Where nothing has come of that, as while a large region is
/// made, it is looked twice as late each time.
const SHORTEST_MS: c_longlong = 1;
const LONGEST_MS: c_longlong = 64;

/// A client that waits.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    client_id: u64,
    blocked: *mut raw::RedisModuleBlockedClient,
}

// SAFETY: the handle is used on the server's main thread only; the list that holds it is a
// static, and so asked for this.
unsafe impl Send for Waiting {}

#[derive(Debug)]
struct Lists {
    opens: VecDeque<(Waiting, FdSocket)>,
    starts: VecDeque<Waiting>,
}

/// The timer that looks next, and after how many milliseconds it does; 0 if there is none.
static TIMER: AtomicU64 = AtomicU64::new(NO_TIMER);
static PERIOD_MS: AtomicI64 = AtomicI64::new(0);
const NO_TIMER: raw::RedisModuleTimerID = 0;

// ORDERING, Relaxed, of both: the server's main thread alone uses them.

static LISTS: Mutex<Lists> = Mutex::new(Lists { opens: VecDeque::new(), starts: VecDeque::new() });

/// How many clients wait for regions.
pub(crate) fn opens() -> usize {
    lock().opens.len()
}

/// Has the `SHM.OPEN` that is being executed wait for a region. `None` if the server cannot
/// do that.
pub(crate) fn postpone_open(context: &Context, client_id: u64, fd_socket: FdSocket) -> Option<()> {
    let waiting = block(context, client_id)?;
    {
        let mut lists = lock();
        lists.opens.push_back((waiting, fd_socket));
        pool::note_waiting(lists.opens.len());
    }
    look_again_soon(context);
    Some(())
}

/// Has the `SHM.START` that is being executed wait for its socket. `None` if the server
/// cannot do that.
pub(crate) fn postpone_start(context: &Context, client_id: u64) -> Option<()> {
    let waiting = block(context, client_id)?;
    lock().starts.push_back(waiting);
    look_again_soon(context);
    Some(())
}

/// Blocks the client.
fn block(context: &Context, client_id: u64) -> Option<Waiting> {
    const NEVER: c_longlong = 0;
    // SAFETY: set by the server before it calls any function of the module.
    let block = unsafe { raw::RedisModule_BlockClient }?;
    // SAFETY: as above.
    let set_disconnect_callback = unsafe { raw::RedisModule_SetDisconnectCallback }?;
    // SAFETY: a live context of a command outside scripts and transactions; functions of
    // the right signatures.
    let blocked = unsafe { block(context.ctx, Some(reply), None, Some(forget), NEVER) };
    // SAFETY: the handle that was just made.
    unsafe { set_disconnect_callback(blocked, Some(disconnected)) };
    Some(Waiting { client_id, blocked })
}

/// Has a timer look at the lists before long, if there is something there for which nobody
/// wakes the loop: sooner than one would that has become slow because of others.
fn look_again_soon(context: &Context) {
    let is_slow = !has_timer() || PERIOD_MS.load(Relaxed) > SHORTEST_MS;
    if is_slow && lock().need_a_timer() {
        look_no_more(context.ctx);
        look_again_in(SHORTEST_MS, context.ctx);
    }
}

fn has_timer() -> bool {
    TIMER.load(Relaxed) != NO_TIMER
}

fn look_again_in(period_ms: c_longlong, ctx: *mut raw::RedisModuleCtx) {
    PERIOD_MS.store(period_ms, Relaxed);
    // SAFETY: set by the server before it calls any function of the module.
    if let Some(create_timer) = unsafe { raw::RedisModule_CreateTimer } {
        // SAFETY: a live context; the function has the right signature.
        let timer = unsafe { create_timer(ctx, period_ms, Some(look_again), null_mut()) };
        TIMER.store(timer, Relaxed);
    }
}

/// Has nobody look, where nobody waits any more: the server unloads no module that has a
/// timer.
fn look_no_more(ctx: *mut raw::RedisModuleCtx) {
    let timer = TIMER.swap(NO_TIMER, Relaxed);
    // SAFETY: set by the server before it calls any function of the module.
    let stop_timer = unsafe { raw::RedisModule_StopTimer };
    if let (true, Some(stop_timer)) = (timer != NO_TIMER, stop_timer) {
        // SAFETY: a live context, and a timer of this module that is not being called;
        // `null` for its data, which is not wanted.
        unsafe { stop_timer(ctx, timer, null_mut()) };
    }
}

extern "C" fn look_again(ctx: *mut raw::RedisModuleCtx, _data: *mut c_void) {
    TIMER.store(NO_TIMER, Relaxed);
    let waited = lock().count();
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let context = Context::new(ctx);
        look_at_opens(&context);
        look_at_starts(&context);
    }));
    drop(looked);
    let lists = lock();
    let period_ms = match PERIOD_MS.load(Relaxed).saturating_mul(2) {
        // What a socket waits for is its client's doing, which is soon done.
        longer if lists.count() == waited && lists.starts.is_empty() => longer.min(LONGEST_MS),
        _ => SHORTEST_MS,
    };
    if lists.need_a_timer() && !has_timer() {
        look_again_in(period_ms, ctx);
    }
}

/// Looks at those who wait for regions: the loop was woken for them, or it is time again for
/// what nobody wakes it for, as a change of the limits.
pub(crate) fn look(context: &Context) {
    // The server comes here also in the middle of a script or of loading, where it goes on
    // with no client that was blocked.
    if !context.get_flags().intersects(ContextFlags::LUA | ContextFlags::LOADING) {
        look_at_opens(context);
        let wait = lock().count();
        if wait == 0 {
            look_no_more(context.ctx);
        } else if !has_timer() {
            look_again_soon(context);
        }
    }
}

/// Serves those who wait for regions, as many as are ready, the first ones first.
fn look_at_opens(context: &Context) {
    let mut waiting = std::mem::take(&mut lock().opens);
    if waiting.is_empty() {
        return;
    }
    let failure = pool::failure();
    let mut kept = Vec::new();
    while let Some((client, fd_socket)) = waiting.pop_front() {
        // Before this one takes a region: the thread need not make one more for it.
        pool::note_waiting(kept.len() + waiting.len());
        let outcome = match &failure {
            Some(reason) => Some(Err(Refusal::Region(reason.clone()))),
            None => open_again(context, client.client_id, fd_socket),
        };
        match outcome {
            Some(outcome) => client.go_on(commands::OPEN, outcome),
            None => kept.push((client, fd_socket)),
        }
        if !kept.is_empty() && !pool::has_ready() {
            break;
        }
    }
    kept.into_iter().rev().for_each(|passed_over| waiting.push_front(passed_over));
    pool::note_waiting(waiting.len());
    lock().opens = waiting;
    pool::adjust(used_bytes());
}

/// Bytes of memory that connections and offers take, but for the offers that those who wait
/// would have replaced.
pub(crate) fn used_bytes() -> usize {
    let lists = lock();
    let waiting = lists.opens.iter().map(|(client, _)| client.client_id);
    let usage = vfd::usage();
    usage.region_bytes + usage.unread_bytes + offers::pending_beside(waiting).bytes
}

fn look_at_starts(context: &Context) {
    let mut waiting = std::mem::take(&mut lock().starts);
    waiting.retain(|client| match start_again(context, client.client_id) {
        Some(outcome) => {
            client.go_on(commands::START, outcome);
            false
        }
        None => true,
    });
    lock().starts = waiting;
}

impl Lists {
    fn count(&self) -> usize {
        self.opens.len() + self.starts.len()
    }

    fn need_a_timer(&self) -> bool {
        let nobody_wakes = !waker::is_there() || pool::has_news_already();
        !self.starts.is_empty() || !self.opens.is_empty() && nobody_wakes
    }
}

impl Waiting {
    /// Has the server go on with the client, whose `name`d command came to this.
    fn go_on(self, name: &str, outcome: Result<(), Refusal>) {
        unblock(self.blocked, outcome.err().map(|refusal| refusal.reply_to(name).to_string()));
    }
}

/// Has the server go on with the client, after this `error` if there is one. Otherwise it
/// was answered by the module.
fn unblock(blocked: *mut raw::RedisModuleBlockedClient, error: Option<String>) {
    let error = error.and_then(|text| CString::new(text).ok());
    let data = error.map_or(null_mut(), |error| error.into_raw().cast());
    // SAFETY: set by the server before it calls any function of the module.
    if let Some(unblock) = unsafe { raw::RedisModule_UnblockClient } {
        // SAFETY: a handle that has not been given back yet; `forget` frees the data.
        unsafe { unblock(blocked, data) };
    }
}

/// Called when an unblocked client goes on.
extern "C" fn reply(
    ctx: *mut raw::RedisModuleCtx,
    _argv: *mut *mut raw::RedisModuleString,
    _argc: c_int,
) -> c_int {
    // SAFETY: set by the server before it calls any function of the module.
    let Some(get) = (unsafe { raw::RedisModule_GetBlockedClientPrivateData }) else { return ERR };
    // SAFETY: the context of a client that is being unblocked.
    let error = unsafe { get(ctx) };
    if error.is_null() {
        return OK;
    }
    // SAFETY: set by the server before it calls any function of the module.
    let Some(reply) = (unsafe { raw::RedisModule_ReplyWithError }) else { return ERR };
    // SAFETY: a live context, and the C string that `unblock` made.
    unsafe { reply(ctx, error.cast_const().cast()) }
}

extern "C" fn forget(_ctx: *mut raw::RedisModuleCtx, data: *mut c_void) {
    if !data.is_null() {
        // SAFETY: the C string that `unblock` made, given back once.
        drop(unsafe { CString::from_raw(data.cast()) });
    }
}

/// Called when a client ends that is still waiting. Its handle is to be given back.
extern "C" fn disconnected(
    ctx: *mut raw::RedisModuleCtx,
    blocked: *mut raw::RedisModuleBlockedClient,
) {
    let (waited, wait) = {
        let mut lists = lock();
        let before = lists.count();
        lists.opens.retain(|(client, _)| client.blocked != blocked);
        lists.starts.retain(|client| client.blocked != blocked);
        pool::note_waiting(lists.opens.len());
        (lists.count() < before, lists.count())
    };
    if waited {
        unblock(blocked, None);
    }
    if wait == 0 {
        look_no_more(ctx);
    }
}

fn lock() -> MutexGuard<'static, Lists> {
    LISTS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offers::Way;
    use shm_fifo::Region;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn an_offer_that_its_client_waits_to_have_replaced_takes_no_room() {
        const WAITS: u64 = 1;
        const DOES_NOT: u64 = 2;
        let sockets: [_; 2] = UnixStream::pair().expect("a socket pair").into();
        for (client_id, socket) in [WAITS, DOES_NOT].into_iter().zip(&sockets) {
            let region = Region::create(4096).expect("memory");
            let token = region.token();
            offers::make(client_id, socket.as_raw_fd(), Way::Connection, region, token);
        }
        assert_eq!(used_bytes(), 2 * Region::bytes_with_rings_of(4096));

        let waiting = Waiting { client_id: WAITS, blocked: null_mut() };
        lock().opens.push_back((waiting, None));

        assert_eq!(used_bytes(), Region::bytes_with_rings_of(4096));
        lock().opens.clear();
    }
}
