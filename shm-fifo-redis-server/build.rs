//! Link options of the module.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A thread may be inside a hook while the server unloads the module.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // An undefined symbol fails here, not when a server loads the module.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,defs");
}
