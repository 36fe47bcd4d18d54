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

/// # Safety
/// Room for `capacity` events.
unsafe fn wait(
    epfd: c_int,
    events: *mut epoll_event,
    capacity: c_int,
    timeout: Timeout,
    mask: *const sigset_t,
) -> Option<c_int> {
    let epoll = table::epoll(epfd)?;
    let capacity = usize::try_from(capacity).ok().filter(|&capacity| capacity > 0)?;
    // SAFETY: the caller's contract; they are only written.
    let events = unsafe { std::slice::from_raw_parts_mut(events, capacity) };
    Some(number(untouched(|| epoll.wait(events, timeout, mask))))
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
        wait(epfd, events, capacity, after_ms(timeout_ms), null())
            .unwrap_or_else(|| real::epoll_wait(epfd, events, capacity, timeout_ms))
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
        wait(epfd, events, capacity, after_ms(timeout_ms), mask)
            .unwrap_or_else(|| real::epoll_pwait(epfd, events, capacity, timeout_ms, mask))
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
        wait(epfd, events, capacity, after_timespec(timeout), mask)
            .unwrap_or_else(|| real::epoll_pwait2(epfd, events, capacity, timeout, mask))
    }
}
