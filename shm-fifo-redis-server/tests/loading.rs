//! What is loaded, and with what words.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use std::fs;
use std::process::Command;
use support::{ServerOptions, module_path};

#[test]
fn arguments_are_quoted_whatever_is_in_them() {
    let mut server = ServerOptions::default().without_module().start();
    let path = module_path();
    let path = path.to_str().unwrap().as_bytes();
    let arguments: [&[&[u8]]; 6] = [
        &[b"%s%s%s%s%s%s", b"1"],
        &[b"%n%n%n%n", b"1"],
        &[b"max-sessions", b"%s%n"],
        &[b"ring\0bytes", b"1"],
        &[b"max-sessions", b"\0"],
        &[b"a line\nof its own"],
    ];
    for arguments in arguments {
        let words = [&[&b"MODULE"[..], b"LOAD", path], arguments].concat();
        let reply = server.ask_words(&words);
        assert!(reply.starts_with("-ERR"), "{reply}");
        server.assert_alive();
    }
    let log = server.log();
    for quoted in ["there is no setting \"%s%s%s%s%s%s\"", "\"ring?bytes\"", "a line?of its own"] {
        assert!(log.contains(quoted), "{log}");
    }
    assert_eq!(server.load_module(), "+OK\r\n");
}

#[test]
fn a_second_time_is_refused_and_the_log_says_why() {
    let mut server = ServerOptions::default().start();
    assert!(server.load_module().starts_with("-ERR"));
    let log = server.log();
    assert!(log.contains("not loaded: a module shm is loaded already"), "{log}");
    server.assert_alive();
    server.shm().assert_answers();
}

#[test]
fn the_module_exports_the_two_functions_that_the_server_calls() {
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(module_path()).output();
    let listed = String::from_utf8(output.expect("nm, of binutils").stdout).unwrap();
    let names: Vec<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(names, ["RedisModule_OnLoad", "RedisModule_OnUnload"]);
}

#[test]
fn a_new_file_at_the_path_of_the_old_one_is_not_said_to_be_loaded() {
    let server = ServerOptions::default().without_module().start();
    let path = server.file("module.so");
    let load = |name: &str| server.ask(&format!("MODULE LOAD {}", server.file(name).display()));
    fs::copy(module_path(), &path).unwrap();
    for _ in 0..2 {
        assert_eq!(load("module.so"), "+OK\r\n");
        assert_eq!(server.ask("MODULE UNLOAD shm"), "+OK\r\n");
    }

    // As package managers do: another file with the old one's name.
    fs::copy(module_path(), server.file("new.so")).unwrap();
    fs::rename(server.file("new.so"), &path).unwrap();

    assert!(load("module.so").starts_with("-ERR"));
    let log = server.log();
    assert!(log.contains("is no longer the file that was loaded first"), "{log}");
    // The way out.
    fs::copy(&path, server.file("module-2.so")).unwrap();
    assert_eq!(load("module-2.so"), "+OK\r\n");
    server.shm().assert_answers();
}

#[test]
fn a_connection_that_was_made_before_any_module_moves_with_the_one_that_came_later() {
    let server = ServerOptions::default().without_module().start();
    let mut wires: Vec<_> = (0..20).map(|_| server.plain()).collect();
    wires.iter_mut().for_each(support::Wire::assert_answers);
    assert_eq!(server.load_module(), "+OK\r\n");
    for wire in wires {
        wire.into_shm().assert_answers();
    }
}
