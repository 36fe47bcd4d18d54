//! Clients that work all the time, beside whatever happens to their servers, and keys
//! of which they know what must be there afterwards.

use super::{POLL_PERIOD, Random, TestServer, wait_until};
use redis::{Commands, RedisResult};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

/// How many clients work at a time.
pub(crate) const BUSY_CLIENTS: usize = 3;

/// How far each client has come.
#[derive(Debug, Default)]
pub(crate) struct Busy {
    rounds: [AtomicU64; BUSY_CLIENTS],
    over: AtomicBool,
}

impl Busy {
    /// Waits until every client has got on from where it is now.
    #[track_caller]
    pub(crate) fn get_on(&self, when: &str) {
        let before = self.rounds.each_ref().map(|round| round.load(Relaxed));
        wait_until(&format!("all clients get on {when}"), || {
            self.rounds.iter().zip(before).all(|(now, then)| now.load(Relaxed) > then)
        });
    }
}

/// Ends the clients when it is dropped.
struct Stop<'a>(&'a Busy);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Relaxed);
    }
}

/// Does `something` while all `clients` work: each in rounds, which say whether it got
/// on. Every one of them must get on before it and after it. Returns the clients.
pub(crate) fn beside_busy<Client: Send>(
    clients: [Client; BUSY_CLIENTS],
    round: impl Fn(&mut Client) -> bool + Sync,
    something: impl FnOnce(&Busy),
) -> [Client; BUSY_CLIENTS] {
    let (busy, round) = (Busy::default(), &round);
    thread::scope(|scope| {
        let mut rounds = busy.rounds.iter();
        let over = &busy.over;
        let workers = clients.map(|mut client| {
            let done = rounds.next().unwrap();
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    if round(&mut client) {
                        done.fetch_add(1, Relaxed);
                    } else {
                        thread::sleep(POLL_PERIOD);
                    }
                }
                client
            })
        });
        // However this ends, the clients do.
        let stop = Stop(&busy);
        busy.get_on("before");
        something(&busy);
        busy.get_on("afterwards");
        drop(stop);
        workers.map(|worker| worker.join().unwrap())
    })
}

/// As [`beside_busy`], with clients in shared memory that write and read keys of their
/// own on `server`. They must all keep their sessions, and the server what they wrote.
pub(crate) fn beside_busy_clients_of(server: &TestServer, something: impl FnOnce()) {
    let clients = [0, 1, 2].map(|number| {
        let key = OwnKey::new(number, &format!("own:{number}"));
        (server.connection(), key)
    });
    beside_busy(
        clients,
        |(connection, key)| {
            key.write(connection).unwrap();
            key.keep();
            key.check(connection).unwrap();
            true
        },
        |_| something(),
    );
    assert_eq!(server.info("shm_protocol_errors"), 0);
}

/// A key that one client writes: numbers that grow, each with bytes of its own.
#[derive(Debug)]
pub(crate) struct OwnKey {
    name: String,
    seed: u64,
    tried: u64,
    kept: u64,
}

impl OwnKey {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        Self { name: name.to_owned(), seed, tried: 0, kept: 0 }
    }

    /// Writes the next number. If that fails, it may be there or not.
    pub(crate) fn write(&mut self, connection: &mut impl Commands) -> RedisResult<()> {
        self.tried += 1;
        connection.set(&self.name, self.value(self.tried))
    }

    /// From now on, what was written last must not be lost.
    pub(crate) fn keep(&mut self) {
        self.kept = self.tried;
    }

    /// Reads what is there.
    ///
    /// # Panics
    /// If that is older than what must be kept, or was never written.
    #[track_caller]
    pub(crate) fn check(&self, connection: &mut impl Commands) -> RedisResult<()> {
        let value: Option<Vec<u8>> = connection.get(&self.name)?;
        let Some(value) = value else {
            assert_eq!(self.kept, 0, "{} is lost", self.name);
            return Ok(());
        };
        let number = u64::from_le_bytes(*value.first_chunk().unwrap());
        let Self { name, tried, kept, .. } = self;
        assert!((*kept..=*tried).contains(&number), "{name}: {number}, not {kept} to {tried}");
        assert!(value == self.value(number), "{name}: {number} was changed on its way");
        Ok(())
    }

    /// A number, and up to some hundred KB that no other has: more than a ring holds.
    fn value(&self, number: u64) -> Vec<u8> {
        let mut random = Random::seeded((self.seed << 32) + 2 * number);
        let most = [100, 5_000, 300_000][random.below(3)];
        let length = random.below(most);
        let mut value = number.to_le_bytes().to_vec();
        value.extend(random.bytes(length));
        value
    }
}
