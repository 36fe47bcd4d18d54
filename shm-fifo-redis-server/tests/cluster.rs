//! Redis Cluster and Sentinel through redis-rs, each node on this host by shared
//! memory.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::sentinel::Sentinel;
use redis::{AsyncCommands, Commands, cmd};
use shm_fifo_redis_client::{Client, Transport, cluster};
use std::net::TcpListener;
use std::process::Command;
use support::{PATIENCE, ServerOptions, TestServer, needs, wait_until};

const NODES: u32 = 3;
const SLOTS: u32 = 16384;

/// Three masters that know each other.
struct Cluster {
    nodes: Vec<TestServer>,
    /// Where each of them is.
    hosts: [String; NODES as usize],
}

impl Cluster {
    fn start(node: impl Fn(u32) -> ServerOptions) -> Self {
        Self::start_on(["127.0.0.1"; 3].map(str::to_owned), node)
    }

    fn start_on(hosts: [String; NODES as usize], node: impl Fn(u32) -> ServerOptions) -> Self {
        let nodes: Vec<_> = (0..NODES).map(|number| node(number).start()).collect();
        for (number, node) in (0..).zip(&nodes) {
            let (first, last) = (number * SLOTS / NODES, (number + 1) * SLOTS / NODES - 1);
            assert_eq!(node.ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")), "+OK\r\n");
        }
        for (node, host) in nodes.iter().zip(&hosts).skip(1) {
            let bus = node.ask("CONFIG GET cluster-port");
            let bus = bus.lines().last().unwrap();
            let meet = format!("CLUSTER MEET {host} {} {bus}", node.port());
            assert_eq!(nodes[0].ask(&meet), "+OK\r\n");
        }
        for node in &nodes {
            wait_until("the node knows all slots", || {
                let info = node.ask("CLUSTER INFO");
                info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
            });
        }
        Self { nodes, hosts }
    }

    fn client(&self) -> ClusterClient {
        let address =
            |(node, host): (&TestServer, &String)| format!("redis://{host}:{}", node.port());
        ClusterClientBuilder::new(self.nodes.iter().zip(&self.hosts).map(address))
            .connection_timeout(PATIENCE)
            .response_timeout(PATIENCE)
            .build()
            .unwrap()
    }

    /// Of each node, how many connections it has in shared memory.
    fn sessions(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.info("shm_sessions")).collect()
    }
}

fn node() -> ServerOptions {
    // By default it is 10000 above the port, which may not exist.
    let bus = free_port();
    ServerOptions::default().args(&["--cluster-enabled", "yes", "--cluster-port", &bus])
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

#[test]
fn every_node_on_this_host_is_reached_by_shared_memory() {
    needs!(ClusterPort);
    let cluster = Cluster::start(|_| node());
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
    let cluster =
        Cluster::start(|number| if number == 1 { node().without_module() } else { node() });
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
        let bus = free_port();
        ServerOptions::default().args(&[
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus,
            "--bind",
            "127.0.0.1",
            host,
            "--protected-mode",
            "no",
        ])
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
    let cluster = Cluster::start(|_| node());
    let mut connection = cluster::get_connection(&cluster.client()).unwrap();
    let _: () = connection.set("a", 1).unwrap();
    // The slot of "a" is 15495, of the last node; the first takes it over.
    let id = cluster.nodes[0].ask("CLUSTER MYID");
    let id = id.lines().last().unwrap();
    let port = cluster.nodes[0].port();
    for node in [&cluster.nodes[0], &cluster.nodes[2]] {
        let (state, peer) = if std::ptr::eq(node, &cluster.nodes[0]) {
            ("IMPORTING", cluster.nodes[2].ask("CLUSTER MYID").lines().last().unwrap().to_owned())
        } else {
            ("MIGRATING", id.to_owned())
        };
        assert_eq!(node.ask(&format!("CLUSTER SETSLOT 15495 {state} {peer}")), "+OK\r\n");
    }
    let migrate = format!("MIGRATE 127.0.0.1 {port} a 0 {}", PATIENCE.as_millis());
    assert_eq!(cluster.nodes[2].ask(&migrate), "+OK\r\n");
    // ASK, while it moves.
    assert_eq!(connection.get::<_, u32>("a").unwrap(), 1);
    for node in &cluster.nodes {
        assert_eq!(node.ask(&format!("CLUSTER SETSLOT 15495 NODE {id}")), "+OK\r\n");
    }
    // MOVED, afterwards.
    assert_eq!(connection.get::<_, u32>("a").unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asynchronous_connections_reach_every_node_by_shared_memory_too() {
    needs!(ClusterPort);
    let cluster = Cluster::start(|_| node());
    let mut connection = cluster::get_async_connection(&cluster.client()).await.unwrap();
    for number in 0..300 {
        let _: () = connection.set(format!("key:{number}"), number).await.unwrap();
    }
    for number in 0..300 {
        assert_eq!(connection.get::<_, u32>(format!("key:{number}")).await.unwrap(), number);
    }
    assert_eq!(cluster.sessions(), [1, 1, 1]);
}

#[test]
fn a_master_that_sentinel_names_is_reached_by_shared_memory() {
    let master = TestServer::start();
    let monitor = format!("sentinel monitor mymaster 127.0.0.1 {} 1\n", master.port());
    let sentinel = ServerOptions::default().config(&monitor).args(&["--sentinel"]).start();
    let mut sentinels =
        Sentinel::build(vec![format!("redis://127.0.0.1:{}", sentinel.port())]).unwrap();
    let found = sentinels.master_for("mymaster", None).unwrap();
    let client = Client::open(found.get_connection_info().clone()).unwrap();
    let mut connection = client.connect_timeout(PATIENCE).get_connection().unwrap();
    assert_eq!(connection.transport(), Transport::SharedMemory);
    let role: (String, u64, Vec<String>) = cmd("ROLE").query(&mut connection).unwrap();
    assert_eq!(role.0, "master");
}
