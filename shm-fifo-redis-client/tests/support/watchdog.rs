//! Ends a test that hangs.

use std::sync::mpsc;
use std::time::Duration;

/// Far beyond what any test takes on a busy machine.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Runs `test`, and fails if it hangs.
pub(crate) fn watched(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        // Nobody listens only if the watchdog has bitten.
        let _ = done.send(());
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(WATCHDOG) {
        panic!("the test hangs");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
