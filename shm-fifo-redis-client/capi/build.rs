//! Names the shared library as the dynamic linker knows it.

/// Changes when a program that was linked against an older one would not run any more.
const ABI: u32 = 0;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libshm_fifo_redis.so.{ABI}");
    // Contexts that have moved call functions of it, also once the plugin that moved them,
    // and brought the library, is unloaded.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
