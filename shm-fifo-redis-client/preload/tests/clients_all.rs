//! More programs of each kind than `clients.rs` has, and servers that people put before
//! Redis or call it from: `make clients-all`.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "support/both_ways.rs"]
mod both_ways;
mod support;

use both_ways::{Program, packages, source};

/// The first of these that is installed; Debian keeps servers out of a user's path.
fn server_program(prefix: &str) -> std::path::PathBuf {
    let found = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].into_iter().find_map(|directory| {
        let mut files = std::fs::read_dir(directory).ok()?.map(|file| file.unwrap().path());
        files.find(|file| file.file_name().unwrap().to_string_lossy().starts_with(prefix))
    });
    found.unwrap_or_else(|| panic!("{prefix} is installed by make clients-all"))
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn redis_py_by_tcp() {
    Program::python("redis_py.py").word("blocking").by_tcp().compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn redis_py_on_asyncio() {
    Program::python("redis_py_asyncio.py").word("asyncio").compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn redis_py_on_asyncio_by_tcp() {
    Program::python("redis_py_asyncio.py").word("asyncio").by_tcp().compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn redis_py_on_uvloop_by_tcp() {
    Program::python("redis_py_asyncio.py").word("uvloop").by_tcp().compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn redis_py_on_gevent() {
    Program::python("redis_py.py").word("gevent").compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn gunicorn() {
    Program::python("gunicorn_app.py").compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn celery() {
    Program::python("celery_worker.py").compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn rq() {
    Program::python("rq_worker.py").compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn valkey_glide() {
    Program::python("valkey_glide.py").by_tcp().compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn ioredis_on_the_systems_node_by_tcp() {
    Program::new("node").with_node(source("node.js")).word("ioredis").by_tcp().compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn node_redis_on_the_systems_node() {
    Program::new("node").with_node(source("node.js")).word("redis").compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn ioredis_on_node_22() {
    Program::node("node22").word("ioredis").compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn node_redis_on_node_24() {
    Program::node("node24").word("redis").compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn nodes_cluster() {
    let node = packages().join("node_modules/node24/bin/node");
    Program::new(node).with_node(source("node_cluster.js")).compare();
}

/// Bun waits by its own system calls, so what it says is all that counts.
#[test]
#[ignore = "needs packages: make clients-all"]
fn buns_own_client() {
    Program::bun("bun").compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn ioredis_on_bun() {
    Program::bun("ioredis").compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn redis_rs_on_tokio_by_tcp() {
    Program::redis_rs().by_tcp().compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn phpredis_by_tcp() {
    Program::new("php").word(source("phpredis.php")).by_tcp().compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn php_fpm_with_persistent_connections() {
    Program::python("php_fpm.py").word(server_program("php-fpm")).compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn redis_rb() {
    Program::new("ruby").word(source("redis_rb.rb")).compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn perls_redis() {
    Program::new("perl").word(source("redis_pm.pl")).compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn perls_redis_by_tcp() {
    Program::new("perl").word(source("redis_pm.pl")).by_tcp().compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn java_by_tcp() {
    Program::new("java").word(source("Jdk.java")).by_tcp().compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn hiredis_on_libevent() {
    Program::compiled("hiredis_libevent.c", &["-lhiredis", "-levent"]).compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn asio_in_four_threads() {
    Program::compiled("asio.cpp", &["-std=c++17", "-pthread"]).compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn haproxy() {
    Program::python("proxies.py").word("haproxy").compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn haproxy_by_tcp() {
    Program::python("proxies.py").word("haproxy").by_tcp().compare();
}

#[test]
#[ignore = "needs packages: make clients-all"]
fn nutcracker() {
    Program::python("proxies.py").word("nutcracker").compare();
}
