//! Loading, unloading, and everything that Redis calls.
//!
//! The module is registered by hand and not by `redis_module!`: that macro
//! aborts a server older than 7.0 where there are settings, and leaves nothing
//! that runs after the last step that can fail.
#![allow(unsafe_code)]

use crate::registration::{Argument, Command};
use crate::status::{ERR, OK};
use crate::{client, commands, config, image, info, interpose, log, offers, pool};
use crate::{postponed, refused, server, waker};
use redis_module::{Context, InfoContext, RedisError, RedisResult, RedisString, decode_args, raw};
use shm_fifo::vfd;
use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

const MODULE_NAME: &CStr = c"shm";
const MODULE_VERSION: c_int = 1;

/// Reconnecting clients must not be stuck on the socket while the server loads
/// its data; scripts have no connection of their own to move. What a connection does to
/// move is nobody's news.
const OFFER: &CStr = c"fast allow-loading allow-stale deny-script no-monitor";
/// Beside that, the token is a secret: not for MONITOR, and not for the slow log.
const START: &CStr = c"fast allow-loading allow-stale deny-script no-monitor no-slowlog";
/// It looks at all connections, and shows them all.
const ADMINISTRATION: &CStr = c"admin allow-loading allow-stale deny-script";

static COMMANDS: [Command; 3] = [
    Command {
        name: c"shm.open",
        handler: open_command,
        flags: OFFER,
        summary: c"Offers this connection two rings in shared memory",
        complexity: c"O(1)",
        categories: c"fast connection",
        arguments: &[
            Argument {
                name: c"version",
                kind: raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER,
                token: None,
            },
            Argument {
                name: c"name",
                kind: raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING,
                token: Some(c"FDSOCKET"),
            },
        ],
    },
    Command {
        name: c"shm.start",
        handler: start_command,
        flags: START,
        summary: c"Moves this connection onto the rings that SHM.OPEN offered",
        complexity: c"O(1)",
        categories: c"fast connection",
        arguments: &[Argument {
            name: c"token",
            kind: raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING,
            token: None,
        }],
    },
    Command {
        name: c"shm.list",
        handler: list_command,
        flags: ADMINISTRATION,
        summary: c"Lists the connections that are on shared memory or about to be",
        complexity: c"O(N) where N is the number of such connections",
        categories: c"slow connection admin dangerous",
        arguments: &[],
    },
];

/// Called by the server when it loads the module.
///
/// # Safety
/// To be called by a Redis or Valkey server, as its module API says.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the module API's name")]
pub unsafe extern "C" fn RedisModule_OnLoad(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    guarded(|| {
        let context = Context::new(ctx);
        let loaded = initialise(ctx).and_then(|()| load(&context, &decode_args(ctx, argv, argc)));
        match loaded {
            Ok(()) => OK,
            Err(reason) => {
                log::warning(&context, &format!("not loaded: {reason}"));
                ERR
            }
        }
    })
    .unwrap_or(ERR)
}

/// Called by the server when it is asked to unload the module.
///
/// # Safety
/// To be called by a Redis or Valkey server, as its module API says.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the module API's name")]
pub unsafe extern "C" fn RedisModule_OnUnload(ctx: *mut raw::RedisModuleCtx) -> c_int {
    guarded(|| {
        let context = Context::new(ctx);
        if let Some(reason) = reason_to_stay(&context) {
            log::warning(&context, &format!("not unloaded: {reason}"));
            return ERR;
        }
        // The hooks stay where they are and pass every call on.
        pool::stop();
        waker::stop();
        OK
    })
    .unwrap_or(ERR)
}

/// Runs what the server calls; `None` if it panicked. That must not go on into the server,
/// which would abort.
fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Gets the server's functions. It fails where the name is taken, and has got them then.
fn initialise(ctx: *mut raw::RedisModuleCtx) -> Result<(), String> {
    // SAFETY: the server's context, before any other use of the API.
    let initialised = unsafe {
        raw::Export_RedisModule_Init(
            ctx,
            MODULE_NAME.as_ptr(),
            MODULE_VERSION,
            raw::REDISMODULE_APIVER_1 as c_int,
        )
    };
    if initialised == OK {
        return Ok(());
    }
    Err("a module shm is loaded already; is there one `loadmodule` in redis.conf, and another in a \
         file that it includes or on the command line?"
        .into())
}

/// Why the module cannot be unloaded at the moment, if it cannot.
fn reason_to_stay(context: &Context) -> Option<String> {
    offers::drop_old();
    let sessions = vfd::usage().sessions;
    let offers = offers::pending().offers + postponed::opens();
    if sessions > 0 || offers > 0 {
        return Some(format!(
            "{sessions} connections are on shared memory and {offers} are about to be; set \
             shm.max-sessions to 0 and end them first (SHM.LIST names them)"
        ));
    }
    let Some(holders) = client::holders_of_commands(context) else {
        return Some("CLIENT LIST, which tells who still has to do with it, fails".into());
    };
    (!holders.is_empty()).then(|| {
        format!(
            "the server would use its commands afterwards, and may crash, for the clients with \
             the ids {}: they sent one last, or are in a transaction; have them send something \
             else, or end them",
            holders.join(" ")
        )
    })
}

