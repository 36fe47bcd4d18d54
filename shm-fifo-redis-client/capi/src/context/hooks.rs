//! The functions that a moved context calls in place of its own.
#![allow(unsafe_code)]

use super::{Carrier, Context, shm_fifo_redis_context_free, shm_fifo_redis_events};
use crate::connection::{SHM_FIFO_REDIS_NOW, errno_of, shm_fifo_redis};
use libc::{c_char, c_int, c_void, ssize_t};
use shm_fifo_redis_client::{Attempt, Interest, MoveError, Progress, Refusal};
use std::io;
use std::mem;

/// What the two libraries take for "nothing now, but no error".
const NOTHING: ssize_t = 0;
/// What they take for an error, which is in the context.
const FAILED: ssize_t = -1;

/// Where a context's bytes go.
enum Place {
    Socket,
    SharedMemory,
    /// Nowhere, until that is decided.
    Between,
}

/// The `read` of a moved context.
///
/// # Safety
/// The functions of `context` are ours; `target` has that much room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_context_read(
    context: *mut c_void,
    target: *mut c_char,
    room: usize,
) -> ssize_t {
    // SAFETY: the caller says that there is room. Nothing reads what is in it.
    let target = unsafe { std::slice::from_raw_parts_mut(target.cast::<u8>(), room) };
    // SAFETY: the caller's contract; nothing here calls the context's library.
    unsafe { (*Context::of(context)).read(target) }
}

/// The `write` of a moved context.
///
/// # Safety
/// The functions of `context` are ours.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_context_write(context: *mut c_void) -> ssize_t {
    // SAFETY: the caller's contract; nothing here calls the context's library.
    unsafe { (*Context::of(context)).write() }
}

/// The `async_read` and the `async_write` of a moved context: its socket is ready for
/// something. Goes on in both directions.
///
/// # Safety
/// The functions of `context` are ours. It may be freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_fifo_redis_context_event(context: *mut c_void) {
    // SAFETY: the caller's contract.
    let this = unsafe { Context::of(context) };
    // SAFETY: a live context of ours, borrowed for each of these lines only.
    let Some(events) = (unsafe { (*this).events }) else { return };
    // SAFETY: as above; of the context's library it calls the reader only.
    match unsafe { (*this).advance(&events) } {
        Place::Between => {}
        // SAFETY: as above.
        Place::SharedMemory => unsafe { write_out(context, &events) },
        Place::Socket => {
            // SAFETY: it is the context's `privctx` and no longer used.
            unsafe { shm_fifo_redis_context_free(this.cast()) };
            // For the commands that waited for the outcome.
            events.come_back(true);
        }
    }
    if let Some(async_read) = events.async_read {
        // SAFETY: the context's own function. The last thing, because it may free it.
        unsafe { async_read(context) };
    }
}

/// Writes out the commands of a context in shared memory. A socket can always be written,
/// so that is not waited for while the ring is full, but a doorbell, which is read.
///
/// # Safety
/// The functions of `context` are ours.
unsafe fn write_out(context: *mut c_void, events: &shm_fifo_redis_events) {
    // SAFETY: the caller's contract.
    let this = unsafe { Context::of(context) };
    // SAFETY: borrowed for this line only.
    unsafe { (*this).wake_up() };
    let mut is_done: c_int = 0;
    if let Some(buffer_write) = events.buffer_write {
        // SAFETY: the library's own function. An error is in the context, and ends it when
        // it is read.
        unsafe { buffer_write(context, &raw mut is_done) };
    }
    // SAFETY: as above.
    let sleeps = is_done != 0 || unsafe { (*this).sleeps_until_writable() };
    events.come_back(!sleeps);
}

impl Context {
    fn read(&mut self, target: &mut [u8]) -> ssize_t {
        let timeout_us = self.timeout_us();
        let Carrier::Moved(connection) = &mut self.carrier else { return NOTHING };
        let read = connection.read(target, timeout_us);
        // An event loop is told of what comes later, but not of what is there already.
        if let Some(events) = self.events
            && mem::take(&mut self.is_awake)
            && !connection.park(Interest::READABLE)
        {
            events.come_back(true);
        }
        match read {
            Ok(0) => {
                self.parts.fail(self.parts.err_eof, "Server closed the connection");
                FAILED
            }
            read => self.told(read),
        }
    }

    fn write(&mut self) -> ssize_t {
        let timeout_us = self.timeout_us();
        let output = self.parts.output();
        match &mut self.carrier {
            Carrier::Moved(connection) if !output.is_empty() => {
                let written = connection.write(output, timeout_us);
                self.told(written)
            }
            // The command that stands for the move, which sends its own.
            Carrier::Moving(_) if !mem::replace(&mut self.is_asked, true) => {
                self.told(Ok(output.len()))
            }
            _ => NOTHING,
        }
    }

    fn timeout_us(&self) -> i64 {
        if self.events.is_some() { SHM_FIFO_REDIS_NOW } else { self.parts.timeout_us() }
    }

    /// What the library wants to hear.
    fn told(&self, result: io::Result<usize>) -> ssize_t {
        match result.map_err(|error| errno_of(&error)) {
            Ok(count) => ssize_t::try_from(count).unwrap_or(ssize_t::MAX),
            Err(libc::EAGAIN) if self.events.is_some() => NOTHING,
            Err(errno) => {
                self.parts.fail_by(errno);
                FAILED
            }
        }
    }

    fn wake_up(&mut self) {
        if let Carrier::Moved(connection) = &mut self.carrier {
            connection.listen();
            self.is_awake = true;
        }
    }

    /// Whether it sleeps until the ring has space, which is announced then.
    fn sleeps_until_writable(&mut self) -> bool {
        match &mut self.carrier {
            Carrier::Moved(connection) => connection.park(Interest::WRITABLE),
            _ => true,
        }
    }

    /// Takes the move as far as it goes now.
    fn advance(&mut self, events: &shm_fifo_redis_events) -> Place {
        let Carrier::Moving(moving) = &mut self.carrier else { return Place::SharedMemory };
        match moving.advance() {
            Ok(Progress::Waiting(interest)) => {
                events.come_back(interest.writable);
                Place::Between
            }
            Ok(Progress::Decided) => self.decide(),
            Err(error) => self.lose(&error),
        }
    }

    /// Replies to the command that stands for the move. What came meanwhile follows, as
    /// that may end in the middle of a push.
    fn decide(&mut self) -> Place {
        let carrier = mem::replace(&mut self.carrier, Carrier::Stayed);
        let Carrier::Moving(moving) = carrier else { return Place::Socket };
        match moving.into_attempt() {
            Ok(Attempt::Moved(mut stream)) => {
                self.parts.feed(b"+OK\r\n");
                self.parts.feed(&stream.take_kept());
                self.carrier = Carrier::Moved(shm_fifo_redis { stream });
                Place::SharedMemory
            }
            Ok(Attempt::Stayed(mut stream, refusal)) => {
                self.parts.feed(error_reply(&refusal).as_bytes());
                self.parts.feed(&stream.take_kept());
                Place::Socket
            }
            Err(error) => self.lose(&error),
        }
    }

    fn lose(&mut self, error: &MoveError) -> Place {
        self.parts.fail_to_move(error);
        Place::Between
    }
}

/// An error of one line, as a server sends it.
fn error_reply(refusal: &Refusal) -> String {
    format!("-{}\r\n", refusal.to_string().replace(['\r', '\n'], " "))
}
