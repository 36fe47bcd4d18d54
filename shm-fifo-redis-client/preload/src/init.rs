//! What is done before the program begins, and when it exits.
#![allow(unsafe_code)]

use crate::{alloc, errno, left_alone, real, report, settings, sleeps, table};

/// Called by the dynamic linker once all libraries are there.
extern "C" fn initialise() {
    // A program begins with none.
    errno::untouched_by(prepare);
}

fn prepare() {
    real::resolve_all();
    if left_alone::is_left_alone() {
        return;
    }
    alloc::prepare();
    report::prepare(settings::read());
    if settings::get().is_some() {
        table::prepare();
        sleeps::prepare();
    }
}

// The section holds pointers to such functions.
#[used]
#[cfg(not(test))]
#[unsafe(link_section = ".init_array")]
static INITIALISE: extern "C" fn() = initialise;

/// Called at `exit(3)`.
extern "C" fn finish() {
    report::print();
}

#[used]
#[cfg(not(test))]
#[unsafe(link_section = ".fini_array")]
static FINISH: extern "C" fn() = finish;
