//! The times and places by which a thread that waits is shared between rings and the kernel.

/// A connection that was silent for so long is parked although the thread is awake: its peer is
/// to ring, and it costs nothing until that does.
pub const SILENCE_NS: u64 = 2_000_000;

/// For so long nobody is told again of what somebody was told of and is about to read: mostly
/// it has been read by then, and a look would find nothing.
pub const GRACE_NS: u64 = 50_000;

/// The kernel is asked this often while rings keep a thread busy.
const KERNEL_POLL_INTERVAL_NS: u64 = 20_000;

/// Whether it is to be asked again, `asked_ns` being when it was last.
#[must_use]
#[inline]
pub fn kernel_is_due(asked_ns: u64, now_ns: u64) -> bool {
    now_ns.saturating_sub(asked_ns) >= KERNEL_POLL_INTERVAL_NS
}

/// How many of the `places` for events the kernel gets where so many connections are `hot`: some
/// are left to their rings, or busy sockets could starve them.
#[must_use]
#[inline]
pub fn places_for_kernel(places: usize, hot: usize) -> usize {
    places - hot.min(places / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_rings_have_at_least_half_of_the_places_each_if_they_need_them() {
        let places = [(1, 1), (1, 0), (2, 5), (16, 3), (16, 100), (7, 100)];
        let for_kernel = places.map(|(places, hot)| places_for_kernel(places, hot));
        assert_eq!(for_kernel, [1, 1, 1, 13, 8, 4]);
    }
}
