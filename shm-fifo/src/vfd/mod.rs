//! Virtual file descriptors: a program that knows only `read`, `write` and
//! `epoll_wait` uses a channel without noticing.
//!
//! The program keeps its connected socket. Once [`start`] has given that file
//! descriptor an [`Endpoint`], the functions here do for it what the C library's
//! calls of the same name do for a socket: level-triggered readiness, `EAGAIN`
//! on an empty or a full ring, 0 at the end. An interposer (the Redis module, a
//! preloaded library) puts them in the place of those calls; each says by `None`
//! that a file descriptor is none of its business.
//!
//! All of them may be called from any thread. They never panic, leave `errno` alone
//! unless they fail, and block only where their namesakes do: [`epoll_wait`], and
//! reading and writing a file descriptor that is in blocking mode.
//!
//! They take numbers (`RawFd`), as their namesakes do. A number is all that the caller has of a
//! descriptor that is another program's, which may close it at any moment: there is nothing to
//! borrow.
//!
//! # Limits
//!
//! Readiness is level-triggered and told to whoever waits. A registration with `EPOLLET`,
//! `EPOLLONESHOT` or `EPOLLEXCLUSIVE` is refused with `EINVAL`: by [`epoll_ctl`] for a
//! file descriptor that has moved, and by [`start`] for one that has them, which stays a
//! socket.
//!
//! A virtual file descriptor is watched by at most one epoll instance at a time. In
//! a forked child it is dead: reading and writing fail with `EPIPE` there, and nothing else
//! here knows of it.

mod crowd;
mod deferred;
mod idle;
mod member;
mod members;
mod place;
mod poller;
mod session;
mod settings;
mod stats;
mod table;
mod tag;
mod unread;
mod usage;
mod wait;
mod wake;

use crate::os::endpoint::Endpoint;
use crate::os::fork::{self, Generation};
use crate::os::sys;
use poller::{EPOLLOUT, Poller};
use session::Session;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::sync::OnceLock;
use table::{Registration, Slot};

pub use session::SessionInfo;
pub use settings::{WaitSettings, configure};
pub use stats::{Stats, stats};
pub use usage::{Usage, usage};

static PREPARED_BY: OnceLock<Generation> = OnceLock::new();

/// The error of a call that stands for a system call: its `errno`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub libc::c_int);

/// Makes what everything else here needs, and forked children of this process
/// recognisable. To be called once, before anything else here.
///
/// # Errors
/// If there is no memory or no file descriptor for it.
pub fn prepare() -> io::Result<()> {
    wake::prepare()?;
    let own = fork::prepare()?;
    PREPARED_BY.get_or_init(|| own);
    Ok(())
}

/// Whether this process is a forked child of the one that called [`prepare`].
/// Whatever that one mapped with this crate is not there.
#[must_use]
#[inline]
pub fn in_forked_child() -> bool {
    PREPARED_BY.get().is_some_and(|&own| own != fork::generation())
}

