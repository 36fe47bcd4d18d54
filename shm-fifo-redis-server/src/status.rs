//! What functions that Redis calls return.

use std::ffi::c_int;

/// `REDISMODULE_OK`, of the type that functions return.
pub(crate) const OK: c_int = 0;
/// `REDISMODULE_ERR`.
pub(crate) const ERR: c_int = 1;
