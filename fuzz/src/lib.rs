//! What the fuzz targets do with an input; `README.md` says what each asserts.
//!
//! It is a library so that `cargo test` can replay the corpora without libFuzzer.

mod input;
mod process;
mod resp;

pub mod attach;
pub mod channel;
pub mod frames;
pub mod handshake;
pub mod hostile_peer;
pub mod moving;
pub mod offer;
pub mod resp_reader;
pub mod ring_oracle;
pub mod vfd;

/// What a fuzz target does with an input.
pub type Target = fn(&[u8]);

/// The fuzz targets by name.
pub const TARGETS: [(&str, Target); 10] = [
    ("attach", attach::run),
    ("channel", channel::run),
    ("frames", frames::run),
    ("handshake", handshake::run),
    ("hostile_peer", hostile_peer::run),
    ("moving", moving::run),
    ("offer", offer::run),
    ("resp_reader", resp_reader::run),
    ("ring_oracle", ring_oracle::run),
    ("vfd", vfd::run),
];
