//! How the server behaves while a connection moves: most often well.

/// What comes of `SHM.OPEN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    Answered,
    AfterMs(u64),
    /// Once so many further requests have come, or some milliseconds have passed.
    AfterRequests(usize),
    InParts,
    AmongPushes,
    Refused(&'static str),
    WithoutDescriptor,
    /// Something that is no region.
    WithAnother(Another),
    Dies,
}

/// A descriptor that comes in place of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Another {
    File,
    Pipe,
    Unsealed,
    TwoRegions,
}

/// What comes of `SHM.START`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Answered,
    AfterMs(u64),
    BehindPushes,
    Refused,
    RefusedAfterMs(u64),
    /// Before it answers.
    Dies,
    /// Once it has answered.
    DiesLater,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) open: Open,
    pub(super) start: Start,
    /// The bytes of each of the rings.
    pub(super) ring_bytes: usize,
}

impl Script {
    /// The script of a connection. `driver/script.h` knows which ones end it.
    pub(super) fn of(seed: u64, id: u64) -> Self {
        let mut random = mix(seed ^ mix(id));
        let mut below = |n: u64| {
            random = mix(random);
            random % n
        };
        let open = match below(24) {
            0 | 1 => Open::AfterMs(below(4)),
            2 | 3 => Open::AfterRequests(usize::try_from(1 + below(4)).unwrap_or(1)),
            4 | 5 => Open::InParts,
            6 => Open::AmongPushes,
            7 => {
                Open::Refused("-NOPERM this user has no permissions to run the 'shm.open' command")
            }
            8 => Open::Refused("-ERR unknown command 'SHM.OPEN', with args beginning with: '2' "),
            9 => Open::Refused("-ERR SHM.OPEN: 64 offers wait for their SHM.START; try again"),
            10 => Open::WithoutDescriptor,
            11 => Open::WithAnother(match below(4) {
                0 => Another::File,
                1 => Another::Pipe,
                2 => Another::Unsealed,
                _ => Another::TwoRegions,
            }),
            12 => Open::Dies,
            _ => Open::Answered,
        };
        let start = match below(20) {
            0 | 1 => Start::AfterMs(below(4)),
            2 | 3 => Start::BehindPushes,
            4 => Start::Refused,
            5 => Start::RefusedAfterMs(below(4)),
            6 => Start::Dies,
            7 => Start::DiesLater,
            _ => Start::Answered,
        };
        let ring_bytes = 4096 << below(6);
        Self { open, start, ring_bytes }
    }
}

/// splitmix64, which the driver has as well.
pub(super) fn mix(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}