/// A failing step undoes nothing: the server forgets commands, settings and INFO of a
/// module that was not loaded, and the hooks pass everything on. But before Redis 7.2 it
/// goes on calling one that had subscribed to an event, so that comes last.
fn load(context: &Context, args: &[RedisString]) -> Result<(), String> {
    image::check()?;
    vfd::prepare().map_err(|error| format!("no memory or file descriptor: {error}"))?;
    config::load(context, args)?;
    COMMANDS.iter().try_for_each(|command| command.register(context))?;
    declare_no_data(context)?;
    register_info(context)?;
    interpose::install()?;
    subscribe_to_cron(context)?;
    waker::start(context, postponed::look);
    pool::start();
    log::notice(context, "ready to serve clients of this machine over shared memory");
    Ok(())
}

/// `REDISMODULE_OPTIONS_HANDLE_REPL_ASYNC_LOAD`: data may be replaced while clients read.
const HANDLE_REPL_ASYNC_LOAD: c_int = 1 << 2;
/// `VALKEYMODULE_OPTIONS_HANDLE_ATOMIC_SLOT_MIGRATION`: keys may come before their slot.
const HANDLE_ATOMIC_SLOT_MIGRATION: c_int = 1 << 5;

/// Beside a module that might keep data of its own a replica does not load without disk
/// by `swapdb`, and Valkey 9 refuses `CLUSTER MIGRATESLOTS`. This one has none.
fn declare_no_data(context: &Context) -> Result<(), String> {
    // SAFETY: set by the server before it runs the module's own code.
    let set = unsafe { raw::RedisModule_SetModuleOptions }
        .ok_or("the server is older than Redis 6.2: it has no RedisModule_SetModuleOptions")?;
    // In Redis nobody knows what that number will mean.
    let of_valkey = if server::is_valkey(context) { HANDLE_ATOMIC_SLOT_MIGRATION } else { 0 };
    // SAFETY: a live context; what a server does not know it ignores.
    unsafe { set(context.ctx, HANDLE_REPL_ASYNC_LOAD | of_valkey) };
    Ok(())
}

fn register_info(context: &Context) -> Result<(), String> {
    // SAFETY: set by the server before it runs the module's own code.
    let register = unsafe { raw::RedisModule_RegisterInfoFunc }
        .ok_or("the server is older than Redis 6.2: it has no RedisModule_RegisterInfoFunc")?;
    // SAFETY: a live context; the function has the right signature.
    let registered = unsafe { register(context.ctx, Some(info_section)) };
    if registered == OK { Ok(()) } else { Err("the server refused the INFO section".into()) }
}

fn subscribe_to_cron(context: &Context) -> Result<(), String> {
    let event = raw::RedisModuleEvent { id: raw::REDISMODULE_EVENT_CRON_LOOP, dataver: 1 };
    // SAFETY: set by the server before it runs the module's own code.
    let subscribe = unsafe { raw::RedisModule_SubscribeToServerEvent }
        .ok_or("the server is older than Redis 6.2: it has no server events")?;
    // SAFETY: a live context; the function has the right signature.
    let subscribed = unsafe { subscribe(context.ctx, event, Some(cron)) };
    if subscribed == OK { Ok(()) } else { Err("the server refused its cron event".into()) }
}

extern "C" fn open_command(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    run(ctx, argv, argc, commands::open)
}

extern "C" fn start_command(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    run(ctx, argv, argc, commands::start)
}

extern "C" fn list_command(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    run(ctx, argv, argc, commands::list)
}

/// Runs a command; not even a bug in it takes the server down.
fn run(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
    command: fn(&Context, &[RedisString]) -> RedisResult,
) -> c_int {
    guarded(|| {
        let context = Context::new(ctx);
        let result = guarded(|| command(&context, &decode_args(ctx, argv, argc)));
        let internal = RedisError::Str("ERR shm: internal error, please report it");
        context.reply(result.unwrap_or(Err(internal))) as c_int
    })
    .unwrap_or(ERR)
}

extern "C" fn info_section(ctx: *mut raw::RedisModuleInfoCtx, for_crash_report: c_int) {
    // A crash report is no time to take locks.
    if for_crash_report == 0 {
        guarded(|| info::add_section(&InfoContext::new(ctx)));
    }
}

/// Ten times a second by default: what needs no client to come by.
extern "C" fn cron(
    ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    _subevent: u64,
    _data: *mut c_void,
) {
    guarded(|| {
        let context = Context::new(ctx);
        offers::drop_old();
        postponed::look(&context);
        pool::adjust(postponed::used_bytes());
        vfd::sweep();
        info::log_violations(&context);
        refused::log(&context);
    });
}
