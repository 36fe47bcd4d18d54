//! One epoll instance of the program, as far as it watches tracked connections.
//!
//! While a connection is on its socket, the kernel has the program's registration.
//! From the moment it moves, the socket is registered for doorbells alone, with a
//! tag of ours in place of the program's data, and what the program is told comes
//! from the rings. Such a registration stays when the program removes its own, in
//! case that it comes back: event loops change what they wait for all the time.

mod members;

use crate::connection::{Connection, Phase, lock};
use crate::errno::Errno;
use crate::{signals, spin, sys, table};
use libc::{c_int, epoll_event, sigset_t};
use members::{InKernel, Member, State};
use shm_fifo::Interest;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI32, AtomicU32};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// The kernel is asked this often while rings keep the loop busy.
const KERNEL_POLL_INTERVAL_NS: u64 = 20_000;

const EDGE: u32 = libc::EPOLLET.cast_unsigned();
const ONE_SHOT: u32 = libc::EPOLLONESHOT.cast_unsigned();
const DOORBELLS: u32 = libc::EPOLLIN.cast_unsigned();
/// A socket can always be written to: it wakes who sleeps in the epoll instance.
const WAKE_UP: u32 = libc::EPOLLOUT.cast_unsigned();

#[derive(Debug)]
pub(crate) struct Epoll {
    /// Of the file descriptors that are this instance, one.
    epfd: AtomicI32,
    fds: Mutex<Vec<RawFd>>,
    /// Threads that wait for `state` while a spinning thread holds it.
    contenders: AtomicU32,
    state: Mutex<State>,
}

/// How long a wait may take.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timeout {
    Never,
    After { ns: u64 },
}

impl Timeout {
    /// When it ends, by the clock that never goes back.
    pub(crate) fn deadline_ns(self) -> Option<u64> {
        match self {
            Self::Never => None,
            // Looking is done at once: no look at the clock.
            Self::After { ns: 0 } => Some(0),
            Self::After { ns } => Some(sys::monotonic_ns().saturating_add(ns)),
        }
    }

    /// What is left of it.
    pub(crate) fn until(deadline_ns: Option<u64>) -> Self {
        let left_ns = |deadline_ns: u64| deadline_ns.saturating_sub(sys::monotonic_ns());
        deadline_ns.map_or(Self::Never, |deadline_ns| Self::After { ns: left_ns(deadline_ns) })
    }
}

/// Connections for which a thread is announced as asleep, and what for.
pub(crate) type Joined = Vec<(Arc<Connection>, Interest)>;

impl Epoll {
    pub(crate) fn new(epfd: RawFd) -> Self {
        Self {
            epfd: AtomicI32::new(epfd),
            fds: Mutex::new(vec![epfd]),
            contenders: AtomicU32::new(0),
            state: Mutex::new(State::default()),
        }
    }

    fn epfd(&self) -> RawFd {
        self.epfd.load(Relaxed)
    }

    /// The program duplicated it.
    pub(crate) fn add_fd(&self, fd: RawFd) {
        lock(&self.fds).push(fd);
    }

    /// The program is closing one of its file descriptors.
    pub(crate) fn lose_fd(&self, fd: RawFd) {
        let mut fds = lock(&self.fds);
        fds.retain(|&other| other != fd);
        self.epfd.store(fds.first().copied().unwrap_or(-1), Relaxed);
    }

    /// Another instance is going to watch this one. What waits for that one cannot be
    /// known, so the connections in here stay on their sockets, and this instance is
    /// the kernel's. `false` if one of them has moved already.
    pub(crate) fn leave_to_kernel(&self) -> bool {
        let connections = self.lock().connections();
        if connections.iter().any(|connection| !connection.give_up()) {
            return false;
        }
        for fd in lock(&self.fds).drain(..) {
            table::clear(fd);
            table::note_watched(fd);
        }
        true
    }

    /// `epoll_ctl(2)` for a tracked connection.
    pub(crate) fn control(
        self: &Arc<Self>,
        operation: c_int,
        fd: RawFd,
        event: Option<epoll_event>,
        connection: &Arc<Connection>,
    ) -> Result<(), Errno> {
        if operation == libc::EPOLL_CTL_ADD {
            connection.watched_by(self, fd);
        }
        let mut state = self.lock();
        let watched = state
            .member(fd)
            .is_some_and(|member| member.is_watched && Arc::ptr_eq(&member.connection, connection));
        match (operation, watched, event) {
            (libc::EPOLL_CTL_ADD, false, Some(event)) => {
                self.add(&mut state, fd, event, connection)
            }
            (libc::EPOLL_CTL_MOD, true, Some(event)) => self.change(&mut state, fd, event),
            (libc::EPOLL_CTL_DEL, true, _) => self.remove(&mut state, fd),
            // The kernel says what is wrong with it.
            _ if !connection.is_virtual() => sys::epoll_ctl(self.epfd(), operation, fd, event),
            (libc::EPOLL_CTL_ADD, true, _) => Err(Errno(libc::EEXIST)),
            (libc::EPOLL_CTL_ADD | libc::EPOLL_CTL_MOD, _, None) => Err(Errno(libc::EFAULT)),
            (libc::EPOLL_CTL_MOD | libc::EPOLL_CTL_DEL, false, _) => Err(Errno(libc::ENOENT)),
            _ => Err(Errno(libc::EINVAL)),
        }
    }

