//! One epoll instance of the program, as far as it watches connections.
//!
//! While a connection is on its socket, the kernel has the program's registration, with
//! the program's data. From the moment it moves that registration is taken out, and a
//! *private* epoll instance, beside the program's, watches the socket for doorbells.
//! The private one also watches the program's. So a thread that waits sleeps in the
//! private instance and is woken by either, and the program's own instance never holds
//! anything that is not the program's.
//!
//! A moved connection is *hot*, and looked at in each turn, for as long as something comes
//! on it; then it is *parked*: its peer is told to ring, and it costs nothing until that
//! does. What a thread does that waits costs as much as there is of hot ones.

mod members;
mod private;

use crate::connection::{Connection, lock};
use crate::errno::Errno;
use crate::{signals, spin, sys, table};
use libc::{c_int, epoll_event, sigset_t};
use members::{Member, Place, State};
pub(crate) use private::FIRST_NUMBER;
use private::{News, Private};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard};

/// The kernel is asked this often while rings keep the loop busy.
const KERNEL_POLL_INTERVAL_NS: u64 = 20_000;

/// So many waits in a row may be answered by the program's own instance alone.
const MAX_UNASKED: u32 = 3;

const EDGE: u32 = libc::EPOLLET.cast_unsigned();
const ONE_SHOT: u32 = libc::EPOLLONESHOT.cast_unsigned();
/// What wakes who sleeps in the program's own instance.
const CALL: u32 = libc::EPOLLOUT.cast_unsigned();

#[derive(Debug)]
pub(crate) struct Epoll {
    /// Of the file descriptors that are this instance, one.
    epfd: AtomicI32,
    fds: Mutex<Vec<RawFd>>,
    /// How often a thread has begun to wait here, by a call that is served.
    waits: AtomicU64,
    has_watched: AtomicBool,
    members: AtomicUsize,
    /// Threads that wait in the program's instance alone, because nothing had moved.
    outside: AtomicU32,
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

impl Epoll {
    pub(crate) fn new(epfd: RawFd) -> Self {
        Self {
            epfd: AtomicI32::new(epfd),
            fds: Mutex::new(vec![epfd]),
            waits: AtomicU64::new(0),
            has_watched: AtomicBool::new(false),
            members: AtomicUsize::new(0),
            outside: AtomicU32::new(0),
            contenders: AtomicU32::new(0),
            state: Mutex::new(State::default()),
        }
    }

    fn epfd(&self) -> RawFd {
        self.epfd.load(Relaxed)
    }

    /// Whether the program has a descriptor of it.
    pub(crate) fn is_open(&self) -> bool {
        self.epfd() >= 0
    }

    // Evidence.

    /// Whether it watches connections, or ever has.
    pub(crate) fn has_watched(&self) -> bool {
        self.has_watched.load(Relaxed)
    }

