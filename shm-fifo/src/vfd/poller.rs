//! The engine's part of one epoll instance: who is watched there, and that a sleeper hears
//! of changes. What its `epoll_wait` does is in `wait.rs`.
//!
//! While a session lives its real socket is registered for its [`DOORBELLS`], with a tag of
//! ours in place of the program's data; on its way back to the socket for what the program
//! waits for.

use super::crowd::Crowd;
use super::deferred::Deferred;
use super::member::Member;
use super::members::Members;
use super::session::Session;
use super::settings::Packed;
use super::table::{self, Registration};
use super::tag::tag_of;
use super::wake::{self, wake_fd};
use crate::interposer::YieldingMutex;
use crate::os::sys;
use crate::os::wait::SpinPolicy;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) const EPOLLIN: u32 = bits(libc::EPOLLIN);
pub(super) const EPOLLOUT: u32 = bits(libc::EPOLLOUT);
const EPOLLET: u32 = bits(libc::EPOLLET);
/// Each doorbell is told once, when it comes, whether or not those before it were taken off the
/// socket; so is the end.
pub(super) const DOORBELLS: u32 = EPOLLIN | bits(libc::EPOLLRDHUP) | EPOLLET;
/// The end of a socket, as the kernel tells it.
pub(super) const ENDS: u32 = bits(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR);
/// What changes when and to whom readiness is told. Rings tell it as long as it lasts, to
/// whoever waits.
const NOT_SERVED: u32 = EPOLLET | bits(libc::EPOLLONESHOT | libc::EPOLLEXCLUSIVE);

/// Flags in the type that events have.
const fn bits(flags: libc::c_int) -> u32 {
    u32::from_ne_bytes(flags.to_ne_bytes())
}

/// The engine's part of one epoll instance. Lives as long as the process.
#[derive(Debug)]
pub(super) struct Poller {
    pub(super) epfd: RawFd,
    pub(super) deferred: Deferred,
    /// How often the kernel has told something of one that is not a member, or not yet.
    strangers_told: AtomicU64,
    pub(super) state: YieldingMutex<State>,
}

/// What changes, with the poller locked.
#[derive(Debug)]
pub(super) struct State {
    /// Whether the epoll instance watches the [`wake_fd`]: from the first member on, until
    /// the program closes the epoll instance.
    is_armed: bool,
    pub(super) members: Members,
    pub(super) sleeping: bool,
    pub(super) policy: SpinPolicy,
    pub(super) crowd: Crowd,
    pub(super) settings: Packed,
    pub(super) kernel_polled_ns: u64,
    pub(super) kernel_had_events: bool,
    /// Those whose peers have left the rings since the last turn.
    pub(super) leaving: Vec<&'static Session>,
}

/// All pollers there ever were: one for each epoll file descriptor.
static POLLERS: Mutex<Vec<&'static Poller>> = Mutex::new(Vec::new());

fn note(poller: &'static Poller) {
    let mut all = POLLERS.lock().unwrap_or_else(PoisonError::into_inner);
    // Another thread may have made it at the same moment.
    if !all.iter().any(|&known| std::ptr::eq(known, poller)) {
        all.push(poller);
    }
}

/// Lets every poller look for lost doorbells.
pub(super) fn sweep_all() {
    POLLERS.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|poller| poller.sweep());
}

