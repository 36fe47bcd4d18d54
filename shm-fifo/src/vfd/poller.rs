//! Readiness of the virtual file descriptors that one epoll instance watches.
//!
//! A member is *hot* while it was active within the last milliseconds: its ring
//! is looked at on every turn. Otherwise it is *parked*: its words say so, and
//! its doorbell, a byte on the real socket, makes it hot again. So a turn costs
//! O(hot), and an idle loop sleeps in the kernel.
//!
//! While a session lives its real socket is registered for `EPOLLIN` alone (it
//! is always writable) with a tag of ours in place of the program's data.

use super::WaitSettings;
use super::session::{Session, Views};
use super::stats::COUNTERS;
use super::table::{self, Registration};
use crate::os::doorbell;
use crate::os::sys;
use crate::os::wait::{PublishedCpu, SpinEnd, SpinPolicy, WaitMode};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The kernel is asked this often while rings keep the loop busy.
const KERNEL_POLL_INTERVAL_NS: u64 = 20_000;
/// A member that was silent for so long is parked although the loop is awake.
const SILENCE_NS: u64 = 2_000_000;
/// Parked members looked at in one tick of the safety net.
const SWEEP_MEMBERS: usize = 64;

const EPOLLIN: u32 = libc::EPOLLIN.cast_unsigned();
const EPOLLOUT: u32 = libc::EPOLLOUT.cast_unsigned();
const EPOLLET: u32 = libc::EPOLLET.cast_unsigned();

/// The engine's part of one epoll instance. Lives as long as the process.
#[derive(Debug)]
pub(super) struct Poller {
    epfd: RawFd,
    /// Threads that wait for `state` while a spinning thread holds it.
    contenders: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// An eventfd in the epoll instance that wakes the thread asleep there when
    /// another thread changes members. `None` until the first member, and after
    /// the program has closed the epoll instance.
    kick: Option<OwnedFd>,
    hot: Vec<Member>,
    parked: BTreeMap<RawFd, Member>,
    /// Where the next turn begins, so that the first of the list has no advantage.
    turn: usize,
    sleeping: bool,
    policy: SpinPolicy,
    settings: u64,
    kernel_polled_ns: u64,
    kernel_had_events: bool,
    sweep_from: RawFd,
}

#[derive(Debug)]
struct Member {
    session: &'static Session,
    views: Views,
    interest: u32,
    data: u64,
    active_ns: u64,
    cpu: PublishedCpu,
    /// Its socket has ended and is not to be heard of again.
    muted: bool,
    /// The unread position at which the last sweep found it ready.
    swept_at: Option<u64>,
}

/// All pollers there ever were: one for each epoll file descriptor.
static POLLERS: Mutex<Vec<&'static Poller>> = Mutex::new(Vec::new());

/// Lets every poller look for lost doorbells.
pub(super) fn sweep_all() {
    POLLERS.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|poller| poller.sweep());
}

/// `WaitSettings` in one word: the spin budget, and the mode in the low byte.
static SETTINGS: AtomicU64 = AtomicU64::new(50 << 8);

/// Sets how every event loop of this process waits, from its next wait on.
pub fn configure(settings: WaitSettings) {
    let mode = match settings.mode {
        WaitMode::Adaptive => 0,
        WaitMode::Park => 1,
        WaitMode::Spin => 2,
    };
    // ORDERING, Relaxed: nothing else travels with the settings.
    SETTINGS.store(u64::from(settings.spin_us) << 8 | mode, Relaxed);
}

