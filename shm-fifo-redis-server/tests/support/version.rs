//! Which server is being tested, and which tests are not for it.

use super::server::server_path;
use std::fmt;
use std::io::{Write as _, stderr};
use std::process::Command;
use std::sync::OnceLock;

/// Something that not every server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Settings of modules in redis.conf and by `CONFIG`.
    ModuleSettings,
    /// `COMMAND DOCS`.
    CommandDocs,
    /// `DEBUG` and `MODULE` are refused unless the server was told to allow them.
    GuardedCommands,
    /// `maxmemory-clients` and `CLIENT NO-EVICT`.
    ClientEviction,
    /// `CONFIG SET io-threads`.
    IoThreadsAtRunTime,
    /// A full synchronisation by two connections, one of them for the data.
    RdbChannel,
    /// A replica that serves its old data while it loads new.
    AsyncLoading,
    /// `MODULE LOADEX`.
    ModuleLoadex,
    /// `CLUSTER MIGRATESLOTS`.
    AtomicSlotMigration,
    /// A module's file descriptors in the main loop.
    EventLoopOfModules,
    /// `cluster-port`: the bus need not be the port and 10,000.
    ClusterPort,
}

impl Feature {
    /// What it is, Redis' first version with it, if any has it, and Valkey's.
    fn facts(self) -> (&'static str, Option<Number>, Number) {
        match self {
            Self::ModuleSettings => ("settings of modules", Some((7, 0)), (7, 2)),
            Self::CommandDocs => ("COMMAND DOCS", Some((7, 0)), (7, 2)),
            Self::GuardedCommands => ("enable-debug-command", Some((7, 0)), (7, 2)),
            Self::ClientEviction => ("maxmemory-clients", Some((7, 0)), (7, 2)),
            Self::IoThreadsAtRunTime => ("CONFIG SET io-threads", None, (9, 0)),
            Self::RdbChannel => ("a channel for the RDB", Some((8, 0)), (8, 0)),
            Self::AsyncLoading => ("async_loading", Some((7, 0)), (7, 2)),
            Self::ModuleLoadex => ("MODULE LOADEX", Some((7, 0)), (7, 2)),
            Self::EventLoopOfModules => ("RedisModule_EventLoopAdd", Some((7, 0)), (7, 2)),
            Self::AtomicSlotMigration => ("CLUSTER MIGRATESLOTS", None, (9, 0)),
            Self::ClusterPort => ("cluster-port", Some((7, 0)), (7, 2)),
        }
    }
}

/// The first two parts of a version.
type Number = (u32, u32);

/// What the server says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerVersion {
    /// `Redis` or `Valkey`.
    pub(crate) family: String,
    pub(crate) number: Number,
}

impl ServerVersion {
    /// That of the server under test.
    pub(crate) fn of_tested_server() -> &'static Self {
        static TESTED: OnceLock<ServerVersion> = OnceLock::new();
        TESTED.get_or_init(|| {
            let output = Command::new(server_path()).arg("--version").output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            Self::parse(&text).unwrap_or_else(|| panic!("no version in {text:?}"))
        })
    }

    /// Reads `Redis server v=7.0.15 sha=…`. Valkey 7.2 says no name: `Server v=7.2.7 …`.
    fn parse(text: &str) -> Option<Self> {
        let (family, rest) = match text.strip_prefix("Server v=") {
            Some(rest) => ("Valkey", rest),
            None => text.split_once(" server v=")?,
        };
        let mut numbers = rest.split('.').map(|number| number.parse().ok());
        Some(Self { family: family.to_owned(), number: (numbers.next()??, numbers.next()??) })
    }

    pub(crate) fn is_valkey(&self) -> bool {
        self.family == "Valkey"
    }

    pub(crate) fn has(&self, feature: Feature) -> bool {
        let (_, redis, valkey) = feature.facts();
        let first = if self.is_valkey() { Some(valkey) } else { redis };
        first.is_some_and(|first| self.number >= first)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}.{}", self.family, self.number.0, self.number.1)
    }
}

/// Whether the server under test has `feature`. Where it has not, this says so past
/// the capture of the test's output: a test that was not run must not look passed.
pub(crate) fn server_has(feature: Feature) -> bool {
    let server = ServerVersion::of_tested_server();
    let has = server.has(feature);
    if !has {
        let (what, redis, valkey) = feature.facts();
        let redis =
            redis.map_or(String::new(), |(major, minor)| format!("Redis {major}.{minor} or "));
        let (major, minor) = valkey;
        not_run(&server, &format!("{what}: {redis}Valkey {major}.{minor} or newer"));
    }
    has
}

/// Says that the test needs something that is not there, on `place`.
pub(super) fn not_run(place: &impl fmt::Display, needs: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let line = format!("NOT RUN on {place}: {test} needs {needs}\n");
    stderr().write_all(line.as_bytes()).unwrap();
}

#[allow(unused_macros, reason = "each test binary uses its part")]
/// Leaves the test, and says so, where the server under test has no such feature.
macro_rules! needs {
    ($feature:ident) => {
        if !$crate::support::server_has($crate::support::Feature::$feature) {
            return;
        }
    };
}
pub(crate) use needs;
