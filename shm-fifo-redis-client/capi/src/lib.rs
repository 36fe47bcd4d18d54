//! The C interface: connections in shared memory, for any program and for contexts of
//! hiredis and libvalkey. The headers in `include/` are made of it: `make headers`.
//!
//! No function here panics, and a panic in what it calls aborts: it never unwinds into C.
#![allow(unsafe_code)]
#![allow(non_camel_case_types, reason = "these are C's names")]

mod connection;
mod context;
mod text;

pub use connection::{
    SHM_FIFO_REDIS_FOREVER, SHM_FIFO_REDIS_NOW, SHM_FIFO_REDIS_READABLE,
    SHM_FIFO_REDIS_REASON_BYTES, SHM_FIFO_REDIS_WRITABLE, shm_fifo_redis, shm_fifo_redis_free,
    shm_fifo_redis_keep, shm_fifo_redis_listen, shm_fifo_redis_move, shm_fifo_redis_outcome,
    shm_fifo_redis_park, shm_fifo_redis_read, shm_fifo_redis_set_wait, shm_fifo_redis_wait_mode,
    shm_fifo_redis_write,
};
pub use context::{
    shm_fifo_redis_context_begin, shm_fifo_redis_context_connection, shm_fifo_redis_context_event,
    shm_fifo_redis_context_free, shm_fifo_redis_context_move, shm_fifo_redis_context_read,
    shm_fifo_redis_context_write, shm_fifo_redis_events, shm_fifo_redis_parts,
};