    /// How often a thread has begun to wait here.
    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Relaxed)
    }

    /// Whether it has been waited in since it had been `waits` times, and by nobody in a way
    /// that a moved connection does not wake.
    pub(crate) fn is_served_since(&self, waits: u64) -> bool {
        // ORDERING, SeqCst: pairs with `wait_outside`. Who comes later sees the members.
        self.waits() > waits && self.sleepers_outside() == 0 && !self.is_nested()
    }

    /// How many threads wait in the program's instance alone.
    fn sleepers_outside(&self) -> u32 {
        self.outside.load(SeqCst) + table::strangers(&lock(&self.fds))
    }

    /// Whether another instance watches this one: it would not be told.
    fn is_nested(&self) -> bool {
        let fds = lock(&self.fds);
        fds.iter().any(|&fd| !matches!(table::watch(fd), table::Watch::Nobody))
    }

    // File descriptors.

    /// The program duplicated it.
    pub(crate) fn add_fd(&self, fd: RawFd) {
        lock(&self.fds).push(fd);
    }

    /// The program is closing one of its file descriptors.
    pub(crate) fn lose_fd(&self, fd: RawFd) {
        let left = {
            let mut fds = lock(&self.fds);
            fds.retain(|&other| other != fd);
            fds.first().copied()
        };
        let mut state = self.lock();
        self.epfd.store(left.unwrap_or(-1), Relaxed);
        match (left, &state.private) {
            (Some(left), Some(private)) => private.renumber_program(fd, left),
            (Some(_), None) => {}
            (None, _) => state.dissolve(),
        }
    }

    /// Closes what a forked child has of the parent's private instance. The child has one
    /// thread, and nobody drops this.
    pub(crate) fn close_private(&self) {
        if let Ok(state) = self.state.try_lock()
            && let Some(private) = &state.private
        {
            private.close();
        }
    }

    // What it watches.

    /// `epoll_ctl(2)` for a tracked connection.
    pub(crate) fn control(
        self: &Arc<Self>,
        operation: c_int,
        fd: RawFd,
        event: Option<epoll_event>,
        connection: &Arc<Connection>,
    ) -> Result<(), Errno> {
        let mut state = self.lock();
        let known = state.find(connection.id, fd).filter(|&index| state[index].is_watched);
        let changed = match (operation, known, event) {
            (libc::EPOLL_CTL_ADD, None, Some(event)) => self.add(&mut state, fd, event, connection),
            (libc::EPOLL_CTL_MOD, Some(index), Some(event)) => {
                self.change(&mut state, index, event)
            }
            (libc::EPOLL_CTL_DEL, Some(index), _) => self.remove(&mut state, index),
            // The kernel says what is wrong with it.
            _ if !connection.is_virtual() => sys::epoll_ctl(self.epfd(), operation, fd, event),
            (libc::EPOLL_CTL_ADD, Some(_), Some(_)) => Err(Errno(libc::EEXIST)),
            (libc::EPOLL_CTL_ADD | libc::EPOLL_CTL_MOD, _, None) => Err(Errno(libc::EFAULT)),
            (libc::EPOLL_CTL_MOD | libc::EPOLL_CTL_DEL, None, _) => Err(Errno(libc::ENOENT)),
            _ => Err(Errno(libc::EINVAL)),
        };
        self.members.store(state.len(), SeqCst);
        changed
    }

    fn add(
        self: &Arc<Self>,
        state: &mut State,
        fd: RawFd,
        event: epoll_event,
        connection: &Arc<Connection>,
    ) -> Result<(), Errno> {
        self.begin(state)?;
        if connection.is_virtual() {
            self.expose_late(state)?;
            state.watch_socket(connection, fd)?;
            self.call_strangers(state, fd, event.u64);
        } else {
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_ADD, fd, Some(event))?;
        }
        self.enlist(state, fd, event, connection);
        Ok(())
    }

    fn enlist(
        self: &Arc<Self>,
        state: &mut State,
        fd: RawFd,
        event: epoll_event,
        connection: &Arc<Connection>,
    ) {
        connection.watched_by(self, fd);
        let is_ours = connection.is_virtual();
        if state.is_exposed {
            connection.note_nested_watch();
        }
        state.put(Member::new(fd, Arc::clone(connection), event), is_ours);
        if is_ours {
            self.wake(state);
        }
    }

    /// Threads sleep in the program's instance alone, since before it watched a connection
    /// that has moved. They are woken by an event of that very connection: its socket can
    /// always be written to.
    fn call_strangers(&self, state: &mut State, fd: RawFd, data: u64) {
        // ORDERING, SeqCst: pairs with `wait_outside`. Who comes later sees the member.
        self.members.fetch_max(1, SeqCst);
        // Before the call: some are awake before it returns, and count as called.
        let sleepers = self.sleepers_outside();
        if sleepers == 0 || state.calling.is_some() {
            return;
        }
        let event = epoll_event { events: CALL, u64: data };
        if sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_ADD, fd, Some(event)).is_ok() {
            state.calling = Some(fd);
            state.called_with.push(data);
            state.called = sleepers;
        }
    }

    fn end_call(&self, state: &mut State) {
        if let Some(fd) = state.calling.take() {
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_DEL, fd, None).ok();
        }
    }

    /// A thread that slept in the program's instance alone was woken there, by so many
    /// events: how many of them are the program's. It waits here from now on.
    pub(crate) fn welcome(&self, events: &mut [epoll_event], count: usize) -> usize {
        let mut state = self.lock();
        if self.sleepers_outside() == 0 {
            // The last one. Others may still be on their way to this lock.
            self.end_call(&mut state);
        }
        let count = state.without_calls(events, count);
        state.called = state.called.saturating_sub(1);
        if state.called == 0 {
            state.called_with.clear();
        }
        count
    }

    /// The connection behind `fd` was no connection yet when this instance was told of it.
    /// Returns whether it is a member now.
    pub(crate) fn enlist_late(
        self: &Arc<Self>,
        fd: RawFd,
        event: epoll_event,
        connection: &Arc<Connection>,
    ) -> bool {
        let mut state = self.lock();
        let begun = self.begin(&mut state).is_ok();
        if begun {
            self.enlist(&mut state, fd, event, connection);
            self.members.store(state.len(), SeqCst);
        }
        begun
    }

    /// Makes what watching a connection takes.
    ///
    /// # Errors
    /// Where no descriptor is free.
    pub(crate) fn prepare(&self) -> Result<(), Errno> {
        self.begin(&mut self.lock())
    }

    /// From the first connection on, threads sleep in a private instance.
    fn begin(&self, state: &mut State) -> Result<(), Errno> {
        if state.private.is_none() {
            state.private = Some(Private::new(self.epfd())?);
            self.has_watched.store(true, Relaxed);
            table::begins_to_watch(&lock(&self.fds));
        }
        Ok(())
    }

    fn change(&self, state: &mut State, index: usize, event: epoll_event) -> Result<(), Errno> {
        let (fd, place) = (state[index].fd, state[index].place);
        match place {
            Place::OnSocket => {
                sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_MOD, fd, Some(event))?;
            }
            Place::Withheld => {
                sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_ADD, fd, Some(event))?;
                state.hand_over(index);
            }
            Place::Hot(_) | Place::Parked(_) | Place::Cold => {}
        }
        state.rearm(index, event);
        if state[index].place != Place::OnSocket {
            state.heat(index);
            self.wake(state);
        }
        Ok(())
    }

    fn remove(self: &Arc<Self>, state: &mut State, index: usize) -> Result<(), Errno> {
        let fd = state[index].fd;
        if matches!(state[index].place, Place::OnSocket | Place::Withheld) {
            if state[index].place == Place::OnSocket {
                sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_DEL, fd, None)?;
            }
            let member = state.take(index);
            member.connection.unwatched_by(self, fd);
        } else {
            // Event loops change their minds all the time: the private instance keeps the
            // socket until something comes on it.
            state.cool(index);
            state[index].is_watched = false;
            state[index].connection.lingers_with(self, fd);
            if state.is_exposed {
                state.unwatch_socket(index);
                state.take(index);
            }
        }
        Ok(())
    }

    /// The connection's readiness is ours to tell from now on.
    pub(crate) fn adopt(&self, connection: &Arc<Connection>) {
        let mut state = self.lock();
        // Another thread may have gone on with it.
        let members = if connection.is_virtual() { state.all_of(connection.id) } else { vec![] };
        for index in members {
            let fd = state[index].fd;
            let is_kernels = matches!(state[index].place, Place::OnSocket | Place::Withheld);
            if is_kernels && state.watch_socket(connection, fd).is_ok() {
                // Where the program closed the epoll instance, nobody is to be told.
                sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_DEL, fd, None).ok();
                state.take_over(index);
            }
        }
        self.wake(&mut state);
    }

    /// The connection goes on over its socket: the kernel's again.
    pub(crate) fn give_back(self: &Arc<Self>, connection: &Arc<Connection>) {
        let mut state = self.lock();
        // Another thread may have gone on with it.
        let members = if connection.is_virtual() { vec![] } else { state.all_of(connection.id) };
        for index in members {
            if matches!(state[index].place, Place::OnSocket | Place::Withheld) {
                continue;
            }
            state.cool(index);
            state.unwatch_socket(index);
            let fd = state[index].fd;
            let ours = state[index].registration().filter(|_| state[index].is_watched);
            match ours {
                None if state[index].is_watched => state.withhold(index),
                Some(event)
                    if sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_ADD, fd, Some(event))
                        .is_ok() =>
                {
                    state.hand_over(index);
                }
                _ => {
                    state.take(index);
                    connection.unwatched_by(self, fd);
                }
            }
        }
        self.members.store(state.len(), SeqCst);
    }

    /// The connection with this number is none of our business any more.
    pub(crate) fn forget(&self, connection: u64) {
        let mut state = self.lock();
        for index in state.all_of(connection) {
            if state[index].place != Place::OnSocket {
                state.cool(index);
                state.unwatch_socket(index);
            }
            let fd = state.take(index).fd;
            if state.calling == Some(fd) {
                self.end_call(&mut state);
            }
        }
        self.members.store(state.len(), SeqCst);
    }

    /// The connection is watched by the number `fd`, which is being closed: as the kernel
    /// keeps what was registered, so does this, by the number that is `left`.
    pub(crate) fn renumber(&self, connection: &Arc<Connection>, fd: RawFd, left: RawFd) {
        let mut state = self.lock();
        if let Some(index) = state.find(connection.id, fd) {
            state.unwatch_socket(index);
            let mut member = state.take(index);
            member.fd = left;
            let is_ours = member.place != Place::OnSocket;
            if state.watch_socket(connection, left).is_ok() {
                state.put(member, is_ours);
            }
        }
    }

    /// Something has changed about the connection that may be news.
    pub(crate) fn look_at(&self, connection: &Connection) {
        let mut state = self.lock();
        for index in state.all_of(connection.id) {
            state.heat(index);
        }
        self.wake(&mut state);
    }

    /// While somebody sleeps, nothing is hot: all are to ring, or who sleeps is woken to look.
    fn wake(&self, state: &mut State) {
        if state.is_exposed
            && let Ok(news) = state.ask_private(Some(0), std::ptr::null())
        {
            // Who waits for the private instance itself is told, until there is no news.
            state.hear(&news);
        }
        if (state.sleeping > 0 || state.is_exposed)
            && !state.park_all()
            && let Some(private) = &state.private
        {
            private.kick();
        }
    }

    // Waiting.

    /// `epoll_pwait(2)`.
    pub(crate) fn wait(
        self: &Arc<Self>,
        events: &mut [epoll_event],
        timeout: Timeout,
        mask: *const sigset_t,
    ) -> Result<usize, Errno> {
        self.waits.fetch_add(1, Relaxed);
        let deadline_ns = timeout.deadline_ns();
        if let Some(result) = self.wait_outside(events, deadline_ns, mask) {
            return result;
        }
        let mut wait = Wait { epoll: self, deadline_ns, mask, has_asked: false };
        let mut state = self.lock();
        let result = loop {
            state = self.settle(state);
            match wait.look(&mut state, events) {
                Ok(None) => {}
                Ok(Some(found)) => break Ok(found),
                Err(errno) => break Err(errno),
            }
            let (back, slept) = wait.sleep(state);
            state = back;
            if let Err(errno) = slept {
                break Err(errno);
            }
        };
        // Where others sleep, nobody looks any more at what is hot.
        self.wake(&mut state);
        drop(self.settle(state));
        result
    }

    /// Waits in the program's instance alone, as long as it watches no connection.
    fn wait_outside(
        &self,
        events: &mut [epoll_event],
        deadline_ns: Option<u64>,
        mask: *const sigset_t,
    ) -> Option<Result<usize, Errno>> {
        if self.members.load(SeqCst) > 0 {
            return None;
        }
        self.outside.fetch_add(1, SeqCst);
        // ORDERING, SeqCst: pairs with `is_served_since`. A connection that is enlisted after
        // this look does not move while somebody is outside.
        let result = (self.members.load(SeqCst) == 0).then(|| {
            let left_ns = left_ns(deadline_ns);
            signals::let_in(|| sys::epoll_wait(self.epfd(), events, left_ns, mask))
                .unwrap_or(Err(Errno(libc::EINTR)))
        });
        self.outside.fetch_sub(1, SeqCst);
        match result {
            Some(Ok(count @ 1..)) => match self.welcome(events, count) {
                0 => None,
                kept => Some(Ok(kept)),
            },
            result => result,
        }
    }

    /// Gives back what goes on over its socket, which takes other locks.
    fn settle<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.attended.is_empty() {
            return state;
        }
        let attended = std::mem::take(&mut state.attended);
        drop(state);
        for connection in attended {
            connection.settle();
            connection.tell_watchers(Some(self));
        }
        self.lock()
    }

    /// Whether waiting would return at once, by its rings.
    pub(crate) fn has_news(&self) -> bool {
        self.lock().has_news()
    }

    /// Lets somebody sleep for the instance itself; `false` if it has news already.
    pub(crate) fn join(&self) -> bool {
        let mut state = self.lock();
        let may_sleep = state.park_all();
        state.sleeping += u32::from(may_sleep);
        may_sleep
    }

    /// Who had joined is awake.
    pub(crate) fn part(&self) {
        self.lock().sleeping -= 1;
    }

    /// What the kernel is to be asked for by who waits for the instance itself, which has the
    /// number `fd`.
    pub(crate) fn waited_for_by(&self, fd: RawFd) -> RawFd {
        self.lock().private.as_ref().map_or(fd, Private::fd)
    }

    /// Another instance is going to watch this one: by the private one, where a connection has
    /// moved. Returns that; `None` if its own will do, and none of its connections moves.
    pub(crate) fn expose(&self) -> Option<RawFd> {
        let mut state = self.lock();
        let has_moved = state.is_exposed || state.len() > state.on_socket;
        let fd = state.private.as_ref().map(Private::fd).filter(|_| has_moved)?;
        state.expose();
        self.wake(&mut state);
        Some(fd)
    }

    /// A connection that has moved is going to be watched by this instance, which another one
    /// watches: by the private one from now on.
    fn expose_late(&self, state: &mut State) -> Result<(), Errno> {
        if state.is_exposed {
            return Ok(());
        }
        let epfd = self.epfd();
        let (outer, event) = match table::watch(epfd) {
            table::Watch::Nobody => return Ok(()),
            table::Watch::Once(outer, event) => (outer.upgrade(), event),
            table::Watch::Unclear => (None, epoll_event { events: 0, u64: 0 }),
        };
        // Who would have to be told of the other instance is not known.
        let outer = outer.ok_or(Errno(libc::EPERM))?;
        let private = state.private.as_ref().ok_or(Errno(libc::EPERM))?;
        sys::epoll_ctl(outer.epfd(), libc::EPOLL_CTL_ADD, private.fd(), Some(event))?;
        sys::epoll_ctl(outer.epfd(), libc::EPOLL_CTL_DEL, epfd, None).ok();
        state.expose();
        Ok(())
    }

    /// Who waited for the instance itself was woken: takes doorbells.
    pub(crate) fn attend(&self) {
        let mut state = self.lock();
        if let Ok(news) = state.ask_private(Some(0), std::ptr::null()) {
            state.hear(&news);
        }
        drop(self.settle(state));
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

    /// Who waits for the state may have to be given this CPU first, to take it.
    fn let_contenders_pass(&self) {
        const TRIES: u32 = 8;
        for tries in 0..TRIES {
            for _ in 0..200 {
                if self.contenders.load(Relaxed) == 0 {
                    return;
                }
                std::hint::spin_loop();
            }
            sys::nap(10_000 << tries);
        }
    }
}

