//! What is done before the program begins.
#![allow(unsafe_code)]

use crate::{settings, table};

/// Called by the dynamic linker once all libraries are there.
extern "C" fn initialise() {
    settings::read();
    if settings::get().is_some() {
        table::prepare();
    }
}

// The section holds pointers to such functions.
#[used]
#[cfg(not(test))]
#[unsafe(link_section = ".init_array")]
static INITIALISE: extern "C" fn() = initialise;
