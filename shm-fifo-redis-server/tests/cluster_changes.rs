//! Redis Cluster beside busy clients in shared memory: saving, synchronising, failing
//! over, moving slots.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::cluster::ClusterConnection;
use shm_fifo_redis_client::cluster::{self, NodeConnection};
use support::{
    BUSY_CLIENTS, Busy, Cluster, OwnKey, TestServer, Wire, beside_busy, id_of, needs, wait_until,
};

/// The slot of "a", which belongs to the last node.
const SLOT: u32 = 15495;
/// What has this in its name is in that slot.
const IN_SLOT: &str = "{a}";
/// Keys of each client: as many in that slot as anywhere.
const KEYS: usize = 10;

/// A client of the whole cluster.
struct User {
    connection: ClusterConnection<NodeConnection>,
    keys: Vec<OwnKey>,
    rounds: usize,
}

impl User {
    fn of(cluster: &Cluster, number: u64) -> Self {
        let connection = cluster::get_connection(&cluster.client()).unwrap();
        let key = |of_client: usize| {
            let tag = if of_client.is_multiple_of(2) { IN_SLOT } else { "" };
            let seed = number * 1000 + of_client as u64;
            OwnKey::new(seed, &format!("own:{number}:{of_client}{tag}"))
        };
        Self { connection, keys: (0..KEYS).map(key).collect(), rounds: 0 }
    }

    /// Writes a key and reads another. Whatever redirects it is followed, and nothing
    /// else may happen.
    fn round(&mut self) -> bool {
        self.rounds += 1;
        let key = &mut self.keys[self.rounds % KEYS];
        key.write(&mut self.connection).unwrap();
        key.keep();
        self.keys[(self.rounds + 1) % KEYS].check(&mut self.connection).unwrap();
        true
    }

    fn check_all(&mut self) {
        for key in &self.keys {
            key.check(&mut self.connection).unwrap();
        }
    }
}

/// Does `something` beside busy clients of the cluster, of whose writes none may be lost.
fn beside_users(cluster: &Cluster, something: impl FnOnce(&Busy)) {
    let users = [0, 1, 2].map(|number| User::of(cluster, number));
    let mut users = beside_busy(users, User::round, something);
    users.iter_mut().for_each(User::check_all);
    for node in &cluster.nodes {
        assert_eq!(node.info("shm_protocol_errors"), 0);
        assert_eq!(node.info("shm_missed_doorbells"), 0);
    }
}

/// Of each node, how many connections have ever moved to shared memory.
fn total_sessions(cluster: &Cluster) -> Vec<u64> {
    cluster.nodes.iter().map(|node| node.info("shm_total_sessions")).collect()
}

fn wait_for_role(node: &TestServer, role: &str) {
    wait_until(role, || node.info_text("role") == role);
}

#[test]
fn saving_and_synchronising_go_on_beside_busy_clients() {
    needs!(ClusterPort);
    let cluster = Cluster::start();
    let on_each = |command: &str| {
        for node in &cluster.nodes {
            let reply = node.ask(command);
            assert!(reply.starts_with('+'), "{command}: {reply}");
        }
    };
    let wait_for_children = || {
        for node in &cluster.nodes {
            wait_until("nothing is written any more", || {
                node.info("rdb_bgsave_in_progress")
                    + node.info("aof_rewrite_scheduled")
                    + node.info("aof_rewrite_in_progress")
                    == 0
            });
            assert_eq!(node.info_text("rdb_last_bgsave_status"), "ok");
            assert_eq!(node.info_text("aof_last_bgrewrite_status"), "ok");
        }
    };
    on_each("CONFIG SET repl-diskless-sync-delay 0");
    // What the clients write is enough for a rewrite that nobody asked for.
    on_each("CONFIG SET auto-aof-rewrite-percentage 0");
    let mut replica = None;

    beside_users(&cluster, |busy| {
        let before = total_sessions(&cluster);
        on_each("BGSAVE");
        wait_for_children();
        busy.get_on("beside saved nodes");
        on_each("CONFIG SET appendonly yes");
        wait_for_children();
        on_each("BGREWRITEAOF");
        wait_for_children();
        busy.get_on("beside rewritten logs");
        let synchronised = replica.insert(cluster.replica_of(&cluster.nodes[2]));
        busy.get_on("beside a new replica");
        synchronise_anew(&cluster.nodes[2], synchronised);
        busy.get_on("beside a replica that was synchronised anew");
        assert_eq!(cluster.sessions(), [BUSY_CLIENTS as u64; 3]);
        assert_eq!(total_sessions(&cluster), before);
    });

    let replica = replica.unwrap();
    wait_until("it has what they wrote", || {
        replica.ask("DEBUG DIGEST") == cluster.nodes[2].ask("DEBUG DIGEST")
    });
}

