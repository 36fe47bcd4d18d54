//! `epoll`.
#![allow(unsafe_code)]

use super::files::watches_something;
use super::number;
use super::poll::{after_ms, after_timespec};
use crate::connection::Connection;
use crate::epoll::{Epoll, Timeout};
use crate::errno::{self, Errno, untouched};
use crate::report::Reason;
use crate::table::{self, Entry, Watch};
use crate::{real, settings};
use libc::{c_int, epoll_event, sigset_t, timespec};
use std::ptr::null;
use std::sync::{Arc, Weak};

/// # Safety
/// As `epoll_ctl(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn epoll_ctl(
    epfd: c_int,
    operation: c_int,
    fd: c_int,
    event: *mut epoll_event,
) -> c_int {
    watches_something();
    let entry = table::entry(fd);
    if let Some(Entry::Epoll(inner)) = &entry
        // SAFETY: the caller's own arguments.
        && let Some(result) = unsafe { control_nested(inner, epfd, operation, event) }
    {
        if result == 0 && operation == libc::EPOLL_CTL_DEL {
            untouched(|| note(epfd, operation, fd, None));
        }
        return result;
    }
    let Some(Entry::Connection(connection)) = entry else {
        // SAFETY: the caller's own arguments.
        let result = unsafe { real::epoll_ctl(epfd, operation, fd, event) };
        if result == 0 && settings::get().is_some() {
            // SAFETY: null, or an event to read. It is packed, or not aligned more than that.
            let event = (!event.is_null()).then(|| unsafe { event.read_unaligned() });
            untouched(|| note(epfd, operation, fd, event));
        }
        return result;
    };
    let Some(epoll) = table::epoll(epfd).or_else(|| stranger(epfd, operation, &connection)) else {
        // SAFETY: the caller's own arguments.
        return unsafe { real::epoll_ctl(epfd, operation, fd, event) };
    };
    if untouched(|| epoll.prepare().is_err() && connection.give_up(Reason::Watched)) {
        // SAFETY: the caller's own arguments.
        return unsafe { real::epoll_ctl(epfd, operation, fd, event) };
    }
    // SAFETY: as above.
    let known = (!event.is_null()).then(|| unsafe { event.read_unaligned() });
    let result = untouched(|| epoll.control(operation, fd, known, &connection));
    // It cannot be served there, or that takes descriptors of our own and the program may have
    // no more.
    if let (libc::EPOLL_CTL_ADD, Err(errno)) = (operation, result)
        && let Errno(libc::EMFILE | libc::ENFILE | libc::EPERM) = errno
        && untouched(|| connection.come_back(reason_of(errno)))
    {
        // SAFETY: the caller's own arguments.
        return unsafe { real::epoll_ctl(epfd, operation, fd, event) };
    }
    number(result.map(|()| 0))
}

fn reason_of(errno: Errno) -> Reason {
    match errno {
        Errno(libc::EPERM) => Reason::Watched,
        _ => Reason::NotAttached,
    }
}

/// The instance `inner` is to be watched by another one: where connections of it have moved,
/// what is watched is the private one beside it. `None` if that does not concern us.
///
/// # Safety
/// As `epoll_ctl(2)`.
unsafe fn control_nested(
    inner: &Epoll,
    epfd: c_int,
    operation: c_int,
    event: *mut epoll_event,
) -> Option<c_int> {
    let private = untouched(|| inner.expose())?;
    // SAFETY: the caller's own arguments, but for the number.
    let result = unsafe { real::epoll_ctl(epfd, operation, private, event) };
    // It was told of the program's own, before any connection had moved.
    let is_unknown = result != 0 && errno::get() == libc::ENOENT;
    (!is_unknown).then_some(result)
}

/// An instance that was not seen when it was made: who waits for it, and how, is not known,
/// so the connection stays on its socket, or comes back there; `None`. One that cannot is
/// served there as everywhere.
fn stranger(epfd: c_int, operation: c_int, connection: &Arc<Connection>) -> Option<Arc<Epoll>> {
    let is_left = untouched(|| match operation {
        libc::EPOLL_CTL_ADD => connection.come_back(Reason::Watched),
        _ => connection.give_up(Reason::Watched),
    });
    if is_left {
        return None;
    }
    let epoll = Arc::new(Epoll::new(epfd));
    untouched(|| table::fill(epfd, Entry::Epoll(Arc::clone(&epoll))));
    Some(epoll)
}

/// An epoll instance has been told of `fd`, which is no connection, or not yet.
fn note(epfd: c_int, operation: c_int, fd: c_int, event: Option<epoll_event>) {
    let epoll = table::epoll(epfd);
    let is_same = |known: &Weak<Epoll>| {
        epoll.as_ref().is_some_and(|epoll| std::ptr::eq(known.as_ptr(), Arc::as_ptr(epoll)))
    };
    match (operation, event) {
        (libc::EPOLL_CTL_ADD, Some(event)) => table::change_watch(fd, |watch| {
            *watch = match (&watch, &epoll) {
                (Watch::Nobody, Some(epoll)) => Watch::Once(Arc::downgrade(epoll), event),
                // The other one is gone.
                (Watch::Once(other, _), Some(epoll)) if other.strong_count() == 0 => {
                    Watch::Once(Arc::downgrade(epoll), event)
                }
                _ => Watch::Unclear,
            };
        }),
        (libc::EPOLL_CTL_MOD, Some(event)) => {
            if let Watch::Once(known, _) = table::watch(fd)
                && is_same(&known)
            {
                table::change_watch(fd, |watch| *watch = Watch::Once(known, event));
            }
        }
        (libc::EPOLL_CTL_DEL, _) => {
            if let Watch::Once(known, _) = table::watch(fd)
                && is_same(&known)
            {
                table::change_watch(fd, |watch| *watch = Watch::Nobody);
            }
        }
        _ => {}
    }
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
    mut real: impl FnMut() -> c_int,
) -> c_int {
    let room = usize::try_from(capacity).ok().filter(|&room| room > 0 && !events.is_null());
    let (Some(room), Some(_)) = (room, settings::get()) else { return real() };
    let deadline_ns = timeout.deadline_ns();
    let heard = table::watching_epoll(epfd).is_none().then(|| {
        table::as_stranger(epfd, || {
            let count = real();
            // SAFETY: the kernel has written so many.
            let told = |count| unsafe { std::slice::from_raw_parts(events, count) };
            if let (Ok(count @ 1..), Some(epoll)) =
                (usize::try_from(count), table::watching_epoll(epfd))
            {
                untouched(|| epoll.told_outside(told(count)));
            }
            count
        })
    });
    let epoll = match (table::watching_epoll(epfd), heard) {
        // Nothing is told to strangers but what is the kernel's.
        (None, Some(Some(count))) => return count,
        (None, _) => return real(),
        (Some(epoll), _) => epoll,
    };
    // SAFETY: the caller's contract; they are only written.
    let events = unsafe { std::slice::from_raw_parts_mut(events, room) };
    if let Some(count) = heard {
        // It has come to watch a connection meanwhile; or before this thread did anything, which
        // may have been counted, and called, all the same.
        let known = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        let kept = untouched(|| epoll.welcome(events, known));
        match count {
            Some(count) if known == 0 => return count,
            Some(_) if kept > 0 => return number(Ok(kept)),
            _ => {}
        }
    }
    number(untouched(|| epoll.wait(events, Timeout::until(deadline_ns), mask)))
}

/// # Safety
/// As `epoll_wait(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn epoll_wait(
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
pub(super) unsafe extern "C" fn epoll_pwait(
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
pub(super) unsafe extern "C" fn epoll_pwait2(
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