    fn add(
        &self,
        state: &mut State,
        fd: RawFd,
        event: epoll_event,
        connection: &Arc<Connection>,
    ) -> Result<(), Errno> {
        let known =
            state.member(fd).is_some_and(|member| Arc::ptr_eq(&member.connection, connection));
        let in_kernel = if !connection.is_virtual() {
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_ADD, fd, Some(event))?;
            InKernel::Programs
        } else {
            if !known {
                self.register_ours(libc::EPOLL_CTL_ADD, fd, DOORBELLS)?;
            }
            if self.has_sleepers(state) {
                self.register_ours(libc::EPOLL_CTL_MOD, fd, DOORBELLS | WAKE_UP)?;
            }
            InKernel::Ours
        };
        state.put(Member {
            fd,
            connection: Arc::clone(connection),
            events: event.events,
            data: event.u64,
            is_watched: true,
            is_armed: true,
            in_kernel,
            is_silenced: false,
            told: None,
        });
        Ok(())
    }

    fn change(&self, state: &mut State, fd: RawFd, event: epoll_event) -> Result<(), Errno> {
        let sleeping = self.has_sleepers(state);
        let Some(member) = state.member_mut(fd) else { return Err(Errno(libc::ENOENT)) };
        if member.in_kernel == InKernel::Programs {
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_MOD, fd, Some(event))?;
        } else if sleeping {
            self.register_ours(libc::EPOLL_CTL_MOD, fd, DOORBELLS | WAKE_UP)?;
        }
        member.events = event.events;
        member.data = event.u64;
        member.is_armed = true;
        member.told = None;
        Ok(())
    }

    fn remove(&self, state: &mut State, fd: RawFd) -> Result<(), Errno> {
        let Some(member) = state.member_mut(fd) else { return Err(Errno(libc::ENOENT)) };
        if member.in_kernel == InKernel::Ours {
            member.is_watched = false;
            return Ok(());
        }
        sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_DEL, fd, None)?;
        state.take(fd);
        Ok(())
    }

    /// The connection behind `fd` is moving: its readiness is ours to tell.
    pub(crate) fn adopt(&self, fd: RawFd, connection: &Arc<Connection>) {
        let mut state = self.lock();
        let wake_up = if self.has_sleepers(&state) { WAKE_UP } else { 0 };
        let Some(member) = state.member_mut(fd) else { return };
        let is_it = Arc::ptr_eq(&member.connection, connection);
        if is_it && member.in_kernel == InKernel::Programs {
            // Where the program closed the epoll instance, nobody is to be told.
            self.replace(fd, epoll_event { events: DOORBELLS | wake_up, u64: tag_of(fd) });
            member.in_kernel = InKernel::Ours;
            member.told = None;
        }
    }

    /// The connection behind `fd` goes on over its socket: the kernel's again.
    pub(crate) fn give_back(&self, fd: RawFd) {
        let mut state = self.lock();
        let Some(member) = state.member_mut(fd) else { return };
        if member.in_kernel == InKernel::Programs {
            return;
        }
        if !member.is_watched {
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_DEL, fd, None).ok();
            state.take(fd);
            return;
        }
        // As the kernel disarms a one-shot registration: nothing but its flags.
        let disarmed = member.events & (EDGE | ONE_SHOT);
        let events = if member.is_armed { member.events } else { disarmed };
        let event = epoll_event { events, u64: member.data };
        self.replace(fd, event);
        member.in_kernel = InKernel::Programs;
    }

    fn has_sleepers(&self, state: &State) -> bool {
        state.sleeping > 0 || table::strangers(self.epfd()) > 0
    }

    /// Changes whose registration it is. One with `EPOLLEXCLUSIVE` cannot be changed,
    /// nor be changed into.
    fn replace(&self, fd: RawFd, event: epoll_event) {
        let epfd = self.epfd();
        if sys::epoll_ctl(epfd, libc::EPOLL_CTL_MOD, fd, Some(event)).is_err() {
            sys::epoll_ctl(epfd, libc::EPOLL_CTL_DEL, fd, None).ok();
            sys::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, Some(event)).ok();
        }
    }

    /// `fd` is being closed, or none of our business any more.
    pub(crate) fn forget(&self, fd: RawFd) {
        let mut state = self.lock();
        if state.take(fd).is_some_and(|member| member.in_kernel == InKernel::Ours) {
            // A duplicate would keep it registered.
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_DEL, fd, None).ok();
        }
    }

    /// `epoll_pwait(2)`.
    pub(crate) fn wait(
        &self,
        events: &mut [epoll_event],
        timeout: Timeout,
        mask: *const sigset_t,
    ) -> Result<usize, Errno> {
        let found = self.wait_for_news(events, timeout, mask)?;
        if found > 0 && table::strangers(self.epfd()) > 0 {
            self.recruit();
        }
        Ok(found)
    }

    /// The kernel had `count` events for a stranger, who knows this instance now: the
    /// program's share of them, and what the rings have.
    pub(crate) fn welcome(&self, events: &mut [epoll_event], count: usize) -> usize {
        self.gather(&mut self.lock(), events, count)
    }

    /// The thread that knows of the rings leaves with news. A stranger is woken to wait
    /// in its place: no ring rings for those.
    fn recruit(&self) {
        let state = self.lock();
        let ours = state.members.iter().find(|member| member.in_kernel == InKernel::Ours);
        if let Some(member) = ours.filter(|_| state.sleeping == 0) {
            self.register_ours(libc::EPOLL_CTL_MOD, member.fd, DOORBELLS | WAKE_UP).ok();
        }
    }

    fn wait_for_news(
        &self,
        events: &mut [epoll_event],
        timeout: Timeout,
        mask: *const sigset_t,
    ) -> Result<usize, Errno> {
        let mut now_ns = sys::monotonic_ns();
        let deadline_ns = timeout.deadline_ns();
        let is_look = matches!(timeout, Timeout::After { ns: 0 });
        let mut state = self.lock();
        loop {
            if std::mem::take(&mut state.has_returned) {
                let returned = state.returned();
                drop(state);
                returned.iter().for_each(|connection| connection.settle());
                state = self.lock();
            }
            let mut count = 0;
            let ask_kernel = !state.take_rings_turn(events) && state.kernel_is_due(now_ns);
            if ask_kernel {
                count = sys::epoll_wait(self.epfd(), state.room_in(events), 0, mask)?;
                state.note_kernel_poll(count, now_ns);
            }
            let mut found = self.gather(&mut state, events, count);
            if found == 0 && is_look && !ask_kernel {
                count = sys::epoll_wait(self.epfd(), events, 0, mask)?;
                state.note_kernel_poll(count, now_ns);
                found = self.gather(&mut state, events, count);
            }
            if found > 0 || is_look {
                return Ok(found);
            }
            if let Some(count) = self.spin(&mut state, events) {
                now_ns = sys::monotonic_ns();
                let found = self.gather(&mut state, events, count);
                if found > 0 {
                    return Ok(found);
                }
                if self.contenders.load(Relaxed) > 0 {
                    drop(state);
                    self.let_contenders_pass();
                    state = self.lock();
                    continue;
                }
            }
            let left_ms = deadline_ns.map_or(-1, |deadline_ns| ms_between(now_ns, deadline_ns));
            if left_ms == 0 {
                return Ok(0);
            }
            let Some(joined) = state.join_all() else {
                now_ns = sys::monotonic_ns();
                continue;
            };
            state.sleeping += 1;
            drop(state);
            let epfd = self.epfd();
            let woken = signals::let_in(|| sys::epoll_wait(epfd, events, left_ms, mask));
            for (connection, interest) in joined {
                connection.part(interest, false);
            }
            state = self.lock();
            state.sleeping -= 1;
            let found = self.gather(&mut state, events, woken?);
            if found > 0 {
                return Ok(found);
            }
            now_ns = sys::monotonic_ns();
        }
    }

    /// The program's share of `count` kernel events, and after it the ready rings.
    fn gather(
        &self,
        state: &mut MutexGuard<'_, State>,
        events: &mut [epoll_event],
        count: usize,
    ) -> usize {
        let kept = self.translate(state, events, count);
        kept + state.collect(&mut events[kept..])
    }

    /// Keeps the program's own events, in front, and acts on ours. Returns how many
    /// were kept.
    fn translate(&self, state: &mut State, events: &mut [epoll_event], count: usize) -> usize {
        let mut kept = 0;
        for index in 0..count {
            let event = events[index];
            match fd_of_tag(event.u64) {
                Some(fd) => self.heard(state, fd, event.events),
                None => {
                    state.note_one_shot(event.u64);
                    events[kept] = event;
                    kept += 1;
                }
            }
        }
        kept
    }

    /// Something came on the socket of `fd`, or the thread asleep is woken by it.
    fn heard(&self, state: &mut State, fd: RawFd, events: u32) {
        let Some(member) = state.member_mut(fd) else { return };
        let connection = Arc::clone(&member.connection);
        if events & !WAKE_UP != 0 {
            connection.attend();
        }
        // The end of a socket is reported for ever; having heard it is enough. A change of
        // the registration would report it again.
        let has_ended = connection.has_ended();
        if events & WAKE_UP != 0 || has_ended && !member.is_silenced {
            member.is_silenced = has_ended;
            let wanted = if has_ended { EDGE } else { DOORBELLS };
            self.register_ours(libc::EPOLL_CTL_MOD, fd, wanted).ok();
        }
        state.has_returned |= connection.phase() == Phase::Returning;
    }

    /// Whether waiting would return at once, by its rings.
    pub(crate) fn has_news(&self) -> bool {
        self.lock().has_news()
    }

    /// Announces that a thread is about to sleep on the epoll instance itself.
    pub(crate) fn join(&self) -> Option<Joined> {
        self.lock().join_all()
    }

    /// A thread that slept on the epoll instance found it readable: takes doorbells.
    pub(crate) fn attend(&self) {
        let connections = self.lock().connections();
        for connection in connections {
            connection.attend();
            connection.settle();
        }
    }

    fn register_ours(&self, operation: c_int, fd: RawFd, events: u32) -> Result<(), Errno> {
        let event = epoll_event { events, u64: tag_of(fd) };
        sys::epoll_ctl(self.epfd(), operation, fd, Some(event))
    }

    /// Spins for the rings, asking the kernel now and then; how many events that
    /// had. `None` if spinning does not pay.
    fn spin(&self, state: &mut State, events: &mut [epoll_event]) -> Option<usize> {
        let State { members, kernel_polled_ns, kernel_had_events, .. } = state;
        let watched = || members.iter().filter(|member| member.is_told_by_us());
        let mut policy = watched().find_map(|member| member.connection.spinning())?;
        let mut count = 0;
        let interrupt = |now_ns: u64| {
            if now_ns.saturating_sub(*kernel_polled_ns) >= KERNEL_POLL_INTERVAL_NS {
                *kernel_polled_ns = now_ns;
                count = sys::epoll_wait(self.epfd(), events, 0, std::ptr::null()).unwrap_or(0);
            }
            // ORDERING, Relaxed: a hint; the mutex orders the state itself.
            count > 0 || self.contenders.load(Relaxed) > 0
        };
        spin::until(&mut policy, || watched().any(|member| member.news() != 0), interrupt);
        *kernel_had_events |= count > 0;
        Some(count)
    }

    /// Takes the state, telling a spinning holder that somebody waits.
    fn lock(&self) -> MutexGuard<'_, State> {
        if let Ok(state) = self.state.try_lock() {
            return state;
        }
        // ORDERING, Relaxed: a hint; the mutex orders the state itself.
        self.contenders.fetch_add(1, Relaxed);
        let state = lock(&self.state);
        self.contenders.fetch_sub(1, Relaxed);
        state
    }

    /// Long enough for one that is being woken; it never blocks for good.
    fn let_contenders_pass(&self) {
        for _ in 0..1000 {
            if self.contenders.load(Relaxed) == 0 {
                return;
            }
            std::hint::spin_loop();
        }
    }
}

/// The event data of our own registrations: a random number that is this
/// process's own above the file descriptor.
fn tag_of(fd: RawFd) -> u64 {
    u64::from(tag()) << 32 | u64::from(fd.cast_unsigned())
}

/// The file descriptor of one of our own registrations.
fn fd_of_tag(data: u64) -> Option<RawFd> {
    let [high, low] = [data >> 32, data & u64::from(u32::MAX)];
    let low = u32::try_from(low).ok()?;
    (high == u64::from(tag())).then_some(low.cast_signed())
}

fn tag() -> u32 {
    static TAG: OnceLock<u32> = OnceLock::new();
    *TAG.get_or_init(|| {
        let random = RandomState::new().hash_one("shm-fifo").to_ne_bytes();
        u32::from_ne_bytes([random[0], random[1], random[2], random[3]]) | 1
    })
}

/// Milliseconds until `deadline_ns`, rounded up so that a wait never spins on
/// the last fraction.
fn ms_between(now_ns: u64, deadline_ns: u64) -> c_int {
    let left_ms = deadline_ns.saturating_sub(now_ns).div_ceil(1_000_000);
    c_int::try_from(left_ms).unwrap_or(c_int::MAX)
}