impl Poller {
    /// The poller of `epfd`, if it ever had a member.
    #[inline]
    pub(super) fn existing(epfd: RawFd) -> Option<&'static Self> {
        table::slot(epfd)?.poller()
    }

    /// The poller of `epfd`, made if need be.
    pub(super) fn of(epfd: RawFd) -> io::Result<&'static Self> {
        let slot = table::slot_or_insert(epfd).ok_or(io::ErrorKind::InvalidInput)?;
        let poller = match slot.poller() {
            Some(poller) => poller,
            None => {
                let poller = slot.set_poller(Self::new(epfd)).ok_or(io::ErrorKind::BrokenPipe)?;
                note(poller);
                poller
            }
        };
        poller.arm()?;
        Ok(poller)
    }

    fn new(epfd: RawFd) -> Self {
        let settings = Packed::now();
        let state = State {
            is_armed: false,
            members: Members::default(),
            sleeping: false,
            policy: settings.policy(),
            crowd: Crowd::default(),
            settings,
            kernel_polled_ns: 0,
            kernel_had_events: false,
            leaving: Vec::new(),
        };
        Self {
            epfd,
            deferred: Deferred::new(),
            strangers_told: AtomicU64::new(0),
            state: YieldingMutex::new(state),
        }
    }

    /// Makes sure that a thread asleep in the epoll instance can be woken.
    fn arm(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.is_armed {
            wake::prepare()?;
            let wake_fd = wake_fd().ok_or(io::ErrorKind::NotFound)?;
            let event = libc::epoll_event { events: EPOLLIN | EPOLLET, u64: tag_of(wake_fd) };
            sys::epoll_ctl(self.epfd, libc::EPOLL_CTL_ADD, wake_fd, Some(event))?;
            // A thread may sleep there already, unaware of us: it is woken, once.
            sys::signal_eventfd(wake_fd);
            state.is_armed = true;
        }
        Ok(())
    }

    /// Forgets everything: the program closes the epoll instance.
    pub(super) fn disarm(&self) {
        let mut state = self.state.lock();
        state.is_armed = false;
        state.members.clear();
    }

    /// Registers `session`'s socket as `wanted` (`operation` is `EPOLL_CTL_ADD` or
    /// `EPOLL_CTL_MOD`), publishes its `greeting`, if it has one to say, and looks at
    /// its ring from the next turn on. What is `NOT_SERVED` is refused, and changes nothing.
    pub(super) fn admit(
        &self,
        operation: libc::c_int,
        session: &'static Session,
        wanted: Registration,
        greeting: &[u8],
    ) -> io::Result<()> {
        if wanted.mask & NOT_SERVED != 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // ORDERING, Relaxed, here and below: what is told of this one is told behind the system
        // call that registers it, and counted before the lock is free in which it joins.
        let told_before = self.strangers_told.load(Relaxed);
        let register = || {
            let event = session.tagged(wanted.mask);
            sys::epoll_ctl(self.epfd, operation, session.fd(), Some(event))?;
            session.greet(greeting);
            Ok(())
        };
        session.join_poller(self.epfd, register, |watch| {
            let mut state = self.state.lock();
            let mut member =
                state.members.take(session).unwrap_or_else(|| Member::new(session, watch));
            member.interest = wanted.mask;
            member.data = wanted.data;
            member.forget_report();
            member.active_ns = sys::monotonic_ns();
            state.members.add_hot(member);
            if self.strangers_told.load(Relaxed) != told_before {
                // Perhaps of this one, between its registration and now: once more.
                self.tell_again(session, wanted.mask);
            }
            // A change is a reason to look: the sleeper cannot know of it.
            state.wake_sleeper();
        })
    }

    /// The kernel has told something of one that is not a member. Called with the state locked.
    pub(super) fn note_stranger(&self) {
        self.strangers_told.fetch_add(1, Relaxed);
    }

    /// Has the kernel tell what there is on the socket of `session`, which it has told before,
    /// where the program asks for `interest`.
    pub(super) fn tell_again(&self, session: &Session, interest: u32) {
        // It may have been closed behind our back; nobody is to be told then.
        let event = session.tagged(interest);
        sys::epoll_ctl(self.epfd, libc::EPOLL_CTL_MOD, session.fd(), Some(event)).ok();
    }

    /// Forgets `session`. Its memory is not looked at afterwards.
    pub(super) fn remove(&self, session: &Session) {
        self.state.lock().members.take(session);
    }

    /// The safety net: looks for doorbells that were lost, and wakes the loop if it
    /// sleeps over one. A loop that is busy at the moment is awake anyway.
    pub(super) fn sweep(&self) {
        let Some(mut state) = self.state.try_lock() else { return };
        let sleeping = state.sleeping;
        let missed = state.members.sweep(sleeping, sys::monotonic_ns());
        if missed > 0 {
            state.wake_sleeper();
        }
    }

    /// Does what the peers wait for that have left the rings, which takes other locks.
    pub(super) fn see_off<'a>(&'a self, mut held: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if held.leaving.is_empty() {
            return held;
        }
        let leaving = std::mem::take(&mut held.leaving);
        drop(held);
        for session in leaving {
            session.see_off();
        }
        self.state.lock()
    }
}

