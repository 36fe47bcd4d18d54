//! The event loop's waiting: rings and kernel events of one epoll instance.
//!
//! While a session lives its real socket is registered for `EPOLLIN` alone (it
//! is always writable) with a tag of ours in place of the program's data.

use super::WaitSettings;
use super::member::Member;
use super::members::Members;
use super::session::Session;
use super::stats::COUNTERS;
use super::table::{self, Registration, Slot};
use super::tag::{fd_of_tag, tag_of};
use crate::os::sys;
use crate::os::wait::{SpinEnd, SpinPolicy, WaitMode};
use crate::park::PublishFence;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The kernel is asked this often while rings keep the loop busy.
const KERNEL_POLL_INTERVAL_NS: u64 = 20_000;

pub(super) const EPOLLIN: u32 = libc::EPOLLIN.cast_unsigned();
pub(super) const EPOLLOUT: u32 = libc::EPOLLOUT.cast_unsigned();
const EPOLLET: u32 = libc::EPOLLET.cast_unsigned();

/// The engine's part of one epoll instance. Lives as long as the process.
#[derive(Debug)]
pub(super) struct Poller {
    epfd: RawFd,
    /// The one thread that ever waited here, [`NOBODY`] before and [`MANY`] after that.
    waiter: AtomicUsize,
    /// Members have published and not looked whether their peers sleep.
    unrung: AtomicBool,
    /// Threads that wait for `state` while a spinning thread holds it.
    contenders: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Whether the epoll instance watches [`KICK`]: from the first member on, until
    /// the program closes the epoll instance.
    is_armed: bool,
    members: Members,
    sleeping: bool,
    policy: SpinPolicy,
    settings: u64,
    kernel_polled_ns: u64,
    kernel_had_events: bool,
}

/// No thread has waited yet.
const NOBODY: usize = 0;
/// Several threads wait, in turns: none may leave a doorbell to another's next wait.
const MANY: usize = usize::MAX;

/// The eventfd that wakes the thread asleep in an epoll instance when another thread
/// changes its members. It is one for all of them, made before any is needed: a program
/// that has no file descriptor left can still watch a connection elsewhere.
///
/// Nobody reads it. It is registered edge-triggered, so each signal is an event of its
/// own in each epoll instance, and those that it was not for look once in vain.
static KICK: OnceLock<OwnedFd> = OnceLock::new();

/// Makes what pollers need. Called again it changes nothing.
pub(super) fn prepare() -> io::Result<()> {
    if KICK.get().is_none() {
        let kick = sys::eventfd()?;
        KICK.get_or_init(|| kick);
    }
    Ok(())
}

fn kick_fd() -> Option<RawFd> {
    KICK.get().map(AsRawFd::as_raw_fd)
}

/// All pollers there ever were: one for each epoll file descriptor.
static POLLERS: Mutex<Vec<&'static Poller>> = Mutex::new(Vec::new());

/// Lets every poller look for lost doorbells.
pub(super) fn sweep_all() {
    POLLERS.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|poller| poller.sweep());
}

/// `WaitSettings` in one word: the spin budget, a bit for the doorbells, and the
/// mode in the lowest bits.
static SETTINGS: AtomicU64 = AtomicU64::new(50 << 8);
const RING_AT_NEXT_WAIT: u64 = 0x80;

/// Sets how every event loop of this process waits, from its next wait on.
pub fn configure(settings: WaitSettings) {
    let mode = match settings.mode {
        WaitMode::Adaptive => 0,
        WaitMode::Park => 1,
        WaitMode::Spin => 2,
    };
    // ORDERING, Relaxed: nothing else travels with the settings.
    let later = if settings.ring_at_next_wait { RING_AT_NEXT_WAIT } else { 0 };
    SETTINGS.store(u64::from(settings.spin_us) << 8 | later | mode, Relaxed);
}

fn ring_at_next_wait(settings: u64) -> bool {
    settings & RING_AT_NEXT_WAIT != 0
}