/// One call that waits.
struct Wait<'a> {
    epoll: &'a Epoll,
    deadline_ns: Option<u64>,
    mask: *const sigset_t,
    /// The kernel was asked what there is, and had nothing to say.
    has_asked: bool,
}

impl<'a> Wait<'a> {
    /// Finds what there is now: the kernel's events in front, then those of rings. `None` if
    /// there is nothing and it is not yet time to return.
    fn look(
        &mut self,
        state: &mut State,
        events: &mut [epoll_event],
    ) -> Result<Option<usize>, Errno> {
        let now_ns = sys::monotonic_ns();
        let is_last = self.deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns);
        let mut count = 0;
        if !state.take_rings_turn(events) {
            // Who finds nothing is about to sleep, and asks then. Who does is told of the rest as
            // well, now and then, also where the program's own instance always has something.
            let is_busy = || state.kernel_had_events || state.has_news();
            let has_nothing = is_last && !self.has_asked && !state.kernel_had_events;
            let is_due = state.unasked >= MAX_UNASKED || state.kernel_is_due(now_ns);
            if has_nothing || is_due && is_busy() {
                let news = state.ask_private(Some(0), std::ptr::null())?;
                state.hear(&news);
                state.kernel_polled_ns = now_ns;
                state.unasked = 0;
                self.has_asked = true;
            }
            if state.kernel_had_events {
                state.unasked += 1;
                let room = state.room_in(events);
                count = sys::epoll_wait(self.epoll.epfd(), room, Some(0), std::ptr::null())?;
                state.kernel_had_events = count > 0;
                if state.calling.is_some() {
                    count = state.without_calls(events, count);
                }
                state.note_one_shots(&events[..count]);
            }
        }
        count += state.collect(&mut events[count..], now_ns);
        state.park_silent(now_ns);
        let is_over = is_last && self.has_asked && state.attended.is_empty();
        Ok((count > 0 || is_over).then_some(count))
    }

    /// Spins, if that may pay, or sleeps until there may be news.
    fn sleep(
        &mut self,
        mut state: MutexGuard<'a, State>,
    ) -> (MutexGuard<'a, State>, Result<(), Errno>) {
        if !state.attended.is_empty() {
            return (state, Ok(()));
        }
        if self.spin(&mut state) {
            let is_wanted = self.epoll.contenders.load(Relaxed) > 0;
            if !is_wanted && !signals::is_waiting() {
                return (state, Ok(()));
            }
            drop(state);
            let slept = signals::let_in(|| ()).map_err(|_| Errno(libc::EINTR));
            self.epoll.let_contenders_pass();
            return (self.epoll.lock(), slept);
        }
        let Some(private) = state.private.as_ref().map(Private::fd) else {
            return (state, Err(Errno(libc::EBADF)));
        };
        if state.kernel_had_events || !state.park_all() {
            if self.epoll.contenders.load(Relaxed) > 0 {
                drop(state);
                self.epoll.let_contenders_pass();
                state = self.epoll.lock();
            }
            return (state, Ok(()));
        }
        state.sleeping += 1;
        drop(state);
        let left_ns = left_ns(self.deadline_ns);
        let woken = signals::let_in(|| Private::wait(private, left_ns, self.mask));
        let mut state = self.epoll.lock();
        state.sleeping -= 1;
        let heard = woken.unwrap_or(Err(Errno(libc::EINTR))).map(|news| {
            state.hear(&news);
            self.has_asked = true;
        });
        (state, heard)
    }

    /// Spins for the rings, asking the kernel now and then. Returns whether to look again;
    /// not if spinning does not pay.
    fn spin(&mut self, state: &mut State) -> bool {
        let mut asked_ns = state.kernel_polled_ns;
        let mut heard = None;
        let mut is_wanted = false;
        let won = {
            let state = &*state;
            let Some(mut policy) = state.spinning() else { return false };
            let interrupt = |now_ns: u64| {
                if private::is_due(asked_ns, now_ns) {
                    asked_ns = now_ns;
                    let news = state.ask_private(Some(0), std::ptr::null());
                    heard = news.ok().filter(News::has_some);
                }
                // ORDERING, Relaxed: a hint; the mutex orders the state itself.
                is_wanted = self.epoll.contenders.load(Relaxed) > 0 || signals::is_waiting();
                heard.is_some() || is_wanted
            };
            spin::until(&mut policy, || state.has_news(), interrupt)
        };
        state.kernel_polled_ns = asked_ns;
        if let Some(news) = &heard {
            state.hear(news);
        }
        won || is_wanted || heard.is_some()
    }
}

fn left_ns(deadline_ns: Option<u64>) -> Option<u64> {
    deadline_ns.map(|deadline_ns| match deadline_ns {
        0 => 0,
        _ => deadline_ns.saturating_sub(sys::monotonic_ns()),
    })
}
