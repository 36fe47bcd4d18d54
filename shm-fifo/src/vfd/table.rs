//! From file descriptors to what is known about them, readable from any thread.
//!
//! Two levels, as in a page table: a file descriptor that nobody ever watched
//! costs one load to look up. Slots, and what they point to, are never freed.
#![allow(unsafe_code)]

use super::in_forked_child;
use super::poller::Poller;
use super::session::Session;
use crate::os::sys;
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SLOTS_PER_PAGE: usize = 256;
/// Pages for a million file descriptors, as many as Linux allows by default.
const PAGES: usize = 4096;

type Page = [Slot; SLOTS_PER_PAGE];

static TABLE: [AtomicPtr<Page>; PAGES] = [const { AtomicPtr::new(null_mut()) }; PAGES];

/// Where and how the program watches a file descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) epfd: RawFd,
    pub(super) mask: u32,
    pub(super) data: u64,
}

/// What is known of one file descriptor.
#[derive(Debug, Default)]
pub(super) struct Slot {
    session: AtomicPtr<Session>,
    poller: AtomicPtr<Poller>,
    registration: Mutex<Option<Registration>>,
}

impl Slot {
    /// The session of this file descriptor, if it has one at the moment.
    #[inline]
    pub(super) fn live_session(&self) -> Option<&'static Session> {
        self.session().filter(|session| session.is_live())
    }

    /// The object for this file descriptor's sessions, made for the first one.
    pub(super) fn session_or_insert(&self, fd: RawFd) -> &'static Session {
        self.session().unwrap_or_else(|| publish_or_get(&self.session, Session::new(fd)))
    }

    /// The poller of this file descriptor, if it is an epoll instance that has one.
    #[inline]
    pub(super) fn poller(&self) -> Option<&'static Poller> {
        // SAFETY: null, or a box leaked by `publish_or_get`.
        unsafe { self.poller.load(Acquire).as_ref() }
    }

    /// Gives this epoll instance its poller, unless another thread was first.
    pub(super) fn set_poller(&self, poller: Poller) -> &'static Poller {
        publish_or_get(&self.poller, poller)
    }

    pub(super) fn registration(&self) -> Option<Registration> {
        *self.lock_registration()
    }

    pub(super) fn register(&self, registration: Option<Registration>) {
        *self.lock_registration() = registration;
    }

    fn lock_registration(&self) -> MutexGuard<'_, Option<Registration>> {
        self.registration.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn session(&self) -> Option<&'static Session> {
        // SAFETY: null, or a box leaked by `publish_or_get`.
        unsafe { self.session.load(Acquire).as_ref() }
    }
}

/// The slot of `fd`, if anybody ever watched a file descriptor near it.
#[inline]
pub(super) fn slot(fd: RawFd) -> Option<&'static Slot> {
    let (page, index) = place(fd)?;
    // SAFETY: null, or a box leaked by `publish_or_get`.
    let page = unsafe { page.load(Acquire).as_ref() }?;
    Some(&page[index])
}

/// The slot of `fd`; `None` for a number that can be no file descriptor here.
pub(super) fn slot_or_insert(fd: RawFd) -> Option<&'static Slot> {
    slot(fd).or_else(|| {
        let (page, index) = place(fd)?;
        let fresh: Page = std::array::from_fn(|_| Slot::default());
        Some(&publish_or_get(page, fresh)[index])
    })
}

/// All sessions that live, by file descriptor.
pub(super) fn sessions() -> impl Iterator<Item = &'static Session> {
    TABLE
        .iter()
        // SAFETY: null, or a box leaked by `publish_or_get`.
        .filter_map(|page| unsafe { page.load(Acquire).as_ref() })
        .flatten()
        .filter_map(Slot::live_session)
}

