//! The headers that are committed are those that their sources give. `make headers`
//! writes them.

use cbindgen::{Builder, Config};
use std::fs;
use std::path::{Path, PathBuf};

/// Set, it lets the tests write what they compare.
const UPDATE: &str = "SHM_FIFO_UPDATE_HEADERS";

fn check(name: &str, expected: &str) {
    if std::env::var_os(UPDATE).is_some() {
        fs::write(path(name), expected).expect("it can be written");
    }
    let committed = fs::read_to_string(path(name)).unwrap_or_default();
    assert!(
        committed == expected,
        "{name} is not what its sources give; run make headers and look at the difference"
    );
}

#[test]
fn the_header_is_made_of_the_sources() {
    check("include/shm_fifo_redis.h", &generated(configuration(), &["src/connection.rs"]));
}

#[test]
fn the_header_for_contexts_is_made_of_the_sources() {
    let title = "\
/*
 * What shm_fifo_hiredis.h and shm_fifo_libvalkey.h stand on; not for programs.
 *
 * Made by cbindgen of capi/src/context.rs: do not edit. Licence: MIT OR Apache-2.0.
 */";
    let config = Config {
        header: Some(title.to_owned()),
        include_guard: Some("SHM_FIFO_REDIS_CONTEXT_H".to_owned()),
        includes: vec!["shm_fifo_redis.h".to_owned()],
        sys_includes: vec!["sys/time.h".to_owned()],
        ..configuration()
    };
    let sources = ["src/context.rs", "src/context/parts.rs", "src/context/hooks.rs"];
    check("include/shm_fifo_redis_context.h", &generated(config, &sources));
}

#[test]
fn the_header_for_hiredis_is_made_of_its_template() {
    check("include/shm_fifo_hiredis.h", &section("hiredis", &read("src/context.h.in")));
}

#[test]
fn the_header_for_libvalkey_is_made_of_the_same_template() {
    let header = renamed(&section("libvalkey", &read("src/context.h.in")));
    check("include/shm_fifo_libvalkey.h", &header);
}

#[test]
fn the_example_for_libvalkey_is_the_twin_of_that_for_hiredis() {
    check("examples/libvalkey.c", &renamed(&read("examples/hiredis.c")));
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).expect("it is there")
}

fn configuration() -> Config {
    Config::from_file(path("cbindgen.toml")).expect("cbindgen understands its configuration")
}

/// What cbindgen makes of these files.
fn generated(config: Config, sources: &[&str]) -> String {
    let builder = sources.iter().fold(Builder::new(), |builder, name| builder.with_src(path(name)));
    let header = builder.with_config(config).generate().expect("cbindgen understands the sources");
    let mut text = Vec::new();
    header.write(&mut text);
    String::from_utf8(text).expect("a header is text")
}

/// The lines that are for all, and those between `@if library` and the next `@`.
fn section(library: &str, template: &str) -> String {
    let mut is_wanted = true;
    let mut lines = String::new();
    for line in template.lines() {
        match line.strip_prefix('@') {
            Some(directive) => {
                is_wanted = directive == "end" || directive == format!("if {library}");
            }
            None if is_wanted => lines += &format!("{line}\n"),
            None => {}
        }
    }
    lines
}

/// hiredis' names as libvalkey has them.
fn renamed(hiredis: &str) -> String {
    let mut text = hiredis
        .replace("hiredis", "libvalkey")
        .replace("HIREDIS", "LIBVALKEY")
        .replace("<libvalkey/libvalkey.h>", "<valkey/valkey.h>")
        .replace("<libvalkey/async.h>", "<valkey/async.h>");
    for before in [' ', '(', '!'] {
        text = text.replace(&format!("{before}REDIS_"), &format!("{before}VALKEY_"));
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