fn policy_of(settings: u64) -> SpinPolicy {
    let mode = match settings & 0xFF {
        1 => WaitMode::Park,
        2 => WaitMode::Spin,
        _ => WaitMode::Adaptive,
    };
    SpinPolicy::new(mode, (settings >> 8) * 1000)
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
        let poller = slot.poller().unwrap_or_else(|| {
            let poller = slot.set_poller(Self::new(epfd));
            let mut all = POLLERS.lock().unwrap_or_else(PoisonError::into_inner);
            // Another thread may have made it at the same moment.
            if !all.iter().any(|&known| std::ptr::eq(known, poller)) {
                all.push(poller);
            }
            poller
        });
        poller.arm()?;
        Ok(poller)
    }

    fn new(epfd: RawFd) -> Self {
        let settings = SETTINGS.load(Relaxed);
        let state = State {
            kick: None,
            hot: Vec::new(),
            parked: BTreeMap::new(),
            turn: 0,
            sleeping: false,
            policy: policy_of(settings),
            settings,
            kernel_polled_ns: 0,
            kernel_had_events: false,
            sweep_from: 0,
        };
        Self { epfd, contenders: AtomicU32::new(0), state: Mutex::new(state) }
    }

    /// Makes sure that a thread asleep in the epoll instance can be woken.
    fn arm(&self) -> io::Result<()> {
        let mut state = self.lock();
        if state.kick.is_none() {
            let kick = sys::eventfd()?;
            let event = libc::epoll_event { events: EPOLLIN, u64: tag_of(kick.as_raw_fd()) };
            sys::epoll_ctl(self.epfd, libc::EPOLL_CTL_ADD, kick.as_raw_fd(), Some(event))?;
            // A thread may sleep there already, unaware of us: it is woken, once.
            sys::signal_eventfd(kick.as_raw_fd());
            state.kick = Some(kick);
        }
        Ok(())
    }

    /// Forgets everything: the program closes the epoll instance.
    pub(super) fn disarm(&self) {
        let mut state = self.lock();
        state.kick = None;
        state.hot.clear();
        state.parked.clear();
    }

    /// Registers `session`'s socket as `wanted` (`operation` is `EPOLL_CTL_ADD` or
    /// `EPOLL_CTL_MOD`) and looks at its ring from the next turn on.
    pub(super) fn admit(
        &self,
        operation: libc::c_int,
        session: &'static Session,
        wanted: Registration,
    ) -> io::Result<()> {
        let register = || {
            let event = libc::epoll_event { events: EPOLLIN, u64: tag_of(session.fd()) };
            sys::epoll_ctl(self.epfd, operation, session.fd(), Some(event))
        };
        session.join_poller(self.epfd, register, |views| {
            let mut state = self.lock();
            let mut member =
                state.take(session.fd()).unwrap_or_else(|| Member::new(session, views));
            member.interest = wanted.mask;
            member.data = wanted.data;
            member.muted = false;
            member.active_ns = sys::monotonic_ns();
            state.make_hot(member);
            // A change is a reason to look: the sleeper cannot know of it.
            state.wake_sleeper();
        })
    }

    /// Forgets the session of `fd`. Its memory is not looked at afterwards.
    pub(super) fn remove(&self, fd: RawFd) {
        self.lock().take(fd);
    }

    /// `epoll_wait(2)`.
    pub(super) fn wait(
        &self,
        events: &mut [libc::epoll_event],
        timeout_ms: libc::c_int,
    ) -> io::Result<usize> {
        let mut now_ns = sys::monotonic_ns();
        let deadline_ns =
            (timeout_ms > 0).then(|| now_ns + u64::from(timeout_ms.unsigned_abs()) * 1_000_000);
        let mut state = self.lock();
        loop {
            let found = self.look(&mut state, events, timeout_ms, now_ns)?;
            if found > 0 || timeout_ms == 0 {
                return Ok(found);
            }
            if state.spinning_may_pay(now_ns) {
                let (end, count) = self.spin(&mut state, events);
                let started_ns = std::mem::replace(&mut now_ns, sys::monotonic_ns());
                COUNTERS.count_spin(end, now_ns - started_ns);
                let found = self.gather(&mut state, events, count, now_ns);
                if found > 0 {
                    return Ok(found);
                }
                if end == SpinEnd::Interrupted {
                    state = self.yield_to_contenders(state);
                    continue;
                }
            }
            let left_ms = deadline_ns.map_or(-1, |deadline_ns| ms_between(now_ns, deadline_ns));
            if left_ms == 0 {
                return Ok(0);
            }
            if !state.park_hot() {
                continue;
            }
            state.sleeping = true;
            drop(state);
            let woken = sys::epoll_wait(self.epfd, events, left_ms);
            now_ns = sys::monotonic_ns();
            state = self.lock();
            state.sleeping = false;
            state.unpark_hot(now_ns);
            let found = self.gather(&mut state, events, woken?, now_ns);
            if found > 0 {
                return Ok(found);
            }
        }
    }

    /// The safety net: looks for doorbells that were lost, and wakes the loop if it
    /// sleeps over one. A loop that is busy at the moment is awake anyway.
    pub(super) fn sweep(&self) {
        let Ok(mut state) = self.state.try_lock() else { return };
        if state.sweep(sys::monotonic_ns()) {
            state.wake_sleeper();
        }
    }

    /// Drops our own events from those the kernel returned; what they say is
    /// kept for the next turn.
    pub(super) fn filter(&self, events: &mut [libc::epoll_event], count: usize) -> usize {
        self.translate(&mut self.lock(), events, count, sys::monotonic_ns())
    }

    /// One turn: the kernel if it is due, and all hot members.
    fn look(
        &self,
        state: &mut State,
        events: &mut [libc::epoll_event],
        timeout_ms: libc::c_int,
        now_ns: u64,
    ) -> io::Result<usize> {
        // With nothing hot a wait goes to sleep in the kernel anyway.
        let ask_kernel = match (state.hot.is_empty(), events.len()) {
            (true, _) => timeout_ms == 0,
            // The one place is the kernel's and the rings' in turn.
            (false, 1) if state.kernel_had_events && state.any_hot_is_ready() => {
                state.kernel_had_events = false;
                false
            }
            (false, _) => state.kernel_is_due(now_ns),
        };
        let mut count = 0;
        if ask_kernel {
            // Room is left for the rings, or busy sockets could starve them.
            let room = events.len() - state.hot.len().min(events.len() / 2);
            count = sys::epoll_wait(self.epfd, &mut events[..room], 0)?;
            state.note_kernel_poll(count, now_ns);
        }
        let found = self.gather(state, events, count, now_ns);
        state.retire_silent(now_ns);
        Ok(found)
    }

    /// The program's share of `count` kernel events, and after it the ready rings.
    fn gather(
        &self,
        state: &mut State,
        events: &mut [libc::epoll_event],
        count: usize,
        now_ns: u64,
    ) -> usize {
        let found = self.translate(state, events, count, now_ns);
        found + state.collect(&mut events[found..], now_ns)
    }

    /// Keeps the program's own events, in front, and acts on ours: a doorbell
    /// makes its member hot. Returns how many were kept.
    fn translate(
        &self,
        state: &mut State,
        events: &mut [libc::epoll_event],
        count: usize,
        now_ns: u64,
    ) -> usize {
        let mut kept = 0;
        for index in 0..count {
            let event = events[index];
            match fd_of_tag(event.u64) {
                None => {
                    events[kept] = event;
                    kept += 1;
                }
                Some(fd) if state.is_kick(fd) => sys::clear_eventfd(fd),
                Some(fd) => self.doorbell(state, fd, now_ns),
            }
        }
        kept
    }

    fn doorbell(&self, state: &mut State, fd: RawFd, now_ns: u64) {
        let Some(member) = state.heat(fd, now_ns) else { return };
        if member.session.listen() && !member.muted {
            // The end of a socket is reported for ever; having heard it is enough.
            // To say so again would make the kernel report it again.
            member.muted = true;
            let muted = libc::epoll_event { events: EPOLLET, u64: tag_of(fd) };
            sys::epoll_ctl(self.epfd, libc::EPOLL_CTL_MOD, fd, Some(muted)).ok();
        }
    }

    /// Spins for the hot members, asking the kernel now and then. Returns how it
    /// ended, and how many events the kernel had.
    fn spin(&self, state: &mut State, events: &mut [libc::epoll_event]) -> (SpinEnd, usize) {
        let mut count = 0;
        let State { hot, policy, kernel_polled_ns, kernel_had_events, .. } = state;
        let is_ready = || hot.iter().any(|member| member.ready() != 0);
        let interrupt = |now_ns: u64| {
            if now_ns.saturating_sub(*kernel_polled_ns) >= KERNEL_POLL_INTERVAL_NS {
                *kernel_polled_ns = now_ns;
                count = sys::epoll_wait(self.epfd, events, 0).unwrap_or(0);
            }
            // ORDERING, Relaxed: a hint; the mutex orders the state itself.
            count > 0 || self.contenders.load(Relaxed) > 0
        };
        let end = policy.spin(is_ready, interrupt);
        *kernel_had_events |= count > 0;
        (end, count)
    }

    /// Takes the state, telling a spinning holder that somebody waits.
    fn lock(&self) -> MutexGuard<'_, State> {
        if let Ok(state) = self.state.try_lock() {
            return state;
        }
        // ORDERING, Relaxed: a hint; the mutex orders the state itself.
        self.contenders.fetch_add(1, Relaxed);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.contenders.fetch_sub(1, Relaxed);
        state
    }

    fn yield_to_contenders<'a>(&'a self, held: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if self.contenders.load(Relaxed) == 0 {
            return held;
        }
        drop(held);
        // Long enough for one that is being woken; it never blocks us for good.
        for _ in 0..1000 {
            if self.contenders.load(Relaxed) == 0 {
                break;
            }
            std::hint::spin_loop();
        }
        self.lock()
    }
}