/// Does what `epoll_ctl(2)` does and remembers it.
pub(super) fn change_registration(
    epfd: RawFd,
    operation: libc::c_int,
    fd: RawFd,
    event: Option<libc::epoll_event>,
) -> io::Result<()> {
    // A forked child may have inherited a lock that a thread it does not have held.
    let Some(slot) = slot_or_insert(fd).filter(|_| !in_forked_child()) else {
        return sys::epoll_ctl(epfd, operation, fd, event);
    };
    let wanted = event.filter(|_| operation != libc::EPOLL_CTL_DEL).map(|event| Registration {
        epfd,
        mask: event.events,
        data: event.u64,
    });
    match (slot.live_session(), wanted) {
        (Some(session), Some(wanted)) => {
            Poller::of(epfd)?.admit(operation, session, wanted, &[])?
        }
        (Some(session), None) => {
            sys::epoll_ctl(epfd, operation, fd, event)?;
            session.dismiss_from(epfd);
        }
        (None, _) => sys::epoll_ctl(epfd, operation, fd, event)?,
    }
    slot.register(wanted);
    Ok(())
}

/// Finds where `fd` is watched, for registrations made before anybody told us.
///
/// The kernel lists them in `/proc/self/fdinfo/<epfd>` (proc_pid_fdinfo(5)).
pub(super) fn find_registration(fd: RawFd) -> Option<Registration> {
    let open = fs::read_dir("/proc/self/fd").ok()?;
    open.filter_map(Result::ok)
        .filter(|entry| {
            fs::read_link(entry.path())
                .is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]")
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find_map(|epfd| {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{epfd}")).ok()?;
            info.lines().find_map(|line| parse_fdinfo_line(line, epfd, fd))
        })
}

/// Parses `tfd: 8 events: 19 data: 8 …`, numbers hexadecimal but for the first.
fn parse_fdinfo_line(line: &str, epfd: RawFd, fd: RawFd) -> Option<Registration> {
    let mut words = line.split_ascii_whitespace();
    let mut value_of = |name: &str| words.find(|&word| word == name).and_then(|_| words.next());
    let target: RawFd = value_of("tfd:")?.parse().ok()?;
    let mask = u32::from_str_radix(value_of("events:")?, 16).ok()?;
    let data = u64::from_str_radix(value_of("data:")?, 16).ok()?;
    (target == fd).then_some(Registration { epfd, mask, data })
}

fn place(fd: RawFd) -> Option<(&'static AtomicPtr<Page>, usize)> {
    let fd = usize::try_from(fd).ok()?;
    Some((TABLE.get(fd / SLOTS_PER_PAGE)?, fd % SLOTS_PER_PAGE))
}

/// Publishes `value` for ever in an empty `cell`; if another thread was first,
/// its value is the one.
fn publish_or_get<T: Sync>(cell: &AtomicPtr<T>, value: T) -> &'static T {
    let fresh = Box::into_raw(Box::new(value));
    // ORDERING, AcqRel: publishes what the box holds to the Acquire loads above.
    let current = match cell.compare_exchange(null_mut(), fresh, AcqRel, Acquire) {
        Ok(_) => fresh,
        Err(other) => {
            // SAFETY: made above and never shared.
            drop(unsafe { Box::from_raw(fresh) });
            other
        }
    };
    // SAFETY: a leaked box, never freed once it is in a cell.
    unsafe { &*current }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn numbers_that_are_no_file_descriptors_have_no_slot() {
        assert!(slot_or_insert(-1).is_none());
        assert!(slot_or_insert(RawFd::MAX).is_none());
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no epoll behind libc::syscall")]
    fn registrations_made_behind_our_back_are_found() {
        let kernel_made = sys::eventfd().expect("an eventfd");
        // SAFETY: takes no pointer.
        let epfd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let event = libc::epoll_event { events: 0x19, u64: 0xABCD_EF01_2345 };
        sys::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, kernel_made.as_raw_fd(), Some(event))
            .expect("registered");

        let found = find_registration(kernel_made.as_raw_fd());

        assert_eq!(found, Some(Registration { epfd, mask: 0x19, data: 0xABCD_EF01_2345 }));
    }
}
