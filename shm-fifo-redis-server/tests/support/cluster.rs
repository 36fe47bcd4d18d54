//! A Redis Cluster of a test's own.

use super::{PATIENCE, ServerOptions, TestServer, wait_until};
use redis::cluster::{ClusterClient, ClusterClientBuilder};

const NODES: u32 = 3;
const SLOTS: u32 = 16384;
/// Keys that move at a time.
const KEYS_A_BATCH: usize = 5;

/// Three masters that know each other.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<TestServer>,
    /// Where each of them is.
    hosts: [String; NODES as usize],
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| ServerOptions::default())
    }

    pub(crate) fn start_with(node: impl Fn(u32) -> ServerOptions) -> Self {
        Self::start_on(["127.0.0.1"; 3].map(str::to_owned), node)
    }

    pub(crate) fn start_on(
        hosts: [String; NODES as usize],
        node: impl Fn(u32) -> ServerOptions,
    ) -> Self {
        let nodes: Vec<_> = (0..NODES).map(|number| node(number).cluster_node().start()).collect();
        for (number, node) in (0..).zip(&nodes) {
            let (first, last) = (number * SLOTS / NODES, (number + 1) * SLOTS / NODES - 1);
            assert_eq!(node.ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")), "+OK\r\n");
            // Otherwise the nodes settle later who comes first, and one may take a slot back.
            let set_epoch = format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1);
            assert_eq!(node.ask(&set_epoch), "+OK\r\n");
        }
        for (node, host) in nodes.iter().zip(&hosts).skip(1) {
            meet(&nodes[0], node, host);
        }
        for node in &nodes {
            wait_until("the node knows all slots", || {
                let info = node.ask("CLUSTER INFO");
                info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
            });
        }
        Self { nodes, hosts }
    }

    pub(crate) fn client(&self) -> ClusterClient {
        let address =
            |(node, host): (&TestServer, &String)| format!("redis://{host}:{}", node.port());
        ClusterClientBuilder::new(self.nodes.iter().zip(&self.hosts).map(address))
            .connection_timeout(PATIENCE)
            .response_timeout(PATIENCE)
            .build()
            .unwrap()
    }

    /// Of each node, how many connections it has in shared memory.
    pub(crate) fn sessions(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.info("shm_sessions")).collect()
    }

    /// A new node that is the replica of `master`.
    pub(crate) fn replica_of(&self, master: &TestServer) -> TestServer {
        let replica = ServerOptions::default().cluster_node().start();
        meet(master, &replica, "127.0.0.1");
        let id = id_of(master);
        wait_until("they have met", || replica.ask("CLUSTER NODES").contains(&id));
        assert_eq!(replica.ask(&format!("CLUSTER REPLICATE {id}")), "+OK\r\n");
        self.wait_for_replica(&replica, master);
        replica
    }

    /// Waits until `replica` has all data of `master`, and every node knows about both: a
    /// failover that begins before is in vain.
    pub(crate) fn wait_for_replica(&self, replica: &TestServer, master: &TestServer) {
        wait_until("they are linked", || replica.info_text("master_link_status") == "up");
        let known = format!("slave {}", id_of(master));
        for node in self.nodes.iter().chain([replica, master]) {
            wait_until("the node talks to all", || {
                let nodes = node.ask("CLUSTER NODES");
                let connected = nodes.lines().filter(|line| line.contains(" connected"));
                nodes.contains(&known) && connected.count() == self.nodes.len() + 1
            });
        }
    }

    /// Begins to move `slot`: its clients are sent on to `to` for each key that `from`
    /// has no more.
    pub(crate) fn open_slot(&self, slot: u32, from: &TestServer, to: &TestServer) {
        let (importing, migrating) = (id_of(from), id_of(to));
        let set = |node: &TestServer, state: &str| {
            assert_eq!(node.ask(&format!("CLUSTER SETSLOT {slot} {state}")), "+OK\r\n");
        };
        set(to, &format!("IMPORTING {importing}"));
        set(from, &format!("MIGRATING {migrating}"));
    }

    /// Moves some keys of `slot`; `false` if there are none.
    pub(crate) fn move_keys(&self, slot: u32, from: &TestServer, to: &TestServer) -> bool {
        let reply = from.ask(&format!("CLUSTER GETKEYSINSLOT {slot} {KEYS_A_BATCH}"));
        let keys: Vec<&str> = reply.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
        if keys.is_empty() {
            return false;
        }
        let (port, timeout) = (to.port().to_string(), PATIENCE.as_millis().to_string());
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", &timeout, "KEYS"];
        migrate.extend(keys);
        let migrate: Vec<&[u8]> = migrate.into_iter().map(str::as_bytes).collect();
        assert_eq!(from.ask_words(&migrate), "+OK\r\n");
        true
    }

    /// Ends the move of `slot`, which has no keys any more but at `to`.
    pub(crate) fn close_slot(&self, slot: u32, to: &TestServer) {
        let owner = id_of(to);
        // The new owner first: the others send clients to it from then on.
        for node in std::iter::once(to).chain(&self.nodes) {
            assert_eq!(node.ask(&format!("CLUSTER SETSLOT {slot} NODE {owner}")), "+OK\r\n");
        }
    }
}

fn meet(node: &TestServer, other: &TestServer, host: &str) {
    let bus = other.ask("CONFIG GET cluster-port");
    let bus = bus.lines().last().unwrap();
    let meet = format!("CLUSTER MEET {host} {} {bus}", other.port());
    assert_eq!(node.ask(&meet), "+OK\r\n");
}

pub(crate) fn id_of(node: &TestServer) -> String {
    node.ask("CLUSTER MYID").lines().last().unwrap().to_owned()
}
