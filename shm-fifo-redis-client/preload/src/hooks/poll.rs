//! `poll` and `select`.
#![allow(unsafe_code)]

use super::number;
use crate::c_library::is_musl;
use crate::epoll::Timeout;
use crate::errno::{Errno, untouched};
use crate::{poll as engine, real, sys, table};
use libc::{c_int, fd_set, nfds_t, pollfd, sigset_t, size_t, timespec, timeval};
use std::ptr::null;

/// # Safety
/// `count` entries to read and write.
unsafe fn wait(
    entries: *mut pollfd,
    count: nfds_t,
    timeout: Timeout,
    mask: *const sigset_t,
) -> Option<c_int> {
    if table::is_empty() || entries.is_null() {
        return None;
    }
    let count = usize::try_from(count).ok()?;
    // SAFETY: the caller's contract.
    let entries = unsafe { std::slice::from_raw_parts_mut(entries, count) };
    untouched(|| engine::wait(entries, timeout, mask)).map(number)
}

/// As `poll` and `epoll_wait` take it: less than 0 is for ever.
pub(super) fn after_ms(timeout_ms: c_int) -> Timeout {
    match u64::try_from(timeout_ms) {
        Ok(ms) => Timeout::After { ns: ms * 1_000_000 },
        Err(_) => Timeout::Never,
    }
}

/// # Safety
/// Null, or a live timespec.
pub(super) unsafe fn after_timespec(timeout: *const timespec) -> Timeout {
    // SAFETY: the caller's contract.
    match unsafe { timeout.as_ref() } {
        None => Timeout::Never,
        Some(time) => {
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
            Timeout::After { ns: seconds.saturating_mul(1_000_000_000).saturating_add(rest) }
        }
    }
}

/// # Safety
/// As `poll(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn poll(
    entries: *mut pollfd,
    count: nfds_t,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: the caller's own arguments.
    unsafe {
        wait(entries, count, after_ms(timeout_ms), null())
            .unwrap_or_else(|| real::poll(entries, count, timeout_ms))
    }
}

/// # Safety
/// As `poll(2)`; `room` is the size of the array.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __poll_chk(
    entries: *mut pollfd,
    count: nfds_t,
    timeout_ms: c_int,
    room: size_t,
) -> c_int {
    // SAFETY: the caller's own arguments; an array that is too small is the C
    // library's to report.
    unsafe {
        if !fits(count, room) {
            return real::__poll_chk(entries, count, timeout_ms, room);
        }
        poll(entries, count, timeout_ms)
    }
}

/// # Safety
/// As `ppoll(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn ppoll(
    entries: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's own arguments.
    unsafe {
        wait(entries, count, after_timespec(timeout), mask)
            .unwrap_or_else(|| real::ppoll(entries, count, timeout, mask))
    }
}

/// # Safety
/// As `ppoll(2)`; `room` is the size of the array.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn __ppoll_chk(
    entries: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    room: size_t,
) -> c_int {
    // SAFETY: the caller's own arguments; an array that is too small is the C
    // library's to report.
    unsafe {
        if !fits(count, room) {
            return real::__ppoll_chk(entries, count, timeout, mask, room);
        }
        ppoll(entries, count, timeout, mask)
    }
}

fn fits(count: nfds_t, room: size_t) -> bool {
    usize::try_from(count).is_ok_and(|count| count <= room / size_of::<pollfd>())
}

/// # Safety
/// As `select(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    if table::is_empty() {
        // SAFETY: the caller's own arguments.
        return unsafe { real::select(count, read, write, except, timeout) };
    }
    // SAFETY: null, or the caller's own.
    let time = match unsafe { timeout.as_ref() } {
        None => Timeout::Never,
        Some(time) => {
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            let rest = u64::try_from(time.tv_usec).unwrap_or(0);
            let ns =
                seconds.saturating_mul(1_000_000_000).saturating_add(rest.saturating_mul(1000));
            Timeout::After { ns }
        }
    };
    let started_ns = sys::monotonic_ns();
    // SAFETY: the caller's own arguments.
    unsafe {
        let mut sets = Sets { count, read, write, except };
        let Some(result) = sets.wait(time, null()) else {
            return real::select(count, read, write, except, timeout);
        };
        // musl keeps that from its programs.
        let told = timeout.as_mut().filter(|_| !is_musl());
        if let (Some(left), Timeout::After { ns }) = (told, time) {
            tell_time_left(left, ns.saturating_sub(sys::monotonic_ns() - started_ns));
        }
        result
    }
}