impl State {
    /// Wakes the thread that sleeps in the epoll instance, if one does.
    fn wake_sleeper(&self) {
        if let Some(kick) = self.kick.as_ref().filter(|_| self.sleeping) {
            sys::signal_eventfd(kick.as_raw_fd());
        }
    }

    fn is_kick(&self, fd: RawFd) -> bool {
        self.kick.as_ref().is_some_and(|kick| kick.as_raw_fd() == fd)
    }

    /// Takes the member of `fd` out, hot or parked.
    fn take(&mut self, fd: RawFd) -> Option<Member> {
        if let Some(member) = self.parked.remove(&fd) {
            return Some(member);
        }
        let index = self.hot.iter().position(|member| member.session.fd() == fd)?;
        Some(self.hot.swap_remove(index))
    }

    /// The member of `fd`, active now, and hot from now on. One that was hot keeps
    /// its place: who rings often has no advantage.
    fn heat(&mut self, fd: RawFd, now_ns: u64) -> Option<&mut Member> {
        if let Some(member) = self.parked.remove(&fd) {
            self.make_hot(member);
        }
        let member = self.hot.iter_mut().find(|member| member.session.fd() == fd)?;
        member.unpark();
        member.active_ns = now_ns;
        Some(member)
    }

    fn make_hot(&mut self, member: Member) {
        member.unpark();
        member.session.set_hot(true);
        self.hot.push(member);
    }

