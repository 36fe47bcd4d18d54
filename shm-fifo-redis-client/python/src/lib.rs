//! `shm_fifo_redis._native`: one connection that moves to shared memory, as Python sees it.
//!
//! What a connection says, and when it moves, is decided in Python; the protocol is the Rust
//! client's. In here is what has to be quick or must not hold the interpreter: the bytes, and
//! waiting for them.
#![deny(unsafe_code)]

mod bytes;
mod errors;
mod forks;
mod moving;
mod stream;
mod waiting;

use pyo3::prelude::*;

/// The native half of `shm_fifo_redis`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::forks::forked;
    #[pymodule_export]
    use super::moving::Moving;
    #[pymodule_export]
    use super::stream::Stream;
}
