//! What is said of refusals, by [`Refusal`](super::Refusal) and by the report of the
//! preloaded library.

/// The server does not know `SHM.OPEN`.
pub const NO_MODULE: &str = "the server does not have the shm module";
/// This user may not use the two commands.
pub const NO_PERMISSION: &str =
    "NOPERM for SHM.OPEN or SHM.START; ACL SETUSER ... +shm.open +shm.start allows them";
/// Nobody may, who has not logged in.
pub const NOT_LOGGED_IN: &str = "NOAUTH: the program has not logged in";
/// The server said no, for a reason of its own.
pub const REFUSED: &str = "the server refused shared memory";
/// The server said yes, but no descriptor came.
pub const NO_DESCRIPTOR: &str =
    "the server's file descriptor did not arrive: a proxy or another network is between";
/// What came could not be mapped, or not safely.
pub const NOT_ATTACHED: &str =
    "the shared memory cannot be used here (limits, seccomp, another version)";
