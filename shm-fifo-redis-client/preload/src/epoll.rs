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
mod waiting;

use crate::connection::{Connection, lock};
use crate::errno::Errno;
use crate::{sys, table};
use libc::{c_int, epoll_event};
use members::{Attended, Member, Place, State};
use private::Private;
pub(crate) use private::{FIRST_NUMBER, is_due};
use std::os::fd::RawFd;
use std::ptr::null;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard};

/// So many waits in a row may be answered by the program's own instance alone.
const MAX_UNASKED: u32 = 3;

const EDGE: u32 = libc::EPOLLET.cast_unsigned();
const ONE_SHOT: u32 = libc::EPOLLONESHOT.cast_unsigned();
const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE.cast_unsigned();
/// What an exclusive registration may have besides.
const BESIDE_EXCLUSIVE: u32 =
    (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP | libc::EPOLLWAKEUP)
        .cast_unsigned()
        | EDGE;
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
        !self.watched().is_empty()
    }

    /// By which of its numbers another instance watches this one, and how.
    fn watched(&self) -> Vec<(RawFd, table::Watch)> {
        let fds = lock(&self.fds);
        let all = fds.iter().map(|&fd| (fd, table::watch(fd)));
        all.filter(|(_, watch)| !matches!(watch, table::Watch::Nobody)).collect()
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
        let exclusive = known.is_some_and(|index| state[index].is_exclusive());
        let changed = match (operation, known, event) {
            (_, _, Some(event)) if is_wrongly_exclusive(operation, event.events, exclusive) => {
                Err(Errno(libc::EINVAL))
            }
            (libc::EPOLL_CTL_ADD, None, Some(event)) => self.add(&mut state, fd, event, connection),
            (libc::EPOLL_CTL_MOD, Some(index), Some(event)) => {
                self.change(&mut state, index, event)
            }
            (libc::EPOLL_CTL_DEL, Some(index), _) => self.remove(&mut state, index),
            // The kernel may not know it.
            (libc::EPOLL_CTL_ADD, Some(_), Some(_)) => Err(Errno(libc::EEXIST)),
            // The kernel says what is wrong with it.
            _ if !connection.is_virtual() => sys::epoll_ctl(self.epfd(), operation, fd, event),
            (libc::EPOLL_CTL_ADD | libc::EPOLL_CTL_MOD, _, None) => Err(Errno(libc::EFAULT)),
            (libc::EPOLL_CTL_MOD | libc::EPOLL_CTL_DEL, None, _) => Err(Errno(libc::ENOENT)),
            _ => Err(Errno(libc::EINVAL)),
        };
        self.members.store(state.len(), SeqCst);
        drop(self.settle(state));
        // Another thread may have brought it back, before it was watched.
        if operation == libc::EPOLL_CTL_ADD && !connection.is_virtual() {
            self.give_back(connection);
        }
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
        let is_ours = connection.is_virtual();
        if is_ours {
            self.expose_late(state)?;
            state.watch_socket(connection)?;
            self.call_strangers(state, fd, event.u64);
        } else {
            self.call_by_another(state, fd);
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_ADD, fd, Some(event))?;
        }
        self.enlist(state, fd, event, connection, is_ours);
        Ok(())
    }

    fn enlist(
        self: &Arc<Self>,
        state: &mut State,
        fd: RawFd,
        event: epoll_event,
        connection: &Arc<Connection>,
        is_ours: bool,
    ) {
        connection.watched_by(self, fd);
        if state.is_exposed {
            connection.note_nested_watch();
        }
        let index = state.put(Member::new(fd, Arc::clone(connection), event), is_ours);
        // Another thread may have gone on with it, before it was watched.
        if !is_ours && connection.is_virtual() {
            self.take_over(state, index);
        }
        if state[index].is_ours() {
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

    /// `fd` is not to be called by any more: it is the program's to be told of there, or gone.
    fn call_by_another(&self, state: &mut State, fd: RawFd) {
        if state.calling == Some(fd) {
            self.end_call(state);
            if let Some((other, data)) = state.one_of_ours_but(fd) {
                self.call_strangers(state, other, data);
            }
        }
    }

    fn end_call(&self, state: &mut State) {
        if let Some(fd) = state.calling.take() {
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_DEL, fd, None).ok();
        }
    }

    /// A thread that waits in the program's instance alone was told of these there. To be called
    /// before it counts as one that does so no more: what it was told of does not move until then.
    pub(crate) fn told_outside(&self, events: &[epoll_event]) {
        if self.members.load(SeqCst) > 0 {
            self.lock().note_one_shots(events);
        }
    }

    /// A thread that slept in the program's instance alone does so no more. It was woken by so
    /// many events, or by none: how many of them are the program's. It waits here from now on.
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
            self.enlist(&mut state, fd, event, connection, false);
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
        // It has kept something, which may be asked for now.
        if state[index].place == Place::OnSocket && state[index].connection.is_virtual() {
            self.take_over(state, index);
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
        if !state[index].is_ours() {
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
                let connection = state.take(index).connection.id;
                state.release_socket(connection);
                self.wake(state);
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
            if !state[index].is_ours() {
                self.take_over(&mut state, index);
            }
        }
        self.wake(&mut state);
        drop(self.settle(state));
    }

    /// The kernel's registration is ours to tell of.
    fn take_over(&self, state: &mut State, index: usize) {
        let (fd, connection) = (state[index].fd, Arc::clone(&state[index].connection));
        if state.watch_socket(&connection).is_ok() {
            // Where the program closed the epoll instance, nobody is to be told.
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_DEL, fd, None).ok();
            state.take_over(index);
        }
    }

    /// The connection goes on over its socket: the kernel's again. While it has kept something,
    /// it is that for members that are not to be told of it.
    pub(crate) fn give_back(self: &Arc<Self>, connection: &Arc<Connection>) {
        let mut state = self.lock();
        let mut has_changed = false;
        for index in state.all_of(connection.id) {
            // Another thread may have gone on with it.
            let may_be = !connection.is_virtual() || state[index].is_to_be_settled();
            if !state[index].is_ours() || !may_be {
                continue;
            }
            has_changed = true;
            state.cool(index);
            let fd = state[index].fd;
            if !connection.has_number(fd) {
                self.give_back_nameless(&mut state, index);
                continue;
            }
            self.call_by_another(&mut state, fd);
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
                    let fd = state.take(index).fd;
                    connection.unwatched_by(self, fd);
                }
            }
        }
        state.release_socket(connection.id);
        self.members.store(state.len(), SeqCst);
        // Who waits for the private instance itself may have been told of it.
        if has_changed {
            self.wake(&mut state);
            drop(self.settle(state));
        }
    }

    /// The same for what was registered by a number that the program has closed: the kernel keeps
    /// that, and so it gets it by a number that is closed, too.
    fn give_back_nameless(&self, state: &mut State, index: usize) {
        let member = state.take(index);
        let above = FIRST_NUMBER.saturating_add(RawFd::try_from(index).unwrap_or(0));
        if let Some(event) = member.registration().filter(|_| member.is_watched)
            && let Ok(name) = sys::duplicate(member.connection.fd(), above)
        {
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_ADD, name, Some(event)).ok();
            sys::close(name);
        }
    }

    /// Whether there is a registration of that connection which the kernel does not know.
    pub(crate) fn withholds(&self, connection: u64) -> bool {
        self.lock().withholds(connection)
    }

    /// The connection with this number is none of our business any more.
    pub(crate) fn forget(&self, connection: u64) {
        let mut state = self.lock();
        for index in state.all_of(connection) {
            let fd = state.take(index).fd;
            self.call_by_another(&mut state, fd);
        }
        state.unwatch_socket(connection);
        self.members.store(state.len(), SeqCst);
        self.wake(&mut state);
        drop(self.settle(state));
    }

    /// The number `fd` of the connection is being closed. As the kernel keeps what was registered
    /// by it, so does this: another number is `left` for its doorbells.
    pub(crate) fn renumber(&self, connection: u64, fd: RawFd, left: RawFd) {
        self.lock().renumber_socket(connection, fd, left);
    }

    /// Something has changed about the connection that may be news.
    pub(crate) fn look_at(&self, connection: &Connection) {
        let mut state = self.lock();
        for index in state.all_of(connection.id) {
            state.heat(index);
        }
        self.wake(&mut state);
        drop(self.settle(state));
    }

    /// While somebody sleeps, nothing is hot: all are to ring, or who sleeps is woken to look. What
    /// it heard is to be settled.
    fn wake(&self, state: &mut State) {
        if state.is_exposed
            && let Ok(news) = state.ask_private(Some(0), null())
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

    /// Gives back what goes on over its socket, which takes other locks.
    fn settle<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.attended.is_empty() {
            return state;
        }
        let attended = std::mem::take(&mut state.attended);
        drop(state);
        for Attended { connection, is_news } in attended {
            connection.settle();
            if is_news {
                connection.tell_watchers(Some(self));
            }
        }
        self.lock()
    }

    /// Whether waiting would return at once, by its rings.
    pub(crate) fn has_news(&self) -> bool {
        let mut state = self.lock();
        state.note_unsettled();
        self.settle(state).has_news()
    }

    /// Lets somebody sleep for the instance itself; `false` if it has news already.
    pub(crate) fn join(&self) -> bool {
        let mut state = self.lock();
        let may_sleep = state.park_all();
        state.sleeping += u32::from(may_sleep);
        if !may_sleep {
            state.note_unsettled();
        }
        drop(self.settle(state));
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
        drop(self.settle(state));
        Some(fd)
    }

    /// A connection that has moved is going to be watched by this instance, which another one
    /// watches: by the private one from now on.
    fn expose_late(&self, state: &mut State) -> Result<(), Errno> {
        if state.is_exposed {
            return Ok(());
        }
        let watched = self.watched();
        let (epfd, outer, event) = match &watched[..] {
            [] => return Ok(()),
            [(epfd, table::Watch::Once(outer, event))] => (*epfd, outer.upgrade(), *event),
            _ => return Err(Errno(libc::EPERM)),
        };
        // Who would have to be told of the other instance is not known.
        let outer = outer.ok_or(Errno(libc::EPERM))?;
        let private = state.private.as_ref().ok_or(Errno(libc::EPERM))?.fd();
        if sys::epoll_ctl(outer.epfd(), libc::EPOLL_CTL_DEL, epfd, None).is_err() {
            // It was told of what had the number before.
            return Ok(());
        }
        let added = sys::epoll_ctl(outer.epfd(), libc::EPOLL_CTL_ADD, private, Some(event));
        if added.is_err() {
            sys::epoll_ctl(outer.epfd(), libc::EPOLL_CTL_ADD, epfd, Some(event)).ok();
            return added;
        }
        state.expose();
        Ok(())
    }

    /// Who waited for the instance itself was woken: takes doorbells.
    pub(crate) fn attend(&self) {
        let mut state = self.lock();
        if let Ok(news) = state.ask_private(Some(0), null()) {
            state.hear(&news);
        }
        // What was taken may have been meant for who sleeps in here.
        self.wake(&mut state);
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

/// An exclusive registration cannot be changed, none becomes exclusive later, and such a one
/// cannot ask for everything.
fn is_wrongly_exclusive(operation: c_int, events: u32, is_exclusive: bool) -> bool {
    let wants_it = events & EXCLUSIVE != 0;
    match operation {
        libc::EPOLL_CTL_ADD => wants_it && events & !(EXCLUSIVE | BESIDE_EXCLUSIVE) != 0,
        libc::EPOLL_CTL_MOD => wants_it || is_exclusive,
        _ => false,
    }
}
