//! `SHM.START` that waits: for a socket to take what the server has begun to send.
//!
//! Redis stops sending where a socket is full, in the middle of a value if need be, and
//! that value cannot go on in the ring. Pushes (invalidations, messages) do that to a
//! client that has not read them yet. To refuse its `SHM.START` would be wrong: it may
//! have written requests into the ring already. So its command is answered later. The
//! server executes nothing else of that client meanwhile, as of any blocked one.
#![allow(unsafe_code)]

use crate::api::{ERR, OK};
use crate::commands;
use redis_module::{Context, raw};
use std::ffi::{CString, c_int, c_longlong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often it is looked whether a socket has taken it.
const PERIOD_MS: c_longlong = 1;

#[derive(Debug, Clone, Copy)]
struct Postponed {
    client_id: u64,
    blocked: *mut raw::RedisModuleBlockedClient,
}

// SAFETY: the handle is used on the server's main thread only; the list that holds it is a
// static, and so asked for this.
unsafe impl Send for Postponed {}

static POSTPONED: Mutex<Vec<Postponed>> = Mutex::new(Vec::new());

/// Answers the command that is being executed later, once [`commands::start_again`] does.
/// `None` if the server cannot do that.
pub(crate) fn postpone(context: &Context, client_id: u64) -> Option<()> {
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
    let is_first = {
        let mut postponed = lock();
        postponed.push(Postponed { client_id, blocked });
        postponed.len() == 1
    };
    if is_first {
        look_again_later(context.ctx);
    }
    Some(())
}

fn look_again_later(ctx: *mut raw::RedisModuleCtx) {
    // SAFETY: set by the server before it calls any function of the module.
    if let Some(create_timer) = unsafe { raw::RedisModule_CreateTimer } {
        // SAFETY: a live context; the function has the right signature.
        unsafe { create_timer(ctx, PERIOD_MS, Some(look_again), null_mut()) };
    }
}

extern "C" fn look_again(ctx: *mut raw::RedisModuleCtx, _data: *mut c_void) {
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let context = Context::new(ctx);
        let waiting = lock().clone();
        for postponed in waiting {
            if let Some(outcome) = commands::start_again(&context, postponed.client_id) {
                lock().retain(|other| other.blocked != postponed.blocked);
                unblock(postponed.blocked, outcome.err());
            }
        }
    }));
    drop(looked);
    if !lock().is_empty() {
        look_again_later(ctx);
    }
}

/// Has the server go on with the client; where it has not moved, after this `error`.
fn unblock(blocked: *mut raw::RedisModuleBlockedClient, error: Option<String>) {
    let error = error.and_then(|text| CString::new(text).ok());
    let data = error.map_or(null_mut(), |error| error.into_raw().cast());
    // SAFETY: set by the server before it calls any function of the module.
    if let Some(unblock) = unsafe { raw::RedisModule_UnblockClient } {
        // SAFETY: a handle that has not been given back yet; `forget` frees the data.
        unsafe { unblock(blocked, data) };
    }
}

/// Called when an unblocked client goes on. One that has moved was answered in its ring.
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
    _ctx: *mut raw::RedisModuleCtx,
    blocked: *mut raw::RedisModuleBlockedClient,
) {
    let waiting = lock().extract_if(.., |postponed| postponed.blocked == blocked).count();
    if waiting > 0 {
        unblock(blocked, None);
    }
}

fn lock() -> MutexGuard<'static, Vec<Postponed>> {
    POSTPONED.lock().unwrap_or_else(PoisonError::into_inner)
}
