//! An event loop's waiting: what `epoll_wait(2)` does where rings are watched beside what
//! the kernel watches.

use super::poller::{ENDS, EPOLLIN, EPOLLOUT, Poller, State};
use super::settings::Packed;
use super::stats::COUNTERS;
use super::table::{self, Slot};
use super::tag::fd_of_tag;
use super::wake::wake_fd;
use crate::interposer::pace;
use crate::os::doorbell::{Heard, LOOK_BYTES};
use crate::os::sys;
use crate::os::wait::SpinEnd;
use std::io;
use std::os::fd::RawFd;
use std::sync::MutexGuard;

/// Whoever waits for the poller is looked for so many times more: long enough for one that is
/// being woken.
const MORE_LOOKS: u32 = 4;

/// One call of `epoll_wait`.
#[derive(Debug)]
struct Call<'e> {
    events: &'e mut [libc::epoll_event],
    timeout_ms: libc::c_int,
    deadline_ns: Option<u64>,
    now_ns: u64,
}

impl Poller {
    /// `epoll_wait(2)`.
    pub(super) fn wait(
        &self,
        events: &mut [libc::epoll_event],
        timeout_ms: libc::c_int,
    ) -> io::Result<usize> {
        let now_ns = sys::monotonic_ns();
        let deadline_ns =
            (timeout_ms > 0).then(|| now_ns + u64::from(timeout_ms.unsigned_abs()) * 1_000_000);
        let mut call = Call { events, timeout_ms, deadline_ns, now_ns };
        let mut state = self.state.lock();
        self.deferred.note_waiter(state.members.hot());
        self.deferred.ring(state.members.hot());
        loop {
            let found = self.look(&mut state, &mut call)?;
            state = self.see_off(state);
            if found > 0 || timeout_ms == 0 {
                return Ok(found);
            }
            let (found, interrupted) = self.spin(&mut state, &mut call);
            if found > 0 {
                return Ok(found);
            }
            // Also where it was interrupted: a peer may ring without end and say nothing.
            let Some(left_ms) = call.left_ms() else { return Ok(0) };
            if interrupted || !state.park_hot() {
                state = self.state.yield_to_contenders(state, |times| times < MORE_LOOKS);
                call.now_ns = sys::monotonic_ns();
                continue;
            }
            let (held, found) = self.sleep(state, &mut call, left_ms);
            state = held;
            let found = found?;
            if found > 0 {
                return Ok(found);
            }
        }
    }

    /// Drops our own events from those the kernel returned; what they say is
    /// kept for the next turn.
    pub(super) fn filter(&self, events: &mut [libc::epoll_event], count: usize) -> usize {
        self.translate(&mut self.state.lock(), events, count, sys::monotonic_ns())
    }

    /// One turn: the kernel if it is due, and all hot members.
    fn look(&self, state: &mut State, call: &mut Call<'_>) -> io::Result<usize> {
        let mut count = 0;
        if state.asks_kernel(call) {
            let room = pace::places_for_kernel(call.events.len(), state.members.hot().len());
            count = sys::epoll_wait(self.epfd, &mut call.events[..room], 0)?;
            state.kernel_polled_ns = call.now_ns;
            state.kernel_had_events = count > 0;
        }
        let is_patient = call.timeout_ms != 0;
        let found = self.gather(state, call, count, is_patient);
        state.members.retire_silent(call.now_ns);
        Ok(found)
    }

    /// Spins for the hot members, where that may pay. Returns how many events were found,
    /// and whether something else ended it.
    fn spin(&self, state: &mut State, call: &mut Call<'_>) -> (usize, bool) {
        if state.members.any_hot_is_ready() || !state.spinning_may_pay(call.now_ns) {
            return (0, false);
        }
        let (end, count) = self.spin_for_hot(state, call);
        let started_ns = std::mem::replace(&mut call.now_ns, sys::monotonic_ns());
        COUNTERS.count_spin(end, call.now_ns - started_ns);
        if end == SpinEnd::Won && state.members.some_parked_have_bytes() {
            return (self.look(state, call).unwrap_or(0), false);
        }
        (self.gather(state, call, count, true), end == SpinEnd::Interrupted)
    }

    /// The spin itself, which asks the kernel now and then, until the deadline at most.
    /// Returns how it ended, and how many events the kernel had.
    fn spin_for_hot(&self, state: &mut State, call: &mut Call<'_>) -> (SpinEnd, usize) {
        let mut count = 0;
        let State { members, policy, kernel_polled_ns, kernel_had_events, .. } = state;
        let is_ready = || members.any_hot_is_ready();
        let interrupt = |now_ns: u64| {
            if pace::kernel_is_due(*kernel_polled_ns, now_ns) {
                *kernel_polled_ns = now_ns;
                count = sys::epoll_wait(self.epfd, call.events, 0).unwrap_or(0);
            }
            let is_late = call.deadline_ns.is_some_and(|deadline_ns| now_ns >= deadline_ns);
            count > 0 || self.state.has_contenders() || is_late
        };
        let backed_off = policy.backs_off_until_ns();
        let end = policy.spin(is_ready, interrupt);
        if policy.backs_off_until_ns() != backed_off {
            COUNTERS.spin_backoffs.add(1);
        }
        *kernel_had_events |= count > 0;
        (end, count)
    }

