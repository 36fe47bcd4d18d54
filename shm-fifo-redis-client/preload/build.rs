//! Links the library so that it needs the C library and nothing else: link/libc.so.

use std::env;

fn main() {
    let package = env::var("CARGO_MANIFEST_DIR").expect("cargo names the package's directory");
    println!("cargo:rerun-if-changed=link");
    println!("cargo:rustc-cdylib-link-arg=-L{package}/link");
}
