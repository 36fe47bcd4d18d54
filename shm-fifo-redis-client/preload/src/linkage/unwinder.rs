//! No unwinder: it is a library of the C compiler's, which not every process has. A panic
//! of a hook ends the process where it happens, as it would at the boundary to C.

use libc::c_int;

/// There is nobody to catch what is thrown, and no backtrace.
pub(super) extern "C" fn end_of_stack() -> c_int {
    const URC_END_OF_STACK: c_int = 5;
    URC_END_OF_STACK
}

/// Where others unwind through functions of this library, as `pthread_cancel(3)` does, these
/// have nothing to do: they have no such data.
pub(super) extern "C" fn nothing() -> usize {
    0
}

/// Only what was caught can be thrown again.
pub(super) extern "C" fn no_resumption() -> ! {
    std::process::abort()
}
