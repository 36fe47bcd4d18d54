//! Contexts of hiredis and libvalkey: what `shm_fifo_hiredis.h` and
//! `shm_fifo_libvalkey.h` stand on.
//!
//! A context calls its functions through a table. One that moves gets a table of its own,
//! in which those that carry bytes are [`hooks`]. They are this library's, so a context is
//! known as moved whichever part of a program moved it, also when that is unloaded.
//!
//! Invariants: a context with one of the hooks has a [`Context`] as its table and as its
//! `privctx`, until [`shm_fifo_redis_context_free`]. No reference to a [`Context`] lives
//! while a function of the context's library is called, which calls the hooks.
#![allow(unsafe_code)]

mod hooks;
mod keep_fd;
mod parts;

pub use hooks::{
    shm_fifo_redis_context_event, shm_fifo_redis_context_read, shm_fifo_redis_context_write,
};
pub use parts::{shm_fifo_redis_events, shm_fifo_redis_parts};

use crate::connection::{Failure, borrowed, deadline, move_socket, shm_fifo_redis, stream_over};
use crate::text;
use libc::{c_char, c_int, c_void};
use rustix::net::getpeername;
use shm_fifo_redis_client::Moving;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

/// How many functions a table may have: those of today have ten at most.
const MAX_FUNCS: usize = 16;
/// A context's functions, in whichever order.
type Table = [*const c_void; MAX_FUNCS];
/// What a context has that is closed, or has given its descriptor away.
const NO_FD: c_int = -1;

/// A context with our functions.
#[repr(C)]
struct Context {
    /// First, so that a pointer to them is one to all of this.
    table: Table,
    /// Those that it had.
    original: *const c_void,
    parts: shm_fifo_redis_parts,
    /// Those of an asynchronous context.
    events: Option<shm_fifo_redis_events>,
    carrier: Carrier,
    /// The number of its descriptor.
    number: c_int,
    /// The command that stands for the move, and gets its outcome as reply, was taken.
    is_asked: bool,
    /// The event loop came: who reads now announces that it goes to sleep.
    is_awake: bool,
}

enum Carrier {
    Moving(Box<Moving>),
    Moved(shm_fifo_redis),
    /// The socket, as before.
    Stayed,
}

/// For `shm_fifo_hiredis.h` and `shm_fifo_libvalkey.h`: moves a blocking context, within
/// its command timeout. `funcs` are its functions, with those of this library in their
/// places.
///
/// The reason is that of `shm_fifo_redis_move`. If the connection was lost, the context
/// has failed.
///
/// # Safety
/// `parts` are those of a live context; `funcs` has `funcs_bytes` bytes, and `reason`
/// room for `reason_bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_context_move(
    parts: *const shm_fifo_redis_parts,
    funcs: *const c_void,
    funcs_bytes: usize,
    reason: *mut c_char,
    reason_bytes: usize,
) {
    // SAFETY: the caller's contract.
    let parts = unsafe { *parts };
    // SAFETY: the caller's contract.
    let moved = unsafe { table_of(funcs, funcs_bytes) }.and_then(|table| move_now(&parts, table));
    let failure = moved.err();
    if let Some(Failure::Lost(error)) = &failure {
        parts.fail_to_move(error);
    }
    // SAFETY: the caller says how much room there is.
    unsafe { text::write_reason(failure.as_ref(), reason, reason_bytes) };
}

/// For `shm_fifo_hiredis.h` and `shm_fifo_libvalkey.h`: begins to move an asynchronous
/// context, which goes on whenever its event loop comes. The next command that the
/// context writes out stands for the move, and gets its outcome as reply: a status, or an
/// error that says why the context stays on its socket.
///
/// Returns whether it has begun. If not, the reason says why.
///
/// # Safety
/// As for `shm_fifo_redis_context_move`; `events` are those of the same context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_context_begin(
    parts: *const shm_fifo_redis_parts,
    events: *const shm_fifo_redis_events,
    funcs: *const c_void,
    funcs_bytes: usize,
    reason: *mut c_char,
    reason_bytes: usize,
) -> c_int {
    // SAFETY: the caller's contract.
    let (parts, events) = unsafe { (*parts, *events) };
    // SAFETY: the caller's contract.
    let begun =
        unsafe { table_of(funcs, funcs_bytes) }.and_then(|table| begin(&parts, events, table));
    // SAFETY: the caller says how much room there is.
    unsafe { text::write_reason(begun.as_ref().err(), reason, reason_bytes) };
    c_int::from(begun.is_ok())
}

