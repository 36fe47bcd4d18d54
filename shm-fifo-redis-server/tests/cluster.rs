//! Redis Cluster through redis-rs, each node on this host by shared memory.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::{AsyncCommands, Commands};
use shm_fifo_redis_client::cluster;
use std::process::Command;
use support::{Cluster, ServerOptions, needs};

#[test]
fn every_node_on_this_host_is_reached_by_shared_memory() {
    needs!(ClusterPort);
    let cluster = Cluster::start();
    let mut connection = cluster::get_connection(&cluster.client()).unwrap();
    for number in 0..300 {
        let _: () = connection.set(format!("key:{number}"), number).unwrap();
    }
    for number in 0..300 {
        assert_eq!(connection.get::<_, u32>(format!("key:{number}")).unwrap(), number);
    }
    let everywhere: Vec<String> = connection.keys("*").unwrap();
    assert_eq!(everywhere.len(), 300);
    assert_eq!(cluster.sessions(), [1, 1, 1]);
    assert!(cluster.nodes.iter().all(|node| node.ask("DBSIZE") != ":0\r\n"));
}

#[test]
fn a_node_without_the_module_is_reached_by_its_socket() {
    needs!(ClusterPort);
    let cluster = Cluster::start_with(|number| match number {
        1 => ServerOptions::default().without_module(),
        _ => ServerOptions::default(),
    });
    let mut connection = cluster::get_connection(&cluster.client()).unwrap();
    for number in 0..100 {
        let _: () = connection.set(format!("key:{number}"), number).unwrap();
    }
    assert_eq!(cluster.nodes[0].info("shm_sessions"), 1);
    assert_ne!(cluster.nodes[1].ask("DBSIZE"), ":0\r\n");
    assert_eq!(cluster.nodes[2].info("shm_sessions"), 1);
}

/// A network namespace of its own, with a cable to this one.
struct Elsewhere {
    name: String,
}

const HERE: &str = "10.213.77.1";
const THERE: &str = "10.213.77.2";

impl Elsewhere {
    fn new() -> Self {
        let name = format!("shmfifo{}", std::process::id());
        let (near, far) =
            (format!("sfa{}", std::process::id()), format!("sfb{}", std::process::id()));
        ip(&format!("netns add {name}"));
        let elsewhere = Self { name };
        let name = &elsewhere.name;
        ip(&format!("link add {near} type veth peer name {far} netns {name}"));
        ip(&format!("addr add {HERE}/30 dev {near}"));
        ip(&format!("link set {near} up"));
        ip(&format!("-n {name} addr add {THERE}/30 dev {far}"));
        ip(&format!("-n {name} link set {far} up"));
        ip(&format!("-n {name} link set lo up"));
        elsewhere
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // The cable goes with it.
        let deleted = Command::new("ip").args(["netns", "del", &self.name]).status();
        assert!(deleted.is_ok() || std::thread::panicking());
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    let status = status.expect("ip starts; install it (Debian, Ubuntu: apt-get install iproute2)");
    assert!(status.success(), "ip {arguments}: {status}; this test needs root");
}

#[test]
#[ignore = "makes a network namespace, for which it must be root: make test-netns"]
fn a_node_on_another_network_is_reached_by_tcp_and_the_others_by_shared_memory() {
    needs!(ClusterPort);
    let elsewhere = Elsewhere::new();
    let open = |host: &str| {
        ServerOptions::default().args(&["--bind", "127.0.0.1", host, "--protected-mode", "no"])
    };
    let hosts = [HERE, HERE, THERE].map(str::to_owned);
    let cluster = Cluster::start_on(hosts, |number| match number {
        2 => open(THERE).within(&["ip", "netns", "exec", &elsewhere.name]),
        _ => open(HERE),
    });
    let mut connection = cluster::get_connection(&cluster.client()).unwrap();
    for number in 0..300 {
        let _: () = connection.set(format!("key:{number}"), number).unwrap();
    }
    for number in 0..300 {
        assert_eq!(connection.get::<_, u32>(format!("key:{number}")).unwrap(), number);
    }
    assert!(cluster.nodes.iter().all(|node| node.ask("DBSIZE") != ":0\r\n"));
    assert_eq!(cluster.sessions(), [1, 1, 0]);
}

#[test]
fn a_slot_that_moves_is_followed() {
    needs!(ClusterPort);
    let cluster = Cluster::start();
    let mut connection = cluster::get_connection(&cluster.client()).unwrap();
    let _: () = connection.set("a", 1).unwrap();
    // The slot of "a" is 15495, of the last node; the first takes it over.
    let (from, to) = (&cluster.nodes[2], &cluster.nodes[0]);
    cluster.open_slot(15495, from, to);
    assert!(cluster.move_keys(15495, from, to));
    // ASK, while it moves.
    assert_eq!(connection.get::<_, u32>("a").unwrap(), 1);
    cluster.close_slot(15495, to);
    // MOVED, afterwards.
    assert_eq!(connection.get::<_, u32>("a").unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asynchronous_connections_reach_every_node_by_shared_memory_too() {
    needs!(ClusterPort);
    let cluster = Cluster::start();
    let mut connection = cluster::get_async_connection(&cluster.client()).await.unwrap();
    for number in 0..300 {
        let _: () = connection.set(format!("key:{number}"), number).await.unwrap();
    }
    for number in 0..300 {
        assert_eq!(connection.get::<_, u32>(format!("key:{number}")).await.unwrap(), number);
    }
    assert_eq!(cluster.sessions(), [1, 1, 1]);
}