impl State {
    /// Wakes the thread that sleeps in the epoll instance, if one does.
    fn wake_sleeper(&self) {
        if let Some(wake_fd) = wake_fd().filter(|_| self.sleeping) {
            sys::signal_eventfd(wake_fd);
        }
    }
}

#[cfg(test)]
#[allow(unsafe_code, reason = "an epoll instance comes from a C function")]
mod tests {
    use super::*;
    use crate::os::region::Region;
    use std::net::Shutdown;
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn the_greeting_is_there_before_anybody_can_look_at_the_ring() {
        let (socket, _there) = UnixStream::pair().expect("a socket pair");
        // SAFETY: no pointer; the result is a new descriptor that nobody else has.
        let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
        let epfd = epoll.as_raw_fd();
        let event = libc::epoll_event { events: EPOLLIN, u64: 1 };
        let add = libc::EPOLL_CTL_ADD;
        table::change_registration(epfd, add, socket.as_raw_fd(), Some(event)).expect("added");
        let region = Region::create(4096).expect("memory");
        let peer = Region::attach(region.fd().expect("its file")).expect("a region");
        let mut peer = peer.into_endpoint();

        let poller = Poller::of(epfd).expect("a poller");
        let session = begun_on(&socket, region);

        // As long as this is held, nobody looks, nor joins those who are looked at.
        let looking = poller.state.lock();
        let was_greeted = std::thread::scope(|scope| {
            let wanted = Registration { epfd, mask: EPOLLIN, data: 1 };
            scope.spawn(move || {
                poller.admit(libc::EPOLL_CTL_MOD, session, wanted, b"hello").expect("admitted");
            });
            let deadline = Instant::now() + PATIENCE;
            while peer.consumer.available_bytes() == Ok(0) && Instant::now() < deadline {
                std::thread::yield_now();
            }
            let was_greeted = peer.consumer.available_bytes() == Ok(5);
            drop(looking);
            was_greeted
        });

        session.end();
        assert!(was_greeted);
    }

    /// A session that begins on this socket, and that nobody watches.
    fn begun_on(socket: &UnixStream, region: Region) -> &'static Session {
        let session = table::slot_or_insert(socket.as_raw_fd())
            .expect("a file descriptor")
            .session_or_insert(socket.as_raw_fd())
            .expect("this process's");
        session.begin(region.into_endpoint(), 0).expect("its first");
        session
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn an_end_that_the_kernel_tells_of_one_that_is_no_member_yet_is_told_again() {
        let pairs = [(); 8].map(|()| UnixStream::pair().expect("a socket pair"));
        // SAFETY: no pointer; the result is a new descriptor that nobody else has.
        let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
        let epfd = epoll.as_raw_fd();
        let poller = Poller::of(epfd).expect("a poller");
        let sessions =
            pairs.each_ref().map(|(here, _)| begun_on(here, Region::create(4096).expect("memory")));
        let (_, ended) = &pairs[0];
        ended.shutdown(Shutdown::Both).expect("it is connected");
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];

        // As long as this is held, they are registered and no members.
        let mut waiting = poller.state.lock();
        std::thread::scope(|scope| {
            for session in sessions {
                let wanted = Registration { epfd, mask: EPOLLIN, data: 1 };
                scope.spawn(move || poller.admit(libc::EPOLL_CTL_ADD, session, wanted, b""));
            }
            let deadline = Instant::now() + PATIENCE;
            while poller.strangers_told.load(Relaxed) == 0 && Instant::now() < deadline {
                let told = sys::epoll_wait(epfd, &mut events, 1).expect("no signal comes");
                assert_eq!(poller.translate(&mut waiting, &mut events, told, 0), 0);
            }
            assert_eq!(poller.strangers_told.load(Relaxed), 1);
            drop(waiting);
        });
        let timeout_ms = 20_000;
        let found = poller.wait(&mut events, timeout_ms).expect("no signal comes");

        let is_gone = sessions[0].peer_is_gone();
        sessions.iter().for_each(|session| session.end());
        assert!(found == 1 && is_gone);
    }
}