    /// Sleeps in the kernel, all members being announced as parked, and looks again.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        call: &mut Call<'_>,
        left_ms: libc::c_int,
    ) -> (MutexGuard<'a, State>, io::Result<usize>) {
        if !state.members.hot().is_empty() {
            COUNTERS.parks.add(1);
        }
        state.sleeping = true;
        drop(state);
        let woken = sys::epoll_wait(self.epfd, call.events, left_ms);
        call.now_ns = sys::monotonic_ns();
        let mut state = self.state.lock();
        state.sleeping = false;
        state.members.unpark_hot(call.now_ns);
        let found = woken.map(|count| self.gather(&mut state, call, count, true));
        (state, found)
    }

    /// The program's share of `count` kernel events, and after it the ready rings.
    fn gather(
        &self,
        state: &mut State,
        call: &mut Call<'_>,
        count: usize,
        is_patient: bool,
    ) -> usize {
        let found = self.translate(state, call.events, count, call.now_ns);
        if count > 0 {
            state.members.forget_reports();
        }
        found + state.members.collect(&mut call.events[found..], is_patient, call.now_ns)
    }

    /// Keeps the program's own events, in front, and acts on ours: a doorbell
    /// makes its member hot. Returns how many were kept.
    pub(super) fn translate(
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
                Some(fd) if Some(fd) == wake_fd() => {}
                Some(fd) => self.hear(state, fd, event.events, now_ns),
            }
        }
        kept
    }

    /// There is something on the socket `fd`: doorbells, or the stream of one that is leaving.
    fn hear(&self, state: &mut State, fd: RawFd, events: u32, now_ns: u64) {
        let Some(session) = table::slot(fd).and_then(Slot::live_session) else { return };
        state.policy.woken(now_ns);
        let Some(member) = state.members.activate(session, now_ns) else {
            self.note_stranger();
            return;
        };
        if session.is_leaving() {
            let has_ended = events & !(EPOLLIN | EPOLLOUT) != 0;
            member.on_socket = if has_ended { EPOLLIN | EPOLLOUT } else { events };
            state.leaving.push(session);
            return;
        }
        let has_ended = events & ENDS != 0;
        if !has_ended && member.leaves_doorbell_unread() {
            return;
        }
        let heard = session.listen();
        if session.is_leaving() {
            state.leaving.push(session);
        } else if matches!(heard, Heard::Rung(count) if has_ended || count == LOOK_BYTES) {
            // Behind them are more, or the end.
            self.tell_again(session, member.interest);
        }
    }
}

impl Call<'_> {
    /// How long it may still wait, -1 for ever; `None` if it is over. Rounded up, so that a
    /// wait never spins on the last fraction.
    fn left_ms(&self) -> Option<libc::c_int> {
        let Some(deadline_ns) = self.deadline_ns else { return Some(-1) };
        let left_ms = deadline_ns.saturating_sub(self.now_ns).div_ceil(1_000_000);
        (left_ms > 0).then(|| libc::c_int::try_from(left_ms).unwrap_or(libc::c_int::MAX))
    }
}

impl State {
    /// Whether the kernel is asked in this turn.
    fn asks_kernel(&mut self, call: &Call<'_>) -> bool {
        if self.members.hot().is_empty() {
            // A wait goes to sleep in the kernel anyway.
            return call.timeout_ms == 0;
        }
        if call.events.len() == 1 && self.kernel_had_events && self.members.any_hot_is_ready() {
            // The one place is the kernel's and the rings' in turn.
            self.kernel_had_events = false;
            return false;
        }
        self.kernel_had_events
            || pace::kernel_is_due(self.kernel_polled_ns, call.now_ns)
            || self.members.one_may_be_overtaken()
    }

    /// Announces all hot members as asleep; `false`, with nothing announced, if one is ready.
    fn park_hot(&mut self) -> bool {
        let parked = self.members.park_hot();
        // Ready now, or reported just before and not read: in that case what makes the
        // program read it comes from the kernel, or time passes.
        self.kernel_had_events |= !parked;
        parked
    }

    /// Whether any hot member's peer runs elsewhere and spinning has been paying, and no other
    /// one waits for this CPU. Publishes this thread's CPU to the hot members on the way.
    fn spinning_may_pay(&mut self, now_ns: u64) -> bool {
        let settings = Packed::now();
        if settings != self.settings {
            self.settings = settings;
            self.policy = settings.policy();
        }
        let own_cpu = sys::current_cpu();
        let (mut pays, mut one_is_here) = (false, false);
        for member in self.members.hot() {
            member.publish_cpu(own_cpu);
            let peer_cpu = member.watch.peer_cpu();
            pays |= self.policy.may_spin(now_ns, own_cpu, peer_cpu);
            one_is_here |= peer_cpu.is_some() && peer_cpu == own_cpu;
        }
        pays && !(one_is_here && self.policy.adapts() && self.crowd.is_there(now_ns))
    }
}
