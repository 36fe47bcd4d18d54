//! Threads that have slept in the program's instance alone since before it watched a
//! connection that has moved: an event calls them.

use super::Epoll;
use super::members::State;
use crate::sys;
use libc::epoll_event;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::SeqCst;

/// What wakes who sleeps in the program's own instance.
const CALL: u32 = libc::EPOLLOUT.cast_unsigned();

/// How they are called.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// By this descriptor at the moment.
    by: Option<RawFd>,
    /// The program's data that such events had.
    data: Vec<u64>,
    /// How many threads may still come with such an event.
    called: u32,
}

impl Epoll {
    /// Threads sleep in the program's instance alone, since before it watched a connection
    /// that has moved. They are woken by an event of that very connection: its socket can
    /// always be written to.
    pub(super) fn call_strangers(&self, state: &mut State, fd: RawFd, data: u64) {
        // ORDERING, SeqCst: pairs with `wait_outside`. Who comes later sees the member.
        self.members.fetch_max(1, SeqCst);
        // Before the call: some are awake before it returns, and count as called.
        let sleepers = self.sleepers_outside();
        if sleepers == 0 || state.call.by.is_some() {
            return;
        }
        let event = epoll_event { events: CALL, u64: data };
        if sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_ADD, fd, Some(event)).is_ok() {
            state.call.by = Some(fd);
            state.call.data.push(data);
            state.call.called = sleepers;
        }
    }

    /// `fd` is not to be called by any more: it is the program's to be told of there, or gone.
    pub(super) fn call_by_another(&self, state: &mut State, fd: RawFd) {
        if state.call.by == Some(fd) {
            self.end_call(state);
            if let Some((other, data)) = state.one_of_ours_but(fd) {
                self.call_strangers(state, other, data);
            }
        }
    }

    pub(super) fn end_call(&self, state: &mut State) {
        if let Some(fd) = state.call.by.take() {
            sys::epoll_ctl(self.epfd(), libc::EPOLL_CTL_DEL, fd, None).ok();
        }
    }

    /// A thread that waits in the program's instance alone was told of these there. To be called
    /// before it counts as one that does so no more: what it was told of does not move until then.
    pub(crate) fn told_outside(&self, events: &[epoll_event]) {
        if self.members.load(SeqCst) > 0 {
            self.state.lock().note_one_shots(events);
        }
    }

    /// A thread that slept in the program's instance alone does so no more. It was woken by so
    /// many events, or by none: how many of them are the program's. It waits here from now on.
    pub(crate) fn welcome(&self, events: &mut [epoll_event], count: usize) -> usize {
        let mut state = self.state.lock();
        if self.sleepers_outside() == 0 {
            // The last one. Others may still be on their way to this lock.
            self.end_call(&mut state);
        }
        let count = state.call.leave_out_calls(events, count);
        state.call.called = state.call.called.saturating_sub(1);
        if state.call.called == 0 {
            state.call.data.clear();
        }
        count
    }
}

impl Call {
    /// Whether some are being called at the moment.
    pub(super) fn is_on(&self) -> bool {
        self.by.is_some()
    }

    /// Leaves out the events that were to wake others. How many remain.
    pub(super) fn leave_out_calls(&self, events: &mut [epoll_event], count: usize) -> usize {
        if self.data.is_empty() {
            return count;
        }
        let mut kept = 0;
        for index in 0..count {
            let event = events[index];
            if event.events != CALL || !self.data.contains(&{ event.u64 }) {
                events[kept] = event;
                kept += 1;
            }
        }
        kept
    }
}
