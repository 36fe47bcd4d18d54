//! Whether more threads want to run than there are CPUs, as far as the loop's thread feels it.
//!
//! Where a peer that was woken waits for the very CPU on which the loop runs, the kernel takes
//! the CPU from the loop: an involuntary context switch (getrusage(2)). Now and then that is
//! chance, or two programs that share a CPU by slices of milliseconds. Where it happens many
//! times in a millisecond, a spin is at the expense of the peers that it is to serve.

use crate::os::sys;

/// The switches are counted so often at most.
const LOOK_NS: u64 = 1_000_000;
/// How many in [`LOOK_NS`] are more than slices of milliseconds explain.
const MANY: u64 = 4;
/// For how long that is believed.
const BELIEVED_NS: u64 = 50_000_000;

/// What one loop knows of it.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    seen: Option<Seen>,
    until_ns: u64,
}

/// One thread's switches up to some time: where several wait in one loop, each has its own.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at_ns: u64,
    thread: libc::pid_t,
    switches: u64,
}

impl Crowd {
    /// Whether there is a crowd, as this thread has found within the last 50 ms.
    pub(super) fn is_there(&mut self, now_ns: u64) -> bool {
        let is_due = |seen: Seen| now_ns.saturating_sub(seen.at_ns) >= LOOK_NS;
        if now_ns >= self.until_ns && self.seen.is_none_or(is_due) {
            let (thread, switches) = (sys::thread_id(), sys::involuntary_switches());
            self.look(Seen { at_ns: now_ns, thread, switches });
        }
        now_ns < self.until_ns
    }

    fn look(&mut self, now: Seen) {
        let before = self.seen.replace(now).filter(|before| before.thread == now.thread);
        let Some(before) = before else { return };
        let looks = now.at_ns.saturating_sub(before.at_ns) / LOOK_NS;
        if now.switches.saturating_sub(before.switches) >= MANY * looks.max(1) {
            self.until_ns = now.at_ns + BELIEVED_NS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Whether there is a crowd at the last of these times, in milliseconds, at each of which
    /// so many switches of that thread were counted.
    fn crowd_after(counts: &[(u64, libc::pid_t, u64)]) -> bool {
        let mut crowd = Crowd::default();
        for &(at_ms, thread, switches) in counts {
            crowd.look(Seen { at_ns: at_ms * MS, thread, switches });
        }
        counts.last().is_some_and(|&(at_ms, ..)| at_ms * MS < crowd.until_ns)
    }

    #[test]
    fn many_switches_in_a_millisecond_are_a_crowd() {
        assert!(crowd_after(&[(1, 7, 100), (2, 7, 104)]));
        assert!(!crowd_after(&[(1, 7, 100), (2, 7, 103)]));
    }

    #[test]
    fn the_same_number_in_a_longer_time_is_none() {
        assert!(!crowd_after(&[(1, 7, 100), (11, 7, 139)]));
        assert!(crowd_after(&[(1, 7, 100), (11, 7, 140)]));
    }

    #[test]
    fn what_happened_before_the_first_look_or_to_another_thread_does_not_count() {
        assert!(!crowd_after(&[(1, 7, 100)]));
        assert!(!crowd_after(&[(1, 7, 0), (2, 8, 100)]));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no getrusage")]
    fn it_is_believed_for_a_while_without_another_look() {
        let mut crowd = Crowd { seen: None, until_ns: 60 * MS };
        assert!(crowd.is_there(59 * MS) && crowd.seen.is_none());
        assert!(!crowd.is_there(60 * MS) && crowd.seen.is_some());
    }
}
