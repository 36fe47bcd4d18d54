//! `epoll_wait`, once an instance watches connections: looking, spinning and sleeping.

use super::members::State;
use super::private::{News, Private};
use super::{Epoll, MAX_UNASKED, Timeout, nap};
use crate::errno::Errno;
use crate::{signals, sys};
use libc::{epoll_event, sigset_t};
use shm_fifo::channel::SpinEnd;
use shm_fifo::interposer::pace;
use std::ptr::null;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, MutexGuard};

impl Epoll {
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
        let mut wait =
            Wait { epoll: self, deadline_ns, mask, has_asked: false, is_interrupted: false };
        let mut state = self.state.lock();
        let result = loop {
            state = self.settle(state);
            match wait.look(&mut state, events) {
                Ok(None) if wait.is_interrupted && state.attended.is_empty() => {
                    break Err(Errno(libc::EINTR));
                }
                Ok(None) => {}
                Ok(Some(0)) if wait.is_interrupted => break Err(Errno(libc::EINTR)),
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
            let waited = signals::let_in(|| sys::epoll_wait(self.epfd(), events, left_ns, mask));
            // As in the kernel: what is ready goes before signals.
            waited.unwrap_or_else(|_| match sys::epoll_wait(self.epfd(), events, Some(0), null()) {
                Ok(0) => Err(Errno(libc::EINTR)),
                asked => asked,
            })
        });
        if let Some(Ok(count)) = result {
            self.told_outside(&events[..count]);
        }
        self.outside.fetch_sub(1, SeqCst);
        let Some(result) = result else {
            // It may have been counted, and called, all the same.
            self.welcome(events, 0);
            return None;
        };
        match (result, self.welcome(events, result.unwrap_or(0))) {
            // Only called in here.
            (Ok(1..), 0) => None,
            (result, kept) => Some(result.map(|_| kept)),
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
    /// A signal came. As in the kernel, what is ready goes before it.
    is_interrupted: bool,
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
            let is_due =
                state.unasked >= MAX_UNASKED || pace::kernel_is_due(state.kernel_polled_ns, now_ns);
            if has_nothing || is_due && is_busy() {
                let news = state.ask_private(Some(0), null())?;
                state.hear(&news);
                state.kernel_polled_ns = now_ns;
                state.unasked = 0;
                self.has_asked = true;
            }
            if state.kernel_had_events {
                state.unasked += 1;
                let room = pace::places_for_kernel(events.len(), state.hot.len());
                count = sys::epoll_wait(self.epoll.epfd(), &mut events[..room], Some(0), null())?;
                state.kernel_had_events = count > 0;
                state.kernel_was_last = count > 0;
                if state.call.is_on() {
                    count = state.call.leave_out_calls(events, count);
                }
                state.note_one_shots(&events[..count]);
            }
        }
        count += state.collect(&mut events[count..], now_ns);
        state.park_silent(now_ns);
        // What is given back is the kernel's to tell.
        self.has_asked &= state.attended.is_empty();
        let is_over = is_last && self.has_asked;
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
            if !self.epoll.state.has_contenders() && !signals::is_waiting() {
                return (state, Ok(()));
            }
            drop(state);
            self.is_interrupted = signals::let_in(|| ()).is_err();
            self.epoll.state.let_contenders_pass(nap);
            state = self.epoll.state.lock();
            if !self.is_interrupted {
                return (state, Ok(()));
            }
        }
        let Some(private) = state.private.as_ref().map(Private::fd) else {
            return (state, Err(Errno(libc::EBADF)));
        };
        if state.kernel_had_events {
            return (self.epoll.state.yield_to_contenders(state, nap), Ok(()));
        }
        // A member that cannot be parked may wait for something on its socket, as an answer of
        // the server: the kernel is asked all the same.
        let may_sleep = state.park_all() && !self.is_interrupted;
        state.sleeping += 1;
        drop(state);
        let left_ns = if may_sleep { left_ns(self.deadline_ns) } else { Some(0) };
        let woken = signals::let_in(|| Private::wait(private, left_ns, self.mask));
        let mut state = self.epoll.state.lock();
        state.sleeping -= 1;
        self.is_interrupted |= woken.is_err();
        let heard = woken.unwrap_or_else(|_| state.ask_private(Some(0), null()));
        let heard = heard.map(|news| {
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
                if pace::kernel_is_due(asked_ns, now_ns) {
                    asked_ns = now_ns;
                    let news = state.ask_private(Some(0), null());
                    heard = news.ok().filter(News::has_some);
                }
                is_wanted = self.epoll.state.has_contenders() || signals::is_waiting();
                heard.is_some() || is_wanted
            };
            policy.spin(|| state.has_news(), interrupt) == SpinEnd::Won
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
