//! `redis-shm doctor` on real servers, with and without the module. Needs
//! redis-server, and the module: `SHM_FIFO_MODULE` names it, as `make test` does.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use serde_json::Value;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use support::cli::{Ended, PROGRAM, in_terminal, redis_shm, run};
use support::redis_server::RedisServer;
use support::watchdog::watched;

const YES: &str = "Shared memory will be used.";

fn doctor(socket: &str, arguments: &[&str]) -> Ended {
    run(redis_shm(&["doctor", "-s", socket]).args(arguments))
}

/// The checks of `--json`, by name.
fn checks(socket: &str, arguments: &[&str]) -> Vec<Value> {
    let ended = doctor(socket, &[arguments, &["--json"]].concat());
    let checks: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap();
    for check in &checks {
        let members = check.as_object().unwrap();
        assert_eq!(members.keys().collect::<Vec<_>>(), ["detail", "fix", "name", "status"]);
        assert_eq!(check["fix"].is_string(), check["status"] != "ok", "{check}");
    }
    checks
}

fn find<'c>(checks: &'c [Value], name: &str) -> &'c Value {
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

fn problems(checks: &[Value]) -> Vec<&str> {
    let problems = checks.iter().filter(|check| check["status"] == "problem");
    problems.map(|check| check["name"].as_str().unwrap()).collect()
}

#[test]
fn redis_with_the_module_is_a_yes_from_either_socket() {
    watched(|| {
        let server = RedisServer::with_module(&[]);
        let port = server.port();
        for place in [["-s", &server.path()], ["-p", &port]] {
            let ended = run(redis_shm(&["doctor"]).args(place));
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
            assert!(ended.stdout.ends_with(&format!("\n{YES}\n")), "{}", ended.stdout);
            assert!(!ended.stdout.contains("problem"), "{}", ended.stdout);
            assert!(ended.stdout.contains("sealed against shrinking"), "{}", ended.stdout);
        }
    });
}

#[test]
fn redis_is_looked_at_from_the_module_to_the_seals_and_nothing_is_left_there() {
    watched(|| {
        let server = RedisServer::with_module(&["ring-bytes", "131072"]);
        let checks = checks(&server.path(), &[]);
        assert_eq!(problems(&checks), [""; 0]);
        let details = [
            ("server", "Redis "),
            ("user", "default"),
            ("module", "shm is loaded, from /"),
            ("protocol", "the same one, version 2"),
            ("permissions", "may run SHM.OPEN and SHM.START"),
            ("settings", "ring-bytes 131072"),
            ("same host", "by unix socket, process "),
            ("region", "two rings of 128 KiB, sealed against shrinking, growing, other seals"),
            ("move", "answered in shared memory"),
            ("kernel", "memfd and seals"),
            ("cores", " online, "),
            ("steal", " % of the CPU time"),
        ];
        for (name, words) in details {
            let detail = find(&checks, name)["detail"].as_str().unwrap();
            assert!(detail.contains(words), "{name}: {detail}");
        }
        let info = server.ask("INFO shm");
        let info: redis::InfoDict = redis::from_redis_value(info).unwrap();
        for gauge in ["shm_sessions", "shm_offers"] {
            assert_eq!(info.get::<u64>(gauge), Some(0), "{gauge}");
        }
    });
}

#[test]
fn redis_without_the_module_is_a_no_that_says_how_to_load_it() {
    watched(|| {
        let server = RedisServer::start(&[]);
        let ended = doctor(&server.path(), &[]);
        assert_eq!(ended.code, Some(1));
        assert!(ended.stdout.contains("problem  module "), "{}", ended.stdout);
        assert!(ended.stdout.contains("→ load it with MODULE LOAD"), "{}", ended.stdout);
        assert!(!ended.stdout.contains(YES), "{}", ended.stdout);
        assert!(ended.stderr.starts_with("redis-shm: the server does not have the shm module; "));
        assert_eq!(problems(&checks(&server.path(), &[])), ["module"]);
    });
}

#[test]
fn redis_that_has_refused_moves_is_said_to_and_why() {
    watched(|| {
        let server = RedisServer::with_module(&["max-sessions", "0"]);
        assert_eq!(find(&checks(&server.path(), &[]), "refusals")["status"], "ok");
        let again = checks(&server.path(), &[]);
        let refusals = find(&again, "refusals");
        assert_eq!(refusals["status"], "note");
        let detail = refusals["detail"].as_str().unwrap();
        assert!(detail.starts_with("1 of 1 requests to move were refused"), "{detail}");
        assert!(refusals["fix"].as_str().unwrap().contains("CONFIG SET shm.max-sessions 10000"));

        server.ask("CONFIG SET shm.max-sessions 10");
        assert_eq!(doctor(&server.path(), &[]).code, Some(0));
    });
}

/// Does what the fix of `name` says.
fn apply_fix(server: &RedisServer, checks: &[Value], name: &str) {
    let fix = find(checks, name)["fix"].as_str().unwrap();
    let command = fix.split(" (").next().unwrap();
    assert_eq!(server.ask(command), redis::Value::Okay, "{fix}");
}

