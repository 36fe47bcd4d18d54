//! From file descriptors to what is known about them, readable from any thread. Slots, and
//! what they point to, are never freed.
//!
//! A signal handler may come here too, in the middle of anything that the interrupted
//! thread does here or in the heap. So what is asked or told of a file descriptor that has
//! no session waits for no lock and allocates nothing.
#![allow(unsafe_code)]

use super::in_forked_child;
use super::poller::Poller;
use super::session::Session;
use crate::interposer::FdTable;
use crate::os::fork::{self, NotInherited};
use crate::os::sys;
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64};
use std::sync::{Mutex, MutexGuard, TryLockError};

static TABLE: FdTable<Slot> = FdTable::new();

/// Where and how the program watches a file descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) epfd: RawFd,
    pub(super) mask: u32,
    pub(super) data: u64,
}

/// Whether it is known where a file descriptor is watched.
#[derive(Debug, Clone, Copy, Default)]
enum Told {
    /// Nobody has said anything since it was made.
    #[default]
    Nothing,
    /// There, or nowhere.
    Watched(Option<Registration>),
}

/// What is known of one file descriptor.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Whether there is anything to forget when it is closed.
    is_known: AtomicBool,
    /// The program's own mark, until it is closed; 0 is none.
    mark: AtomicU64,
    session: AtomicPtr<NotInherited<Session>>,
    poller: AtomicPtr<NotInherited<Poller>>,
    /// Never waited for: whoever finds it locked leaves word that nothing is certain.
    registration: Mutex<Told>,
    is_uncertain: AtomicBool,
}

impl Slot {
    /// Whether it has a session, which in a forked child is a dead one.
    #[inline]
    pub(super) fn is_virtual(&self) -> bool {
        self.session().is_some_and(|session| session.even_if_inherited().is_live())
    }

    /// The session of this file descriptor, if it has one at the moment; none in a forked
    /// child.
    #[inline]
    pub(super) fn live_session(&self) -> Option<&'static Session> {
        self.session()?.get().filter(|session| session.is_live())
    }

    /// The object for this file descriptor's sessions, made for the first one. None in a
    /// forked child of the process that made it.
    pub(super) fn session_or_insert(&self, fd: RawFd) -> Option<&'static Session> {
        let made = || NotInherited::new(Session::new(fd), fork::generation());
        self.session().unwrap_or_else(|| publish_or_get(&self.session, made())).get()
    }

    /// The poller of this file descriptor, if it is an epoll instance that has one; none in
    /// a forked child.
    #[inline]
    pub(super) fn poller(&self) -> Option<&'static Poller> {
        // SAFETY: null, or a box leaked by `publish_or_get`.
        unsafe { self.poller.load(Acquire).as_ref() }?.get()
    }

    /// Gives this epoll instance its poller, unless another thread was first. None as for
    /// [`Slot::session_or_insert`].
    pub(super) fn set_poller(&self, poller: Poller) -> Option<&'static Poller> {
        publish_or_get(&self.poller, NotInherited::new(poller, fork::generation())).get()
    }

    // ORDERING, Relaxed, of the mark and the flags: no data depends on them, and one file
    // descriptor's are changed by whoever owns it.

    pub(super) fn mark(&self) -> u64 {
        self.mark.load(Relaxed)
    }

    pub(super) fn set_mark(&self, mark: u64) {
        self.mark.store(mark, Relaxed);
    }

    /// Where it is watched, as far as that is certain.
    pub(super) fn registration(&self) -> Option<Registration> {
        match *self.try_registration()? {
            Told::Watched(registration) if !self.is_uncertain.load(Relaxed) => registration,
            _ => None,
        }
    }

    /// Remembers where it is watched, or that it is not.
    pub(super) fn register(&self, registration: Option<Registration>) {
        self.tell(Told::Watched(registration));
    }

    /// Remembers where it is watched, unless somebody has told already.
    fn register_if_untold(&self, registration: Registration) {
        let told = self.try_registration();
        if let Some(mut told) = told.filter(|told| matches!(**told, Told::Nothing)) {
            *told = Told::Watched(Some(registration));
        }
    }

    /// Forgets all that ends with the file descriptor, but for its session and its poller.
    /// Whether there was anything to forget: if not, it has neither.
    pub(super) fn forget(&self) -> bool {
        if !self.is_known.load(Relaxed) {
            return false;
        }
        self.is_known.store(false, Relaxed);
        self.set_mark(0);
        self.tell(Told::Nothing);
        true
    }

    fn tell(&self, news: Told) {
        match self.try_registration() {
            Some(mut told) => {
                self.is_uncertain.store(false, Relaxed);
                *told = news;
            }
            // Another thread, or the one that this signal handler has interrupted, tells
            // something else. Which of the two came last nobody knows.
            None => self.is_uncertain.store(true, Relaxed),
        }
    }

    fn try_registration(&self) -> Option<MutexGuard<'_, Told>> {
        match self.registration.try_lock() {
            Ok(told) => Some(told),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    #[inline]
    fn session(&self) -> Option<&'static NotInherited<Session>> {
        // SAFETY: null, or a box leaked by `publish_or_get`.
        unsafe { self.session.load(Acquire).as_ref() }
    }
}

