//! Links the library so that it needs the C library and nothing else (link/libc.so), and so that
//! nobody else stands between its own functions.

use std::env;

fn main() {
    let package = env::var("CARGO_MANIFEST_DIR").expect("cargo names the package's directory");
    println!("cargo:rerun-if-changed=link");
    println!("cargo:rustc-cdylib-link-arg=-L{package}/link");
    // What one of these functions calls of the others is its own: also in a program that has a
    // function of that name itself.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
}
