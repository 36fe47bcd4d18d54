//! Link options of the module.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    // A thread may be inside a hook while the server unloads the module.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // The server is to see the two functions that it calls, and not the marks that the linker
    // makes around each list of a dependency. Zig's linker, by which packages are made, cannot
    // hide them; nobody meets them, as servers load modules with RTLD_LOCAL.
    let is_zig = env::var("RUSTC_LINKER").is_ok_and(|linker| linker.contains("zigcc"));
    if !is_zig {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,start-stop-visibility=hidden");
    }
    // An undefined symbol fails here, not when a server loads the module.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,defs");
}
