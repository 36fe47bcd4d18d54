//! `epoll`.
#![allow(unsafe_code)]

use super::number;
use super::poll::after_timespec;
use crate::epoll::{Epoll, Timeout};
use crate::errno::{Errno, untouched};
use crate::table::{self, Entry};
use crate::{real, settings};
use libc::{c_int, epoll_event, sigset_t, timespec};
use std::ptr::null;
use std::sync::Arc;

/// # Safety
/// As `epoll_ctl(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_ctl(
    epfd: c_int,
    operation: c_int,
    fd: c_int,
    event: *mut epoll_event,
) -> c_int {
    let connection = match table::entry(fd) {
        Some(Entry::Connection(connection)) => connection,
        other => {
            if operation == libc::EPOLL_CTL_ADD
                && let Some(Entry::Epoll(inner)) = other
                && !untouched(|| inner.leave_to_kernel())
            {
                return number(Err(Errno(libc::ELOOP)));
            }
            // SAFETY: the caller's own arguments.
            let result = unsafe { real::epoll_ctl(epfd, operation, fd, event) };
            if operation == libc::EPOLL_CTL_ADD && settings::get().is_some() {
                table::note_watched(fd);
            }
            return result;
        }
    };
    let Some(epoll) = watcher(epfd) else {
        // What waits for an epoll instance, and how, is not known.
        if !untouched(|| connection.give_up()) {
            return number(Err(Errno(libc::EPERM)));
        }
        // SAFETY: the caller's own arguments.
        return unsafe { real::epoll_ctl(epfd, operation, fd, event) };
    };
    // SAFETY: null, or an event to read. It is packed, or not aligned more than that.
    let event = (!event.is_null()).then(|| unsafe { event.read_unaligned() });
    let result = untouched(|| epoll.control(operation, fd, event, &connection));
    number(result.map(|()| 0))
}

/// The epoll instance behind `epfd`; `None` if another one may watch it.
fn watcher(epfd: c_int) -> Option<Arc<Epoll>> {
    table::epoll(epfd).or_else(|| {
        if table::was_watched(epfd) {
            return None;
        }
        let epoll = Arc::new(Epoll::new(epfd));
        table::fill(epfd, Entry::Epoll(Arc::clone(&epoll)));
        Some(epoll)
    })
}

/// Waits in `epfd`; `real` is the call itself, for an instance of which nothing is known.
///
/// # Safety
/// Room for `capacity` events.
unsafe fn wait(
    epfd: c_int,
    events: *mut epoll_event,
    capacity: c_int,
    timeout: Timeout,
    mask: *const sigset_t,
    real: impl FnOnce() -> c_int,
) -> c_int {
    let room = usize::try_from(capacity).ok().filter(|&room| room > 0 && !events.is_null());
    let (Some(room), Some(_)) = (room, settings::get()) else { return real() };
    if let Some(epoll) = table::epoll(epfd) {
        // SAFETY: the caller's contract; they are only written.
        let events = unsafe { std::slice::from_raw_parts_mut(events, room) };
        return number(untouched(|| epoll.wait(events, timeout, mask)));
    }
    let deadline_ns = timeout.deadline_ns();
    let heard = table::as_stranger(epfd, real);
    let count = match heard.map(usize::try_from) {
        None => 0,
        Some(Ok(count)) if count > 0 => count,
        // Nothing came in time, or `errno` says what did.
        Some(Ok(_) | Err(_)) => return heard.unwrap_or(0),
    };
    let Some(epoll) = table::epoll(epfd) else { return heard.unwrap_or(0) };
    // It has come to watch a connection meanwhile: events may be doorbells of ours.
    // SAFETY: as above.
    let events = unsafe { std::slice::from_raw_parts_mut(events, room) };
    number(untouched(|| match epoll.welcome(events, count) {
        0 => epoll.wait(events, Timeout::until(deadline_ns), mask),
        found => Ok(found),
    }))
}

fn after_ms(timeout_ms: c_int) -> Timeout {
    match u64::try_from(timeout_ms) {
        Ok(ms) => Timeout::After { ns: ms * 1_000_000 },
        Err(_) => Timeout::Never,
    }
}

/// # Safety
/// As `epoll_wait(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_wait(
    epfd: c_int,
    events: *mut epoll_event,
    capacity: c_int,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: the caller's own arguments.
    unsafe {
        wait(epfd, events, capacity, after_ms(timeout_ms), null(), || {
            real::epoll_wait(epfd, events, capacity, timeout_ms)
        })
    }
}

/// # Safety
/// As `epoll_pwait(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_pwait(
    epfd: c_int,
    events: *mut epoll_event,
    capacity: c_int,
    timeout_ms: c_int,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's own arguments.
    unsafe {
        wait(epfd, events, capacity, after_ms(timeout_ms), mask, || {
            real::epoll_pwait(epfd, events, capacity, timeout_ms, mask)
        })
    }
}

/// # Safety
/// As `epoll_pwait2(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_pwait2(
    epfd: c_int,
    events: *mut epoll_event,
    capacity: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's own arguments.
    unsafe {
        wait(epfd, events, capacity, after_timespec(timeout), mask, || {
            real::epoll_pwait2(epfd, events, capacity, timeout, mask)
        })
    }
}
