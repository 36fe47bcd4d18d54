//! Sentinel beside clients in shared memory, which ask it where the master is.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use redis::sentinel::Sentinel;
use redis::{RedisResult, Role, cmd};
use shm_fifo_redis_client::{Client, Connection, Transport};
use std::time::Duration;
use support::{OwnKey, PATIENCE, ServerOptions, TestServer, beside_busy, wait_until};

/// How long a client waits for the replica to have what it wrote.
const WAIT_MILLIS: u64 = 100;

/// A master, its replica, and a sentinel that watches them.
struct Watched {
    first: TestServer,
    second: TestServer,
    sentinel: TestServer,
}

impl Watched {
    /// A server that is silent for `down_after_millis` is down for the sentinel.
    fn start(down_after_millis: u32) -> Self {
        let (first, second) = (TestServer::start(), TestServer::start());
        for server in [&first, &second] {
            assert_eq!(server.ask("CONFIG SET repl-diskless-sync-delay 0"), "+OK\r\n");
        }
        assert_eq!(second.ask(&format!("REPLICAOF 127.0.0.1 {}", first.port())), "+OK\r\n");
        wait_until("they are linked", || first.ask("INFO replication").contains("state=online"));
        let config = format!(
            "sentinel monitor mymaster 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds mymaster {down_after_millis}\n\
             sentinel failover-timeout mymaster 3000\n",
            first.port()
        );
        let sentinel = ServerOptions::default().config(&config).args(&["--sentinel"]).start();
        // Redis 6.2 does not know this: an old master waits for 8 s until it is told.
        sentinel.ask("SENTINEL DEBUG PUBLISH-PERIOD 250 INFO-PERIOD 500 TILT-PERIOD 1000");
        wait_until("the sentinel knows the replica", || {
            let replicas = sentinel.ask("SENTINEL REPLICAS mymaster");
            replicas.contains("master-link-status\r\n$2\r\nok\r\n")
        });
        Self { first, second, sentinel }
    }

    /// Whether the sentinel sends clients to the second server, which is a master.
    fn second_is_named(&self) -> bool {
        let named = self.sentinel.ask("SENTINEL GET-MASTER-ADDR-BY-NAME mymaster");
        named.contains(&format!("\r\n{}\r\n", self.second.port()))
            && matches!(role(&self.second), Some(Role::Primary { .. }))
    }

    /// Whether the first server is a replica of the second, and has all its data.
    fn first_is_a_replica(&self) -> bool {
        matches!(
            role(&self.first),
            Some(Role::Replica { primary_port, replication_state, .. })
                if primary_port == self.second.port() && replication_state == "connected"
        )
    }
}

/// What a server says that it is; nothing while the sentinel ends its connections, as it
/// does with each new role.
fn role(server: &TestServer) -> Option<Role> {
    let client = Client::open(format!("redis+unix://{}", server.socket().display())).unwrap();
    cmd("ROLE").query(&mut client.get_connection().ok()?).ok()
}

/// A client that asks the sentinel for the master whenever it has no connection.
struct Follower {
    sentinel: Sentinel,
    connection: Option<Connection>,
    key: OwnKey,
}

impl Follower {
    fn of(watched: &Watched, number: u64) -> Self {
        let sentinel = format!("redis://127.0.0.1:{}", watched.sentinel.port());
        let sentinel = Sentinel::build(vec![sentinel]).unwrap();
        Self { sentinel, connection: None, key: OwnKey::new(number, &format!("own:{number}")) }
    }

    fn connect(&mut self) -> RedisResult<Connection> {
        let found = self.sentinel.master_for("mymaster", None)?;
        let client = Client::open(found.get_connection_info().clone())?;
        let client = client.connect_timeout(PATIENCE).response_timeout(PATIENCE);
        let connection = client.get_connection()?;
        assert_eq!(connection.transport(), Transport::SharedMemory);
        Ok(connection)
    }

    /// Reads, and writes something new. Only what the replica has as well must be kept;
    /// returns whether it has.
    fn work(&mut self) -> RedisResult<bool> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        self.key.check(&mut connection)?;
        self.key.write(&mut connection)?;
        let replicas: u32 = cmd("WAIT").arg(1).arg(WAIT_MILLIS).query(&mut connection)?;
        if replicas == 1 {
            self.key.keep();
        }
        self.connection = Some(connection);
        Ok(replicas == 1)
    }
}

/// What `happens` makes the second server the master, and the first its replica once it
/// `comes_back`. Clients of the sentinel work all the time, and lose nothing that both
/// servers had.
fn beside_followers(
    mut watched: Watched,
    happens: impl FnOnce(&mut Watched),
    comes_back: impl FnOnce(&mut Watched),
) -> Watched {
    let followers = [0, 1, 2].map(|number| Follower::of(&watched, number));
    let work = |follower: &mut Follower| follower.work().is_ok();

    beside_busy(followers, work, |busy| {
        happens(&mut watched);
        wait_until("the sentinel sends clients to the second", || watched.second_is_named());
        busy.get_on("at the new master");
        comes_back(&mut watched);
        wait_until("the first is a replica", || watched.first_is_a_replica());
        busy.get_on("beside the old master");
    });

    let Watched { first, second, .. } = &watched;
    let (mut reader, mut writer) = (first.shm(), second.shm());
    assert!(reader.ask("SET own:0 mine").starts_with("-READONLY"));
    let written = writer.ask("GET own:0");
    wait_until("it has what they wrote", || reader.ask("GET own:0") == written);
    watched
}

#[test]
fn clients_follow_a_failover_that_the_sentinel_was_told_to_make() {
    let watched = Watched::start(60_000);
    let mut stale = watched.first.shm();

    let _watched = beside_followers(
        watched,
        |watched| {
            assert_eq!(watched.sentinel.ask("SENTINEL FAILOVER mymaster"), "+OK\r\n");
        },
        |_| (),
    );

    // The sentinel ends all that the old master had.
    stale.assert_ended();
}

#[test]
fn clients_follow_when_the_master_was_killed_which_comes_back_as_a_replica() {
    beside_followers(
        Watched::start(1000),
        |watched| watched.first.kill(),
        |watched| watched.first.restart(),
    );
}

#[test]
fn clients_follow_when_the_master_stands_still_which_wakes_up_as_a_replica() {
    let watched = Watched::start(1000);
    let mut stale = watched.first.shm();
    let mut follower = Follower::of(&watched, 0);
    wait_until("the replica has something", || follower.work().unwrap());

    watched.first.process().stop();
    wait_until("the sentinel sends clients to the second", || watched.second_is_named());
    // Which connection is of no use any more, time alone tells its client.
    let connection = follower.connection.as_mut().unwrap();
    connection.set_response_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(follower.work().unwrap_err().is_timeout());
    wait_until("it has found the new master", || follower.work().is_ok());

    watched.first.process().go_on();
    wait_until("the first is a replica", || watched.first_is_a_replica());
    stale.assert_ended();
    follower.work().unwrap();
}
