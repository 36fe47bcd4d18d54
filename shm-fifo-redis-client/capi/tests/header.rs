//! The header that is committed is the one the sources give.

use std::fs;
use std::path::Path;

/// Set, it lets the test write the header instead of comparing it.
const UPDATE: &str = "SHM_FIFO_UPDATE_HEADERS";

fn check(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, expected).expect("the header can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == expected,
        "{name} is not what the sources give; run {UPDATE}=1 cargo test -p \
         shm-fifo-redis-capi --test header and look at the difference"
    );
}

#[test]
fn the_header_is_made_of_the_sources() {
    let directory = env!("CARGO_MANIFEST_DIR");
    let header = cbindgen::generate(directory).expect("cbindgen understands the sources");
    let mut text = Vec::new();
    header.write(&mut text);
    check("include/shm_fifo_redis.h", &String::from_utf8(text).expect("a header is text"));
}

/// The two libraries differ in their names; so do the two headers.
#[test]
fn the_header_for_libvalkey_is_the_twin_of_that_for_hiredis() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/shm_fifo_hiredis.h");
    let hiredis = fs::read_to_string(path).expect("the header for hiredis is there");
    check("include/shm_fifo_libvalkey.h", &twin(&hiredis));
}

#[test]
fn the_example_for_libvalkey_is_the_twin_of_that_for_hiredis() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hiredis.c");
    let hiredis = fs::read_to_string(path).expect("the example for hiredis is there");
    check("examples/libvalkey.c", &twin(&hiredis));
}

fn twin(hiredis: &str) -> String {
    let mut text = hiredis
        .replace("SHM_FIFO_HIREDIS", "SHM_FIFO_LIBVALKEY")
        .replace("shm_fifo_hiredis", "shm_fifo_libvalkey")
        .replace("<hiredis/hiredis.h>", "<valkey/valkey.h>")
        .replace("<hiredis/async.h>", "<valkey/async.h>")
        .replace("HIREDIS_MAJOR < 1", "LIBVALKEY_VERSION_MAJOR < 0")
        .replace("hiredis 1.0 or newer", "libvalkey")
        .replace("hiredis", "libvalkey");
    for (redis, valkey) in [(" REDIS_", " VALKEY_"), ("(REDIS_", "(VALKEY_")] {
        text = text.replace(redis, valkey);
    }
    // Names of types and functions: `redis` and a capital letter.
    let mut twin = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("redis") {
        let (before, from) = rest.split_at(at);
        let is_name = from["redis".len()..].starts_with(|next: char| next.is_ascii_uppercase());
        twin.push_str(before);
        twin.push_str(if is_name { "valkey" } else { "redis" });
        rest = &from["redis".len()..];
    }
    twin + rest
}
