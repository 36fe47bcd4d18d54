//! A mutex that is held while spinning, and yielded to whoever waits for it.

use std::hint;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many looks at once whether others still wait.
const LOOKS: usize = 200;

/// A mutex for a thread that holds it for long, spinning over what is in it: it sees that others
/// wait, and lets them pass. An ordinary one would mostly be taken again before any of those, who
/// have to be woken, could.
#[derive(Debug, Default)]
pub struct YieldingMutex<T> {
    /// Threads that wait for `value`.
    contenders: AtomicU32,
    value: Mutex<T>,
}

impl<T> YieldingMutex<T> {
    /// One that nobody holds.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self { contenders: AtomicU32::new(0), value: Mutex::new(value) }
    }

    /// Takes it, telling a spinning holder that somebody waits. Whether another one panicked
    /// while holding it makes no difference.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if let Some(held) = self.try_lock() {
            return held;
        }
        // ORDERING, Relaxed: a hint; the mutex orders the value itself.
        self.contenders.fetch_add(1, Relaxed);
        let held = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        self.contenders.fetch_sub(1, Relaxed);
        held
    }

    /// Takes it if nobody holds it, nor has panicked while holding it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.value.try_lock().ok()
    }

    /// Whether other threads wait for it. A hint.
    #[must_use]
    #[inline]
    pub fn has_contenders(&self) -> bool {
        // ORDERING, Relaxed: see `lock`.
        self.contenders.load(Relaxed) > 0
    }

    /// Lets others take it that wait for it, and takes it back: at once where there are none.
    /// `has_patience` is as in [`YieldingMutex::let_contenders_pass`].
    pub fn yield_to_contenders<'a>(
        &'a self,
        held: MutexGuard<'a, T>,
        has_patience: impl FnMut(u32) -> bool,
    ) -> MutexGuard<'a, T> {
        if !self.has_contenders() {
            return held;
        }
        drop(held);
        self.let_contenders_pass(has_patience);
        self.lock()
    }

    /// For whoever has just let go of it: waits until those that waited for it have taken it.
    /// They may take long, having to be woken and given a CPU. So after some microseconds, each
    /// time, `has_patience` says whether to go on; it is told how often it has.
    pub fn let_contenders_pass(&self, mut has_patience: impl FnMut(u32) -> bool) {
        for times in 0.. {
            for _ in 0..LOOKS {
                if !self.has_contenders() {
                    return;
                }
                hint::spin_loop();
            }
            if !has_patience(times) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn whoever_waits_takes_it_before_it_is_taken_back() {
        // Far more than it takes, and not for ever.
        let has_patience = |times| {
            thread::yield_now();
            times < 1_000_000
        };
        let mutex = YieldingMutex::new(0);
        let held = mutex.lock();
        thread::scope(|scope| {
            scope.spawn(|| *mutex.lock() += 1);
            let mut waits = (0..).take_while(|&times| has_patience(times));
            assert!(waits.any(|_| mutex.has_contenders()));

            let held = mutex.yield_to_contenders(held, has_patience);

            assert_eq!(*held, 1);
        });
        assert!(!mutex.has_contenders());
    }

    #[test]
    fn it_is_kept_where_nobody_waits() {
        let mutex = YieldingMutex::new(());
        let held = mutex.yield_to_contenders(mutex.lock(), |_| unreachable!("nobody waits"));
        assert!(mutex.try_lock().is_none());
        drop(held);
        assert!(mutex.try_lock().is_some());
    }

    #[test]
    fn nobody_waits_for_ever_for_those_that_do_not_come() {
        let mutex = YieldingMutex::new(());
        // As one that is stopped by a debugger.
        mutex.contenders.fetch_add(1, Relaxed);
        let mut asked = Vec::new();

        let held = mutex.yield_to_contenders(mutex.lock(), |times| {
            assert!(mutex.try_lock().is_some(), "others can take it");
            asked.push(times);
            times < 2
        });

        assert!(mutex.try_lock().is_none());
        drop(held);
        assert_eq!(asked, [0, 1, 2]);
    }
}