/// As Linux does it.
fn tell_time_left(left: &mut timeval, ns: u64) {
    left.tv_sec = libc::time_t::try_from(ns / 1_000_000_000).unwrap_or(libc::time_t::MAX);
    left.tv_usec = libc::suseconds_t::try_from(ns % 1_000_000_000 / 1000).unwrap_or(0);
}

/// # Safety
/// As `pselect(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's own arguments.
    unsafe {
        let mut sets = Sets { count, read, write, except };
        sets.wait(after_timespec(timeout), mask)
            .unwrap_or_else(|| real::pselect(count, read, write, except, timeout, mask))
    }
}

/// The three sets of a `select`. They may be larger than their type: programs
/// allocate bits for as many file descriptors as they have.
struct Sets {
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
}

impl Sets {
    /// As `poll`, if a tracked file descriptor is in one of the sets.
    ///
    /// # Safety
    /// Null, or sets of `count` bits.
    unsafe fn wait(&mut self, timeout: Timeout, mask: *const sigset_t) -> Option<c_int> {
        if table::is_empty() {
            return None;
        }
        // SAFETY: the caller's contract.
        if !unsafe { self.concerns_us() } {
            return None;
        }
        // SAFETY: the caller's contract.
        let mut entries = untouched(|| unsafe { self.entries() });
        untouched(|| engine::wait(&mut entries, timeout, mask)).map(|result| match result {
            Ok(_) if entries.iter().any(|entry| entry.revents & libc::POLLNVAL != 0) => {
                number(Err(Errno(libc::EBADF)))
            }
            // SAFETY: the caller's contract.
            Ok(_) => unsafe { self.report(&entries) },
            Err(errno) => number(Err(errno)),
        })
    }

    /// Whether one of them is not the kernel's business alone.
    unsafe fn concerns_us(&self) -> bool {
        let sets = [self.read, self.write, self.except];
        // SAFETY: the caller's contract.
        let is_asked_for = |fd| sets.iter().any(|&set| unsafe { is_set(set, fd) });
        (0..self.count).any(|fd| is_asked_for(fd) && table::waited_for(fd).is_some())
    }

    unsafe fn entries(&self) -> Vec<pollfd> {
        let mut entries = Vec::new();
        for fd in 0..self.count {
            let mut events = 0;
            // SAFETY: the caller's contract.
            unsafe {
                if is_set(self.read, fd) {
                    events |= libc::POLLIN;
                }
                if is_set(self.write, fd) {
                    events |= libc::POLLOUT;
                }
                if is_set(self.except, fd) {
                    events |= libc::POLLPRI;
                }
            }
            if events != 0 {
                entries.push(pollfd { fd, events, revents: 0 });
            }
        }
        entries
    }

    /// Leaves in the sets what is ready; how many bits those are.
    unsafe fn report(&mut self, entries: &[pollfd]) -> c_int {
        const READ: i16 = libc::POLLIN | libc::POLLHUP | libc::POLLERR;
        const WRITE: i16 = libc::POLLOUT | libc::POLLERR;
        let mut found = 0;
        for entry in entries {
            let sets = [
                (self.read, libc::POLLIN, READ),
                (self.write, libc::POLLOUT, WRITE),
                (self.except, libc::POLLPRI, libc::POLLPRI),
            ];
            for (set, asked, ready) in sets {
                if entry.events & asked == 0 {
                    continue;
                }
                if entry.revents & ready != 0 {
                    found += 1;
                } else {
                    // SAFETY: the caller's contract; the bit was set.
                    unsafe { clear(set, entry.fd) };
                }
            }
        }
        found
    }
}

/// Where the bit of `fd` is: `fd_set` is an array of `unsigned long`.
fn place(fd: c_int) -> (usize, libc::c_ulong) {
    let fd = usize::try_from(fd).unwrap_or(0);
    let bits = libc::c_ulong::BITS as usize;
    (fd / bits, 1 << (fd % bits))
}

unsafe fn is_set(set: *const fd_set, fd: c_int) -> bool {
    let (word, bit) = place(fd);
    // SAFETY: null, or a set with that bit.
    !set.is_null() && unsafe { *set.cast::<libc::c_ulong>().add(word) } & bit != 0
}

unsafe fn clear(set: *mut fd_set, fd: c_int) {
    if set.is_null() {
        return;
    }
    let (word, bit) = place(fd);
    // SAFETY: a set with that bit.
    unsafe { *set.cast::<libc::c_ulong>().add(word) &= !bit };
}