    fn kernel_is_due(&self, now_ns: u64) -> bool {
        self.kernel_had_events
            || now_ns.saturating_sub(self.kernel_polled_ns) >= KERNEL_POLL_INTERVAL_NS
    }

    fn any_hot_is_ready(&self) -> bool {
        self.hot.iter().any(|member| member.ready() != 0)
    }

    fn note_kernel_poll(&mut self, count: usize, now_ns: u64) {
        self.kernel_polled_ns = now_ns;
        self.kernel_had_events = count > 0;
    }

    /// Writes the events of ready members, as many as there is room for.
    fn collect(&mut self, events: &mut [libc::epoll_event], now_ns: u64) -> usize {
        let members = self.hot.len();
        let mut found = 0;
        for step in 0..members {
            let Some(event) = events.get_mut(found) else {
                // No room: the next turn begins with the one left out.
                self.turn = (self.turn + step) % members;
                return found;
            };
            let member = &mut self.hot[(self.turn + step) % members];
            let ready = member.ready();
            if ready != 0 {
                member.active_ns = now_ns;
                *event = libc::epoll_event { events: ready, u64: member.data };
                found += 1;
            }
        }
        self.turn = self.turn.wrapping_add(1);
        found
    }

    /// Parks the members that were silent for long, while the loop is awake.
    fn retire_silent(&mut self, now_ns: u64) {
        let mut index = 0;
        while index < self.hot.len() {
            let member = &self.hot[index];
            let silent = now_ns.saturating_sub(member.active_ns) >= SILENCE_NS;
            if silent && member.ready() == 0 && member.park() {
                let member = self.hot.swap_remove(index);
                self.keep_parked(member);
            } else {
                index += 1;
            }
        }
    }

    fn keep_parked(&mut self, mut member: Member) {
        member.session.set_hot(false);
        member.swept_at = None;
        self.parked.insert(member.session.fd(), member);
    }

    /// Announces every hot member as parked, before the loop sleeps. Returns
    /// `false`, nothing announced, if one of them is ready after all.
    fn park_hot(&mut self) -> bool {
        let all_parked = self.hot.iter().all(|member| member.ready() == 0 && member.park());
        if !all_parked {
            self.hot.iter().for_each(Member::unpark);
        } else if !self.hot.is_empty() {
            COUNTERS.parks.add(1);
        }
        all_parked
    }

    /// Awake again: a member that was active lately needs no doorbell for its
    /// next message; the others stay announced as parked.
    fn unpark_hot(&mut self, now_ns: u64) {
        let is_silent = |member: &mut Member| now_ns.saturating_sub(member.active_ns) >= SILENCE_NS;
        let silent: Vec<Member> = self.hot.extract_if(.., is_silent).collect();
        silent.into_iter().for_each(|member| self.keep_parked(member));
        self.hot.iter().for_each(Member::unpark);
    }