fn policy_of(settings: u64) -> SpinPolicy {
    let mode = match settings & !RING_AT_NEXT_WAIT & 0xFF {
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
            is_armed: false,
            members: Members::default(),
            sleeping: false,
            policy: policy_of(settings),
            settings,
            kernel_polled_ns: 0,
            kernel_had_events: false,
        };
        Self {
            epfd,
            waiter: AtomicUsize::new(NOBODY),
            unrung: AtomicBool::new(false),
            contenders: AtomicU32::new(0),
            state: Mutex::new(state),
        }
    }

    /// Makes sure that a thread asleep in the epoll instance can be woken.
    fn arm(&self) -> io::Result<()> {
        let mut state = self.lock();
        if !state.is_armed {
            prepare()?;
            let kick = kick_fd().ok_or(io::ErrorKind::NotFound)?;
            let event = libc::epoll_event { events: EPOLLIN | EPOLLET, u64: tag_of(kick) };
            sys::epoll_ctl(self.epfd, libc::EPOLL_CTL_ADD, kick, Some(event))?;
            // A thread may sleep there already, unaware of us: it is woken, once.
            sys::signal_eventfd(kick);
            state.is_armed = true;
        }
        Ok(())
    }

    /// Forgets everything: the program closes the epoll instance.
    pub(super) fn disarm(&self) {
        let mut state = self.lock();
        state.is_armed = false;
        state.members.clear();
    }

    /// Registers `session`'s socket as `wanted` (`operation` is `EPOLL_CTL_ADD` or
    /// `EPOLL_CTL_MOD`), publishes its `greeting`, if it has one to say, and looks at
    /// its ring from the next turn on.
    pub(super) fn admit(
        &self,
        operation: libc::c_int,
        session: &'static Session,
        wanted: Registration,
        greeting: &[u8],
    ) -> io::Result<()> {
        let register = || {
            let event = libc::epoll_event { events: EPOLLIN, u64: tag_of(session.fd()) };
            sys::epoll_ctl(self.epfd, operation, session.fd(), Some(event))?;
            session.greet(greeting);
            Ok(())
        };
        session.join_poller(self.epfd, register, |watch| {
            let mut state = self.lock();
            let mut member =
                state.members.take(session).unwrap_or_else(|| Member::new(session, watch));
            member.interest = wanted.mask;
            member.data = wanted.data;
            member.muted = false;
            member.forget_report();
            member.active_ns = sys::monotonic_ns();
            state.members.make_hot(member);
            // A change is a reason to look: the sleeper cannot know of it.
            state.wake_sleeper();
        })
    }

    /// Forgets `session`. Its memory is not looked at afterwards.
    pub(super) fn remove(&self, session: &Session) {
        self.lock().members.take(session);
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
        self.note_waiter(&state);
        self.ring_sleepers(&state);
        loop {
            let found = self.look(&mut state, events, timeout_ms, now_ns)?;
            if found > 0 || timeout_ms == 0 {
                return Ok(found);
            }
            let mut interrupted = false;
            if !state.members.any_hot_is_ready() && state.spinning_may_pay(now_ns) {
                let (end, count) = self.spin(&mut state, events, deadline_ns);
                let started_ns = std::mem::replace(&mut now_ns, sys::monotonic_ns());
                COUNTERS.count_spin(end, now_ns - started_ns);
                interrupted = end == SpinEnd::Interrupted;
                let found = self.gather(&mut state, events, count, true, now_ns);
                if found > 0 {
                    return Ok(found);
                }
            }
            // Also where it was interrupted: a peer may ring without end and say nothing.
            let left_ms = deadline_ns.map_or(-1, |deadline_ns| ms_between(now_ns, deadline_ns));
            if left_ms == 0 {
                return Ok(0);
            }
            if interrupted {
                state = self.yield_to_contenders(state);
                continue;
            }
            if !state.members.park_hot() {
                // Ready now, or reported just before and not read: in that case what
                // makes the program read it comes from the kernel, or time passes.
                state.kernel_had_events = true;
                state = self.yield_to_contenders(state);
                now_ns = sys::monotonic_ns();
                continue;
            }
            if !state.members.hot().is_empty() {
                COUNTERS.parks.add(1);
            }
            state.sleeping = true;
            drop(state);
            let woken = sys::epoll_wait(self.epfd, events, left_ms);
            now_ns = sys::monotonic_ns();
            state = self.lock();
            state.sleeping = false;
            state.members.unpark_hot(now_ns);
            let found = self.gather(&mut state, events, woken?, true, now_ns);
            if found > 0 {
                return Ok(found);
            }
        }
    }

    /// Whether the calling thread may leave it to its next wait to look whether a
    /// peer sleeps. Only where no other thread waits: one that is waiting has looked
    /// already, and may go to sleep.
    pub(super) fn may_ring_later(&self) -> bool {
        // ORDERING, Relaxed: a session's writer is locked here, see `note_waiter`.
        ring_at_next_wait(SETTINGS.load(Relaxed)) && self.waiter.load(Relaxed) == this_thread()
    }

    /// Notes which thread waits. Once a second one does, the first may be about to
    /// leave a doorbell to a wait that is over: all are rung now, and none is left to
    /// a wait from then on.
    fn note_waiter(&self, state: &State) {
        let here = this_thread();
        match self.waiter.load(Relaxed) {
            known if known == here || known == MANY => {}
            NOBODY => self.waiter.store(here, Relaxed),
            _ => {
                // ORDERING, Relaxed: each lock below is taken after a write that may not
                // know, which is rung for here, or before one that does know.
                self.waiter.store(MANY, Relaxed);
                state.members.hot().iter().for_each(|member| member.session.ring_now());
            }
        }
    }

    /// Has the next wait look at the sessions that say they are unrung.
    pub(super) fn ring_at_next_wait(&self) {
        // ORDERING, Release: pairs with the Acquire swap in `ring_sleepers`, in
        // case it is another thread that waits next.
        self.unrung.store(true, Release);
    }

    /// Rings the peers that sleep over what was written since the last wait: one
    /// fence for all of them, when the stores have long left the CPU.
    fn ring_sleepers(&self, state: &State) {
        // ORDERING, Acquire: see `ring_at_next_wait`.
        if self.unrung.swap(false, Acquire) {
            let fence = PublishFence::execute();
            for member in state.members.hot() {
                member.session.ring_if_unrung(&member.watch.space, &fence);
            }
        }
    }

    /// The safety net: looks for doorbells that were lost, and wakes the loop if it
    /// sleeps over one. A loop that is busy at the moment is awake anyway.
    pub(super) fn sweep(&self) {
        let Ok(mut state) = self.state.try_lock() else { return };
        let sleeping = state.sleeping;
        let missed = state.members.sweep(sleeping, sys::monotonic_ns());
        COUNTERS.missed_doorbells.add(missed as u64);
        if missed > 0 {
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
        let ask_kernel = match (state.members.hot().is_empty(), events.len()) {
            (true, _) => timeout_ms == 0,
            // The one place is the kernel's and the rings' in turn.
            (false, 1) if state.kernel_had_events && state.members.any_hot_is_ready() => {
                state.kernel_had_events = false;
                false
            }
            (false, _) => state.kernel_is_due(now_ns),
        };
        let mut count = 0;
        if ask_kernel {
            // Room is left for the rings, or busy sockets could starve them.
            let room = events.len() - state.members.hot().len().min(events.len() / 2);
            count = sys::epoll_wait(self.epfd, &mut events[..room], 0)?;
            state.note_kernel_poll(count, now_ns);
        }
        let found = self.gather(state, events, count, timeout_ms != 0, now_ns);
        state.members.retire_silent(now_ns);
        Ok(found)
    }

    /// The program's share of `count` kernel events, and after it the ready rings.
    fn gather(
        &self,
        state: &mut State,
        events: &mut [libc::epoll_event],
        count: usize,
        patient: bool,
        now_ns: u64,
    ) -> usize {
        let found = self.translate(state, events, count, now_ns);
        if count > 0 {
            state.members.forget_reports();
        }
        found + state.members.collect(&mut events[found..], patient, now_ns)
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
                Some(fd) if Some(fd) == kick_fd() => {}
                Some(fd) => self.doorbell(state, fd, now_ns),
            }
        }
        kept
    }

    fn doorbell(&self, state: &mut State, fd: RawFd, now_ns: u64) {
        let session = table::slot(fd).and_then(Slot::live_session);
        let Some(member) = session.and_then(|session| state.members.heat(session, now_ns)) else {
            return;
        };
        if member.session.listen() && !member.muted {
            // The end of a socket is reported for ever; having heard it is enough.
            // To say so again would make the kernel report it again.
            member.muted = true;
            let muted = libc::epoll_event { events: EPOLLET, u64: tag_of(fd) };
            sys::epoll_ctl(self.epfd, libc::EPOLL_CTL_MOD, fd, Some(muted)).ok();
        }
    }

    /// Spins for the hot members, asking the kernel now and then, until the deadline
    /// at most. Returns how it ended, and how many events the kernel had.
    fn spin(
        &self,
        state: &mut State,
        events: &mut [libc::epoll_event],
        deadline_ns: Option<u64>,
    ) -> (SpinEnd, usize) {
        let mut count = 0;
        let State { members, policy, kernel_polled_ns, kernel_had_events, .. } = state;
        let is_ready = || members.any_hot_is_ready();
        let interrupt = |now_ns: u64| {
            if now_ns.saturating_sub(*kernel_polled_ns) >= KERNEL_POLL_INTERVAL_NS {
                *kernel_polled_ns = now_ns;
                count = sys::epoll_wait(self.epfd, events, 0).unwrap_or(0);
            }
            // ORDERING, Relaxed: a hint; the mutex orders the state itself.
            let wanted = self.contenders.load(Relaxed) > 0;
            count > 0 || wanted || deadline_ns.is_some_and(|deadline_ns| now_ns >= deadline_ns)
        };
        let backed_off = policy.backs_off_until_ns();
        let end = policy.spin(is_ready, interrupt);
        if policy.backs_off_until_ns() != backed_off {
            COUNTERS.spin_backoffs.add(1);
        }
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
        if let Some(kick) = kick_fd().filter(|_| self.sleeping) {
            sys::signal_eventfd(kick);
        }
    }

    fn kernel_is_due(&self, now_ns: u64) -> bool {
        self.kernel_had_events
            || now_ns.saturating_sub(self.kernel_polled_ns) >= KERNEL_POLL_INTERVAL_NS
    }

    fn note_kernel_poll(&mut self, count: usize, now_ns: u64) {
        self.kernel_polled_ns = now_ns;
        self.kernel_had_events = count > 0;
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
        self.members.hot().iter().fold(false, |pays, member| {
            member.publish_cpu(own_cpu);
            pays || policy.may_spin(now_ns, own_cpu, member.watch.peer_cpu())
        })
    }
}

/// A number that no other living thread has.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// Milliseconds until `deadline_ns`, rounded up so that a wait never spins on
/// the last fraction.
fn ms_between(now_ns: u64, deadline_ns: u64) -> libc::c_int {
    let left_ms = deadline_ns.saturating_sub(now_ns).div_ceil(1_000_000);
    libc::c_int::try_from(left_ms).unwrap_or(libc::c_int::MAX)
}

#[cfg(test)]
#[allow(unsafe_code, reason = "an epoll instance comes from a C function")]
mod tests {
    use super::*;
    use crate::os::region::Region;
    use std::os::fd::FromRawFd as _;
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
        let session = table::slot_or_insert(socket.as_raw_fd())
            .expect("a file descriptor")
            .session_or_insert(socket.as_raw_fd());
        session.begin(region.into_endpoint(), 0).expect("its first");

        // As long as this is held, nobody looks, nor joins those who are looked at.
        let looking = poller.lock();
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
}