#[test]
fn redis_that_is_switched_off_moves_connections_after_the_fix() {
    watched(|| {
        let server = RedisServer::with_module(&["max-sessions", "0"]);
        let ended = doctor(&server.path(), &[]);
        assert_eq!(ended.code, Some(1), "{}", ended.stdout);
        assert!(ended.stderr.contains("shm.max-sessions is 0"), "{}", ended.stderr);
        let checks = checks(&server.path(), &[]);
        assert_eq!(problems(&checks), ["settings", "move"]);

        apply_fix(&server, &checks, "settings");

        assert_eq!(doctor(&server.path(), &[]).code, Some(0));
    });
}

#[test]
fn redis_users_without_the_permission_move_after_the_fix() {
    for forbidden in ["-shm.open", "-shm.start"] {
        watched(move || {
            let server = RedisServer::with_module(&[]);
            let rule = format!("ACL SETUSER app on >sesame +@all {forbidden}");
            assert_eq!(server.ask(&rule), redis::Value::Okay);
            let user = ["--user", "app", "-a", "sesame"];
            let ended = doctor(&server.path(), &user);
            assert_eq!(ended.code, Some(1), "{}", ended.stdout);
            assert!(ended.stderr.contains("NOPERM"), "{}", ended.stderr);
            let checks = checks(&server.path(), &user);
            assert_eq!(problems(&checks), ["permissions", "move"]);

            apply_fix(&server, &checks, "permissions");

            assert_eq!(doctor(&server.path(), &user).code, Some(0));
        });
    }
}

#[test]
fn redis_that_wants_another_password_leaves_the_question_open() {
    watched(|| {
        let server = RedisServer::with_module(&["--requirepass", "sesame"]);
        let table: [(&[&str], &str); 2] = [(&[], "NOAUTH"), (&["-a", "open"], "WRONGPASS")];
        for (arguments, word) in table {
            let ended = doctor(&server.path(), arguments);
            assert_eq!(ended.code, Some(2), "{}", ended.stdout);
            assert!(ended.stderr.contains(word), "{}", ended.stderr);
            assert_eq!(ended.stderr.matches(word).count(), 1, "{}", ended.stderr);
            let checks = checks(&server.path(), arguments);
            assert_eq!(problems(&checks), ["user"]);
            let fix = find(&checks, "user")["fix"].as_str().unwrap();
            assert!(fix.contains("REDISCLI_AUTH"), "{fix}");
        }
        let with_password =
            run(redis_shm(&["doctor", "-s", &server.path()]).env("REDISCLI_AUTH", "sesame"));
        assert_eq!(with_password.code, Some(0), "{}", with_password.stderr);
    });
}

#[test]
fn nobody_who_listens_leaves_the_question_open_and_this_machine_is_looked_at() {
    watched(|| {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let port = nobody.port().to_string();
        for place in [["-s", "/no/such/redis.sock"], ["-p", &port]] {
            let ended = run(redis_shm(&["doctor"]).args(place));
            assert_eq!(ended.code, Some(2));
            assert!(ended.stderr.starts_with("redis-shm: cannot connect to "), "{}", ended.stderr);
            assert!(ended.stdout.contains("problem  server "), "{}", ended.stdout);
            assert!(ended.stdout.contains("→ start it"), "{}", ended.stdout);
            assert!(ended.stdout.contains("kernel "), "{}", ended.stdout);
        }
    });
}

/// Passes bytes on, and not the descriptors that come with them.
fn relay(listener: &UnixListener, server: &str) {
    for client in listener.incoming() {
        let (client, server) = (client.unwrap(), UnixStream::connect(server).unwrap());
        let pass_on = |mut from: UnixStream, mut to: UnixStream| {
            thread::spawn(move || {
                // An end is an end, however it came.
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
        };
        pass_on(client.try_clone().unwrap(), server.try_clone().unwrap());
        pass_on(server, client);
    }
}

#[test]
fn redis_behind_a_proxy_is_a_no_that_says_so() {
    watched(|| {
        let server = RedisServer::with_module(&[]);
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("proxy.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let behind = server.path();
        thread::spawn(move || relay(&listener, &behind));

        let ended = doctor(socket.to_str().unwrap(), &[]);

        assert_eq!(ended.code, Some(1), "{}", ended.stdout);
        assert!(ended.stdout.contains("problem  move "), "{}", ended.stdout);
        assert!(ended.stdout.contains("→ connect to the server itself"), "{}", ended.stdout);
    });
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    watched(|| {
        let server = RedisServer::with_module(&[]);
        let line = format!("{PROGRAM} doctor -s {}", server.path());
        let ended = run(&mut in_terminal(40, &line));
        assert_eq!(ended.code, Some(0), "{}", ended.stdout);
        assert!(ended.stdout.contains("\x1b[32mok     \x1b[0m  server"), "{:?}", ended.stdout);
        let plain = run(in_terminal(40, &line).env("NO_COLOR", "1"));
        let piped = doctor(&server.path(), &[]);
        for ended in [plain, piped] {
            assert!(ended.stdout.contains(YES), "{}", ended.stdout);
            assert!(!ended.stdout.contains('\x1b'), "{:?}", ended.stdout);
        }
    });
}

#[test]
fn the_answer_does_not_depend_on_who_reads_it() {
    watched(|| {
        let server = RedisServer::start(&[]);
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let ended = run(redis_shm(&["doctor", "-s", &server.path()]).stdout(writer));
        assert_eq!(ended.code, Some(1));
        assert!(!ended.stderr.contains("pipe"), "{}", ended.stderr);
    });
}