/// A full synchronisation of a replica that was one already.
fn synchronise_anew(master: &TestServer, replica: &TestServer) {
    let before = master.info("sync_full");
    assert_eq!(master.ask("DEBUG CHANGE-REPL-ID"), "+OK\r\n");
    assert_eq!(master.ask("CLIENT KILL TYPE replica"), ":1\r\n");
    wait_until("it is synchronised", || {
        master.info("sync_full") > before && replica.info_text("master_link_status") == "up"
    });
}

#[test]
fn a_replica_that_takes_over_loses_nothing_and_clients_stay() {
    needs!(ClusterPort);
    let cluster = Cluster::start();
    cluster.nodes[2].ask("CONFIG SET repl-diskless-sync-delay 0");
    let (master, replica) = (&cluster.nodes[2], &cluster.replica_of(&cluster.nodes[2]));
    let (mut on_master, mut on_replica) = (master.shm(), replica.shm());

    beside_users(&cluster, |busy| {
        for (from, to) in [(master, replica), (replica, master)] {
            cluster.wait_for_replica(to, from);
            assert_eq!(to.ask("CLUSTER FAILOVER"), "+OK\r\n");
            wait_for_role(to, "master");
            wait_for_role(from, "slave");
            busy.get_on("at the new master");
        }
    });

    let written = on_master.ask("GET own:0:0{a}");
    assert!(written.starts_with('$') && !written.starts_with("$-1"));
    let redirected = |on_replica: &mut Wire| on_replica.ask("GET own:0:0{a}");
    assert!(redirected(&mut on_replica).starts_with(&format!("-MOVED {SLOT} ")));
    assert_eq!(on_replica.ask("READONLY"), "+OK\r\n");
    wait_until("it has what they wrote", || redirected(&mut on_replica) == written);
}

#[test]
fn a_slot_that_moves_beside_busy_clients_loses_nothing() {
    needs!(ClusterPort);
    let cluster = Cluster::start();
    let (first, last) = (&cluster.nodes[0], &cluster.nodes[2]);

    beside_users(&cluster, |busy| {
        let before = total_sessions(&cluster);
        for (from, to) in [(last, first), (first, last)] {
            cluster.open_slot(SLOT, from, to);
            busy.get_on("while the slot is open");
            while cluster.move_keys(SLOT, from, to) {
                busy.get_on("while keys move");
            }
            busy.get_on("while all keys are with the new owner");
            cluster.close_slot(SLOT, to);
            busy.get_on("when the slot has moved");
        }
        assert_eq!(cluster.sessions(), [BUSY_CLIENTS as u64; 3]);
        assert_eq!(total_sessions(&cluster), before);
    });
}

#[test]
fn a_slot_that_moves_at_once_beside_busy_clients_loses_nothing() {
    needs!(AtomicSlotMigration);
    let cluster = Cluster::start();
    let (first, last) = (&cluster.nodes[0], &cluster.nodes[2]);

    beside_users(&cluster, |busy| {
        let before = total_sessions(&cluster);
        for (from, to) in [(last, first), (first, last)] {
            let range = format!("SLOTSRANGE {SLOT} {SLOT} NODE {}", id_of(to));
            assert_eq!(from.ask(&format!("CLUSTER MIGRATESLOTS {range}")), "+OK\r\n");
            wait_until("it has moved", || to.ask(&format!("GET {IN_SLOT}")) == "$-1\r\n");
            busy.get_on("when the slot has moved");
        }
        assert_eq!(cluster.sessions(), [BUSY_CLIENTS as u64; 3]);
        assert_eq!(total_sessions(&cluster), before);
    });
}
