//! What is done before the program begins, and when it exits.
#![allow(unsafe_code)]

use crate::{alloc, real, report, settings, table};

/// Called by the dynamic linker once all libraries are there.
extern "C" fn initialise() {
    alloc::prepare();
    real::resolve_all();
    report::prepare(settings::read());
    if settings::get().is_some() {
        table::prepare();
        leave_io_uring();
    }
}

// The section holds pointers to such functions.
#[used]
#[cfg(not(test))]
#[unsafe(link_section = ".init_array")]
static INITIALISE: extern "C" fn() = initialise;

/// libuv registers sockets in its epoll instance by io_uring, where that is new enough,
/// which is not seen: such a connection would stay on its socket. This is its switch.
fn leave_io_uring() {
    // SAFETY: two C strings, before the program has a thread.
    unsafe { libc::setenv(c"UV_USE_IO_URING".as_ptr(), c"0".as_ptr(), 0) };
}

/// Called at `exit(3)`.
extern "C" fn finish() {
    report::print();
}

#[used]
#[cfg(not(test))]
#[unsafe(link_section = ".fini_array")]
static FINISH: extern "C" fn() = finish;
