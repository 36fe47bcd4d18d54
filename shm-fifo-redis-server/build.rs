//! Link options of the module.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A thread may be inside a hook while the server unloads the module.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // The server is to see the two functions that it calls, and not the marks that the linker
    // makes around each list of a dependency.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,start-stop-visibility=hidden");
    // An undefined symbol fails here, not when a server loads the module.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,defs");
}