/// Moves the connected socket `fd` onto shared memory: from now on the functions
/// of this module serve it.
///
/// `owner` is any number the program knows the connection by; [`sessions`] tells it.
/// `greeting` is what the peer reads first, by which it knows that the move has taken
/// place. It is published before any thread looks at what the peer has written: so a
/// peer may write before it was greeted, and ring nobody
/// ([`Watch::needs_notify_if_entered`](crate::Watch::needs_notify_if_entered)).
///
/// # Errors
/// `AlreadyExists` if it has moved before, `InvalidInput` if it is watched in a way that is
/// not served (see the module's limits); otherwise what the system says when the socket's
/// registration in an epoll instance cannot be found or changed. Nothing has moved then. In a forked child, `BrokenPipe`.
pub fn start(fd: RawFd, endpoint: Endpoint, owner: u64, greeting: &[u8]) -> io::Result<()> {
    if in_forked_child() {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let slot = table::slot_or_insert(fd).ok_or(io::ErrorKind::InvalidInput)?;
    let session = slot.session_or_insert(fd).ok_or(io::ErrorKind::BrokenPipe)?;
    session.begin(endpoint, owner)?;
    let entered = greet_and_watch(slot, session, greeting);
    match entered {
        Ok(()) if !greeting.is_empty() => session.notify_after_greeting(),
        Ok(()) => {}
        Err(_) => session.abandon(),
    }
    entered
}

/// Greets the peer and has the poller, if any, look at the session from then on.
fn greet_and_watch(slot: &Slot, session: &'static Session, greeting: &[u8]) -> io::Result<()> {
    let watch = |registration: Registration| -> io::Result<()> {
        let poller = Poller::of(registration.epfd)?;
        slot.register(Some(registration));
        poller.admit(libc::EPOLL_CTL_MOD, session, registration, greeting)
    };
    // What is remembered may be of an epoll instance that was closed since.
    if slot.registration().is_some_and(|remembered| watch(remembered).is_ok()) {
        return Ok(());
    }
    slot.register(None);
    match table::find_registration(session.fd()) {
        Some(registration) => watch(registration),
        None => {
            // Nobody watches it at the moment; whoever adds it will.
            session.greet(greeting);
            Ok(())
        }
    }
}

/// Whether the socket `fd` can be left where the program is in its output: it does not
/// wait to go on with something that it began to write there, and there is room for the
/// doorbell that ends the stream.
///
/// What it holds back without having begun goes into the ring, behind the greeting.
#[must_use]
pub fn is_between_writes(fd: RawFd) -> bool {
    let Some(slot) = table::slot_or_insert(fd) else { return false };
    if slot.registration().is_none() {
        // Made before anybody told us; from now on we are told.
        slot.register(table::find_registration(fd));
    }
    let waits_to_write = slot.registration().is_some_and(|known| known.mask & EPOLLOUT != 0);
    !waits_to_write && sys::is_writable(fd)
}

/// Whether `fd` has been moved onto shared memory.
#[must_use]
pub fn is_virtual(fd: RawFd) -> bool {
    table::slot(fd).is_some_and(Slot::is_virtual)
}

/// For `read(2)`: reads what there is into `target`. A file descriptor in blocking
/// mode waits for something, as long as `SO_RCVTIMEO` says.
#[inline]
pub fn read(fd: RawFd, target: &mut [u8]) -> Option<Result<usize, Errno>> {
    call(fd, |session| session.read(target))
}

/// For `write(2)` and `writev(2)`: writes what there is space for. A file descriptor
/// in blocking mode waits for the space, each time as long as `SO_SNDTIMEO` says.
#[inline]
pub fn write(fd: RawFd, sources: &[IoSlice<'_>]) -> Option<Result<usize, Errno>> {
    call(fd, |session| session.write(sources))
}

/// For `epoll_ctl(2)`: call it instead, for every file descriptor, so that the
/// engine knows where each is registered.
///
/// # Errors
/// What the kernel says; `EINVAL` for what is not served (see the module's limits), which
/// leaves a registration as it was.
pub fn epoll_ctl(
    epfd: RawFd,
    operation: libc::c_int,
    fd: RawFd,
    event: Option<libc::epoll_event>,
) -> Result<(), Errno> {
    keeping_errno(|| table::change_registration(epfd, operation, fd, event).map_err(Errno::from))
}

/// For `epoll_wait(2)`. `None` if no virtual file descriptor was ever watched by
/// `epfd`, and while nobody else makes one so; the caller then asks the kernel
/// and passes its answer to [`filter_events`].
#[inline]
pub fn epoll_wait(
    epfd: RawFd,
    events: &mut [libc::epoll_event],
    timeout_ms: libc::c_int,
) -> Option<Result<usize, Errno>> {
    let poller = Poller::existing(epfd)?;
    if events.is_empty() {
        return None;
    }
    Some(keeping_errno(|| poller.wait(events, timeout_ms).map_err(Errno::from)))
}

/// Takes the engine's own events out of what the kernel's `epoll_wait` returned
/// while [`epoll_wait`] had said `None`. Returns how many are left in front.
pub fn filter_events(epfd: RawFd, events: &mut [libc::epoll_event], count: usize) -> usize {
    match Poller::existing(epfd) {
        Some(poller) => leaving_errno(|| poller.filter(events, count)),
        None => count,
    }
}

/// For `close(2)`: to be called just before it, for every file descriptor.
///
/// Of one that nothing is known of it takes no lock.
pub fn before_close(fd: RawFd) {
    let Some(slot) = table::slot(fd) else { return };
    if in_forked_child() || !slot.forget() {
        return;
    }
    leaving_errno(|| {
        if let Some(session) = slot.live_session() {
            session.end();
        }
        if let Some(poller) = slot.poller() {
            poller.disarm();
        }
    });
}

/// Puts a mark of the program's on `fd`, by which it knows this very file descriptor until
/// it is closed; 0 is none. Returns whether it could.
#[must_use]
pub fn set_mark(fd: RawFd, mark: u64) -> bool {
    table::slot_or_insert(fd).inspect(|slot| slot.set_mark(mark)).is_some()
}

/// The mark that [`set_mark`] put on `fd`; 0 if none, or if it was closed since.
#[must_use]
pub fn mark(fd: RawFd) -> u64 {
    table::slot(fd).map_or(0, Slot::mark)
}

/// The safety net against lost doorbells: to be called now and then, some times a
/// second, by a timer that the program has anyway. It costs little and wakes no
/// event loop but one that sleeps over bytes.
///
/// What it finds counts in [`Stats::missed_doorbells`]: no peer that follows the
/// protocol causes any. It also gives memory back that peers of ended connections have read
/// by now, and such as connections need not keep that are silent for some seconds.
pub fn sweep() {
    if in_forked_child() {
        return;
    }
    leaving_errno(|| {
        poller::sweep_all();
        unread::sweep();
        idle::sweep();
    });
}

/// All moved connections, in the order of their file descriptors; none in a forked child.
#[must_use]
pub fn sessions() -> Vec<SessionInfo> {
    table::sessions().filter_map(Session::info).collect()
}

const EPIPE: Errno = Errno(libc::EPIPE);

/// Does on the session of `fd`, if it has one, what a system call would on the socket.
#[inline]
fn call(
    fd: RawFd,
    work: impl FnOnce(&'static Session) -> Result<usize, Errno>,
) -> Option<Result<usize, Errno>> {
    let slot = table::slot(fd)?;
    match slot.live_session() {
        Some(session) => Some(keeping_errno(|| work(session))),
        None => slot.is_virtual().then(|| keeping_errno(|| Err(EPIPE))),
    }
}

/// Runs `call`; `errno` is what it was before.
fn leaving_errno<T>(call: impl FnOnce() -> T) -> T {
    let before = sys::errno();
    let result = call();
    sys::set_errno(before);
    result
}

/// Runs `call`; on success `errno` is what it was before.
fn keeping_errno<T>(call: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let before = sys::errno();
    let result = call();
    sys::set_errno(match &result {
        Ok(_) => before,
        Err(Errno(code)) => *code,
    });
    result
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}