/// For `shm_fifo_hiredis.h` and `shm_fifo_libvalkey.h`: what carries a context with this
/// `privctx`, whose `free_privctx` is `shm_fifo_redis_context_free`. It stays the
/// context's. NULL as long as that is a socket.
///
/// # Safety
/// It is that of a live context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_context_connection(
    privctx: *mut c_void,
) -> *mut shm_fifo_redis {
    // SAFETY: the module's invariant.
    match unsafe { privctx.cast::<Context>().as_mut() } {
        Some(Context { carrier: Carrier::Moved(connection), .. }) => connection,
        _ => ptr::null_mut(),
    }
}

/// The `free_privctx` of a moved context: ends its connection and gives it back the
/// functions that it had.
///
/// # Safety
/// `privctx` is NULL or that of a live context, which may be about to be freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_context_free(privctx: *mut c_void) {
    if privctx.is_null() {
        return;
    }
    // SAFETY: made by `Box::into_raw`, and taken back once: it is forgotten below.
    let context = unsafe { Box::from_raw(privctx.cast::<Context>()) };
    context.parts.install(context.original, ptr::null_mut());
    if context.parts.fd() == NO_FD {
        // It is closed, unless somebody keeps it.
        keep_fd::answer_at(context.number, context.socket());
    }
}

/// The functions of a context as they come from C.
///
/// # Safety
/// `funcs` has `bytes` bytes.
unsafe fn table_of(funcs: *const c_void, bytes: usize) -> Result<Table, Failure> {
    let mut table: Table = [ptr::null(); MAX_FUNCS];
    if bytes > size_of_val(&table) {
        return Err(Failure::Obstacle("the context has functions that are not known here"));
    }
    // SAFETY: there is room for so many bytes, which are pointers.
    unsafe { table.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(funcs.cast(), bytes) };
    Ok(table)
}

fn move_now(parts: &shm_fifo_redis_parts, table: Table) -> Result<(), Failure> {
    if parts.is_blocking == 0 {
        return Err(Failure::Obstacle("a non-blocking context moves only as an asynchronous one"));
    }
    if parts.is_ours != 0 {
        return Ok(());
    }
    check(parts)?;
    let deadline = deadline(parts.timeout_us());
    // SAFETY: the context's own socket, which is open.
    let stream = unsafe { move_socket(parts.fd(), deadline, |kept| parts.feed(kept)) }?;
    Context::install(parts, table, None, Carrier::Moved(shm_fifo_redis { stream }));
    Ok(())
}

fn begin(
    parts: &shm_fifo_redis_parts,
    events: shm_fifo_redis_events,
    table: Table,
) -> Result<(), Failure> {
    check(parts)?;
    // SAFETY: the context's own socket, which is open if there is one.
    let socket = unsafe { borrowed(parts.fd()) }?;
    // Not by REDIS_CONNECTED, which hiredis 1.0 sets after the callback.
    getpeername(socket).map_err(|_| Failure::Obstacle("the context is not connected yet"))?;
    let moving = Box::new(Moving::begin(stream_over(socket)?)?);
    Context::install(parts, table, Some(events), Carrier::Moving(moving));
    Ok(())
}

/// Whether the context may move.
fn check(parts: &shm_fifo_redis_parts) -> Result<(), Failure> {
    let obstacle = if parts.is_ours != 0 {
        "the context is in shared memory already, or on its way there"
    } else if parts.is_carried() {
        "the connection is over TLS, which shared memory does not go through"
    } else if parts.is_usual == 0 {
        "the context has functions of its own"
    } else if parts.is_busy != 0 || !parts.output().is_empty() {
        "commands, replies or messages are outstanding"
    } else {
        return Ok(());
    };
    Err(Failure::Obstacle(obstacle))
}

impl Context {
    fn install(
        parts: &shm_fifo_redis_parts,
        table: Table,
        events: Option<shm_fifo_redis_events>,
        carrier: Carrier,
    ) {
        let context = Box::into_raw(Box::new(Self {
            table,
            original: parts.funcs(),
            parts: *parts,
            events,
            carrier,
            number: parts.fd(),
            is_asked: false,
            is_awake: false,
        }));
        parts.install(context.cast(), context.cast());
    }

    /// What this context of hiredis or libvalkey has as its functions.
    ///
    /// # Safety
    /// They are ours.
    unsafe fn of(context: *mut c_void) -> *mut Self {
        // SAFETY: the headers check that they are the first thing in a context.
        unsafe { *context.cast() }
    }

    /// The socket, or -1 if another has it again.
    fn socket(&self) -> RawFd {
        match &self.carrier {
            Carrier::Moving(moving) => moving.as_raw_fd(),
            Carrier::Moved(connection) => connection.stream.as_raw_fd(),
            Carrier::Stayed => NO_FD,
        }
    }
}
