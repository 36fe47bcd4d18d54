//! The module, and a real Redis that has it.

use super::cli::PROGRAM;
use super::redis_server::RedisServer;
use std::path::{Path, PathBuf};

/// As `redis-shm` finds it: `SHM_FIFO_MODULE` names it, or it was built beside the program.
pub(crate) fn module() -> PathBuf {
    let beside = Path::new(PROGRAM).with_file_name("libshm_fifo_redis_server.so");
    let module = std::env::var_os("SHM_FIFO_MODULE").map_or(beside, PathBuf::from);
    module.canonicalize().unwrap_or_else(|error| {
        panic!("no module at {}: {error}; make test builds it", module.display())
    })
}

impl RedisServer {
    /// As [`Self::start`], with the module and its settings.
    pub(crate) fn with_module(settings: &[&str]) -> Self {
        let module = module();
        Self::start(&[&["--loadmodule", module.to_str().unwrap()], settings].concat())
    }
}