/// The slot of `fd`, if anybody ever watched a file descriptor near it.
#[inline]
pub(super) fn slot(fd: RawFd) -> Option<&'static Slot> {
    TABLE.get(fd)
}

/// The slot of `fd`, which is known from now on; `None` for a number that can be no file
/// descriptor here, or if there is no memory.
pub(super) fn slot_or_insert(fd: RawFd) -> Option<&'static Slot> {
    let slot = TABLE.get_or_insert(fd)?;
    if !slot.is_known.load(Relaxed) {
        slot.is_known.store(true, Relaxed);
    }
    Some(slot)
}

/// All sessions that live, by file descriptor; none in a forked child.
pub(super) fn sessions() -> impl Iterator<Item = &'static Session> {
    TABLE.iter().filter_map(|(_, slot)| slot.live_session())
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
            match Poller::of(epfd)?.admit(operation, session, wanted, &[]) {
                // It has come back to its socket since it was looked up.
                Err(_) if !session.is_live() => sys::epoll_ctl(epfd, operation, fd, event)?,
                admitted => admitted?,
            }
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

/// Finds where `fd` is watched, for registrations made before anybody told us. What it
/// learns of other file descriptors on the way is remembered.
///
/// The kernel lists them in `/proc/self/fdinfo/<epfd>` (proc_pid_fdinfo(5)).
pub(super) fn find_registration(fd: RawFd) -> Option<Registration> {
    let mut found = None;
    for epfd in epoll_instances() {
        let Ok(info) = fs::read_to_string(format!("/proc/self/fdinfo/{epfd}")) else { continue };
        for (target, registration) in info.lines().filter_map(|line| parse_fdinfo_line(line, epfd))
        {
            if target == fd {
                found = found.or(Some(registration));
            } else if let Some(slot) = slot_or_insert(target) {
                slot.register_if_untold(registration);
            }
        }
    }
    found
}

/// All epoll instances of this process.
fn epoll_instances() -> impl Iterator<Item = RawFd> {
    let is_epoll = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]")
    };
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().filter_map(Result::ok);
    open.filter(is_epoll).filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Parses `tfd: 8 events: 19 data: 8 …`, numbers hexadecimal but for the first.
fn parse_fdinfo_line(line: &str, epfd: RawFd) -> Option<(RawFd, Registration)> {
    let mut words = line.split_ascii_whitespace();
    let mut value_of = |name: &str| words.find(|&word| word == name).and_then(|_| words.next());
    let target = value_of("tfd:")?.parse().ok()?;
    let mask = u32::from_str_radix(value_of("events:")?, 16).ok()?;
    let data = u64::from_str_radix(value_of("data:")?, 16).ok()?;
    Some((target, Registration { epfd, mask, data }))
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
    fn what_is_told_while_something_else_is_being_told_is_uncertain() {
        let slot = Slot::default();
        let there = Registration { epfd: 3, mask: 1, data: 7 };
        slot.register(Some(there));
        assert_eq!(slot.registration(), Some(there));

        // As a signal handler does that interrupts the thread here.
        let telling = slot.try_registration();
        slot.register(None);
        assert_eq!(slot.registration(), None);
        drop(telling);
        assert_eq!(slot.registration(), None);

        slot.register(Some(there));
        assert_eq!(slot.registration(), Some(there));
    }

    #[test]
    fn what_was_found_does_not_replace_what_was_told() {
        let slot = Slot::default();
        let found = Registration { epfd: 3, mask: 1, data: 7 };
        slot.register(None);
        slot.register_if_untold(found);
        assert_eq!(slot.registration(), None);

        slot.is_known.store(true, Relaxed);
        assert!(slot.forget());
        slot.register_if_untold(found);
        assert_eq!(slot.registration(), Some(found));
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

        let other = sys::eventfd().expect("an eventfd");
        sys::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, other.as_raw_fd(), Some(event))
            .expect("registered");

        let found = find_registration(kernel_made.as_raw_fd());

        let registration = Registration { epfd, mask: 0x19, data: 0xABCD_EF01_2345 };
        assert_eq!(found, Some(registration));
        // The next one is not looked for again.
        let remembered = slot(other.as_raw_fd()).and_then(Slot::registration);
        assert_eq!(remembered, Some(registration));
    }
}
