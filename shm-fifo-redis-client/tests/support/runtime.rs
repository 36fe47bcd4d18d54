//! A runtime that has one thread, and nothing that would need another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Runs `test` on one thread, where a connection that blocks it blocks everything, and
/// fails if the runtime is asked for a second one, to block that instead.
/// What the test returns, servers, ends last: they wait for a connection's end, for
/// which the runtime must run.
pub(crate) fn on_one_thread<Servers>(test: impl AsyncFnOnce() -> Servers + Send + 'static) {
    super::watchdog::watched(|| {
        let threads = Arc::new(AtomicUsize::new(0));
        let started = Arc::clone(&threads);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.on_thread_start(move || _ = started.fetch_add(1, Relaxed));
        let runtime = builder.enable_all().build().unwrap();
        let servers = runtime.block_on(test());
        drop(runtime);
        drop(servers);
        assert_eq!(threads.load(Relaxed), 0, "threads beside that of the runtime");
    });
}
