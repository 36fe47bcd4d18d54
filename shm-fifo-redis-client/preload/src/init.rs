//! What is done before the program begins, and when it exits.
#![allow(unsafe_code)]

use crate::{errno, report, settings, table};

/// Called by the dynamic linker once all libraries are there.
extern "C" fn initialise() {
    report::prepare(settings::read());
    if settings::get().is_some() {
        table::prepare();
    }
}

// The section holds pointers to such functions.
#[used]
#[cfg(not(test))]
#[unsafe(link_section = ".init_array")]
static INITIALISE: extern "C" fn() = initialise;

/// Called at `exit(3)`. The kernel sends what was written to a socket even if nobody closes
/// it: so does this.
extern "C" fn finish() {
    if !table::is_empty() && table::is_own_process() {
        errno::untouched(|| table::connections().iter().for_each(|connection| connection.finish()));
    }
    report::print();
}

#[used]
#[cfg(not(test))]
#[unsafe(link_section = ".fini_array")]
static FINISH: extern "C" fn() = finish;