    /// Looks at members that wait for a doorbell, a bounded number of them, in case
    /// it was lost. Returns whether any was; its member is hot then.
    fn sweep(&mut self, now_ns: u64) -> bool {
        // Those that were active just before the loop fell asleep wait as well.
        let announced = if self.sleeping { &mut self.hot[..] } else { &mut [] };
        let missed_awake = announced.iter_mut().filter_map(|member| member.missed(now_ns)).count();
        let parked = self.parked.range_mut(self.sweep_from..).take(SWEEP_MEMBERS);
        let mut last = None;
        let missed: Vec<RawFd> = parked
            .inspect(|(fd, _)| last = Some(**fd))
            .filter_map(|(_, member)| member.missed(now_ns))
            .collect();
        self.sweep_from = last.map_or(0, |fd| fd + 1);
        for &fd in &missed {
            if let Some(member) = self.take(fd) {
                self.make_hot(member);
            }
        }
        let count = missed_awake + missed.len();
        COUNTERS.missed_doorbells.add(count as u64);
        count > 0
    }

    /// Whether any hot member's peer runs elsewhere and spinning has been paying.
    /// Publishes this thread's CPU to the hot members on the way.
    fn spinning_may_pay(&mut self, now_ns: u64) -> bool {
        let settings = SETTINGS.load(Relaxed);
        if settings != self.settings {
            self.settings = settings;
            self.policy = policy_of(settings);
        }
        let own_cpu = sys::current_cpu();
        let policy = &self.policy;
        self.hot.iter_mut().fold(false, |pays, member| {
            member.publish_cpu(own_cpu);
            pays || policy.may_spin(now_ns, own_cpu, member.views.data.peer_cpu())
        })
    }
}

impl Member {
    fn new(session: &'static Session, views: Views) -> Self {
        Self {
            session,
            views,
            interest: 0,
            data: 0,
            active_ns: 0,
            cpu: PublishedCpu::default(),
            muted: false,
            swept_at: None,
        }
    }

    /// What to report for it: `EPOLLIN`, `EPOLLOUT`, both or nothing.
    #[inline]
    fn ready(&self) -> u32 {
        let gone = self.session.peer_is_gone();
        let mut ready = 0;
        if self.interest & EPOLLIN != 0 && (gone || self.views.data.is_ready(self.session.head())) {
            ready |= EPOLLIN;
        }
        if self.interest & EPOLLOUT != 0 && (gone || self.views.space.is_ready(self.session.tail()))
        {
            ready |= EPOLLOUT;
        }
        ready
    }

    /// Its file descriptor, if its doorbell was lost. It counts as active then.
    ///
    /// That is when it is ready at two sweeps in a row, a tick apart, at the same
    /// position: at one it may be about to ring.
    fn missed(&mut self, now_ns: u64) -> Option<RawFd> {
        let position = self.session.head();
        let found_at = (self.ready() != 0).then_some(position);
        // A doorbell that was heard, by a loop that has not run yet, is not lost.
        let again = found_at.is_some()
            && self.swept_at == found_at
            && !doorbell::is_ringing(self.session.fd());
        self.swept_at = found_at;
        again.then(|| {
            self.active_ns = now_ns;
            self.session.fd()
        })
    }

    /// Announces it as asleep for what the program is interested in; `false`,
    /// and awake, if that came meanwhile.
    fn park(&self) -> bool {
        let parked = (self.interest & EPOLLIN == 0 || self.views.data.park(self.session.head()))
            && (self.interest & EPOLLOUT == 0 || self.views.space.park(self.session.tail()));
        if !parked {
            self.unpark();
        }
        parked
    }

    fn unpark(&self) {
        self.views.data.unpark();
        self.views.space.unpark();
    }

    fn publish_cpu(&mut self, cpu: Option<u32>) {
        let Views { data, space } = self.views;
        self.cpu.update(cpu, |cpu| {
            data.publish_cpu(cpu);
            space.publish_cpu(cpu);
        });
    }
}

/// The event data of our own registrations: a random number that is this
/// process's own, never 0, above the file descriptor.
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
fn ms_between(now_ns: u64, deadline_ns: u64) -> libc::c_int {
    let left_ms = deadline_ns.saturating_sub(now_ns).div_ceil(1_000_000);
    libc::c_int::try_from(left_ms).unwrap_or(libc::c_int::MAX)
}
