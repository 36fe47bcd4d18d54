//! How a program forbids itself system calls. It cannot know which ones a move makes, so what
//! has not moved by then stays on its socket.
#![allow(unsafe_code)]

use crate::errno::untouched;
use crate::report::Reason;
use crate::{real, table, trial};
use libc::{c_int, c_long, c_ulong};
use std::os::fd::RawFd;

/// Its arguments are variable; on every architecture of Linux they come where fixed ones would.
///
/// # Safety
/// As `prctl(2)`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn prctl(
    option: c_int,
    a: c_ulong,
    b: c_ulong,
    c: c_ulong,
    d: c_ulong,
) -> c_int {
    if option == libc::PR_SET_SECCOMP {
        before_filter();
    }
    // SAFETY: the caller's own arguments.
    unsafe { real::prctl(option, a, b, c, d) }
}

/// Whether this `seccomp(2)` is about to install a filter.
pub(super) fn is_filter(operation: c_long) -> bool {
    let operations = [libc::SECCOMP_SET_MODE_STRICT, libc::SECCOMP_SET_MODE_FILTER];
    operations.into_iter().any(|known| c_long::from(known) == operation)
}

/// The program is about to forbid itself some.
#[cold]
pub(super) fn before_filter() {
    untouched(|| {
        trial::filter_begins();
        for fd in table::known_between(0, RawFd::MAX) {
            if let Some(connection) = table::connection(fd) {
                connection.give_up(Reason::NotAttached);
            }
        }
    });
}
