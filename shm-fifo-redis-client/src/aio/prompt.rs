//! A task that goes on by itself, where a runtime would schedule it anew.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// How often one poll polls at most. A future whose turn is over may wake itself so that
/// others have theirs.
const POLLS: usize = 2;

/// A future that is polled again at once if it was woken while it was polled.
///
/// redis-rs reads, then writes, then waits to be woken for the answer. Where the connection
/// waits awake for it, that is at once, and a runtime of several threads would wake another
/// one for it.
#[derive(Debug)]
pub(super) struct Prompt<F> {
    future: Pin<Box<F>>,
    again: Arc<Again>,
    waker: Waker,
}

#[derive(Debug)]
struct Again(Mutex<State>);

#[derive(Debug)]
enum State {
    /// It waits, and this wakes its task.
    Waits(Waker),
    Polled,
    Woken,
}

impl<F: Future> Prompt<F> {
    pub(super) fn new(future: F) -> Self {
        let again = Arc::new(Again(Mutex::new(State::Woken)));
        Self { future: Box::pin(future), waker: Waker::from(Arc::clone(&again)), again }
    }
}

impl<F: Future> Future for Prompt<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, again, waker } = &mut *self;
        for _ in 0..POLLS {
            again.become_as(State::Polled);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(output);
            }
            if again.rest(context.waker()) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Again {
    fn become_as(&self, state: State) -> State {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), state)
    }

    /// Whether it waits now, for `task` to be woken; not if it was woken meanwhile.
    fn rest(&self, task: &Waker) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = matches!(*state, State::Polled);
        if waits {
            *state = State::Waits(task.clone());
        }
        waits
    }
}

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let State::Waits(task) = self.become_as(State::Woken) {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// How often a poll polls, and wakes its own task, if that wakes itself in so many polls.
    fn polls_and_wakes(woken: usize) -> (usize, usize) {
        let wakes = Arc::new(Wakes::default());
        let mut polls = 0;
        let mut prompt = Prompt::new(poll_fn(|context| {
            polls += 1;
            if polls <= woken {
                context.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        let task = Waker::from(Arc::clone(&wakes));
        assert!(Pin::new(&mut prompt).poll(&mut Context::from_waker(&task)).is_pending());
        drop(prompt);
        (polls, wakes.0.load(Relaxed))
    }

    #[test]
    fn who_is_not_woken_waits() {
        assert_eq!(polls_and_wakes(0), (1, 0));
    }

    #[test]
    fn who_is_woken_meanwhile_is_polled_again_at_once() {
        assert_eq!(polls_and_wakes(1), (2, 0));
    }

    #[test]
    fn who_is_woken_again_and_again_lets_others_run() {
        assert_eq!(polls_and_wakes(usize::MAX), (POLLS, 1));
    }

    #[test]
    fn who_is_woken_later_wakes_its_task_once() {
        let (wakes, waker) = (Arc::new(Wakes::default()), Mutex::new(Waker::noop().clone()));
        let mut prompt = Prompt::new(poll_fn(|context| {
            *waker.lock().unwrap() = context.waker().clone();
            Poll::<()>::Pending
        }));
        let task = Waker::from(Arc::clone(&wakes));
        assert!(Pin::new(&mut prompt).poll(&mut Context::from_waker(&task)).is_pending());
        waker.lock().unwrap().wake_by_ref();
        waker.lock().unwrap().wake_by_ref();
        assert_eq!(wakes.0.load(Relaxed), 1);
    }
}
