//! `redis-shm latency --compare`. Needs redis-server and the module: `SHM_FIFO_MODULE`
//! names it, as `make test` does.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::process::{Command, Stdio};
use support::latency::{PROGRAM, figure, pairs, run, run_well};
use support::module::module;
use support::redis_server::RedisServer;
use support::watchdog::watched;

fn with_module(options: &[&str]) -> RedisServer {
    let module = module();
    RedisServer::start(&[&["--loadmodule", module.to_str().unwrap()], options].concat())
}

fn port(server: &RedisServer) -> String {
    server.tcp_address().rsplit_once(':').unwrap().1.to_owned()
}

fn compare(addresses: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["latency", "--compare", "--samples", "200"]).args(addresses);
    command.stdin(Stdio::null()).env_remove("REDISCLI_AUTH");
    command
}

#[test]
fn redis_compare_finds_all_transports_from_one_address() {
    watched(|| {
        let server = with_module(&[]);
        let (path, port) = (server.path(), port(&server));
        for addresses in [&["-s", &path][..], &["-p", &port], &["-s", &path, "-p", &port]] {
            let stdout = run_well(&mut compare(addresses));
            let lines: Vec<&str> = stdout.lines().collect();
            let transports: Vec<_> = lines.iter().map(|line| pairs(line)[0].1).collect();
            assert_eq!(transports, ["tcp", "unix", "shm"], "{addresses:?}");
            assert!(lines.iter().all(|line| figure(line, "samples") == 200.0), "{stdout}");
            let shm_us = figure(lines[2], "p50_us");
            for line in lines {
                let factor = figure(line, "p50_us") / shm_us;
                assert!((factor / figure(line, "p50_by_shm") - 1.0).abs() < 0.01, "{line}");
            }
        }
    });
}

#[test]
fn redis_compare_says_which_socket_is_not_there() {
    watched(|| {
        let server = with_module(&["--port", "0"]);
        let (code, stdout, stderr) = run(&mut compare(&["-s", &server.path()]));
        assert_eq!((code, stdout.lines().count()), (Some(0), 2), "{stderr}");
        assert!(stderr.contains("without tcp: the server listens on no TCP port"), "{stderr}");
        let server = with_module(&["--unixsocket", ""]);
        let (code, stdout, stderr) = run(&mut compare(&["-p", &port(&server)]));
        assert_eq!((code, stdout.lines().count()), (Some(0), 2), "{stderr}");
        assert!(stderr.contains("without unix: the server has no unix socket"), "{stderr}");
    });
}

#[test]
fn redis_compare_that_may_not_ask_says_what_to_name() {
    watched(|| {
        let user = ["--user", "asks", "on", ">pw", "~*", "+@all", "-config"];
        let server = with_module(&user);
        let login = ["--user", "asks", "-a", "pw"];
        let (code, _, stderr) = run(compare(&["-s", &server.path()]).args(login));
        assert_eq!(code, Some(2));
        assert!(
            stderr.contains("-s PATH -h HOST -p PORT") && stderr.contains("no permissions"),
            "{stderr}"
        );
        run_well(compare(&["-s", &server.path(), "-p", &port(&server)]).args(login));
    });
}

#[test]
fn redis_compare_without_the_module_is_a_no_with_its_reason() {
    watched(|| {
        let server = RedisServer::start(&[]);
        let (code, stdout, stderr) = run(&mut compare(&["-s", &server.path()]));
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains("does not have the shm module"), "{stderr}");
    });
}
