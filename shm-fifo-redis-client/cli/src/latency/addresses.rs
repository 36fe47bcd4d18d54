//! Where the server listens: as it is named, and for `--compare` as it says itself.

use super::args::LatencyArgs;
use crate::connect::Target;
use crate::running::RunningServer;
use crate::transport::Transport;
use anyhow::{Context, anyhow, bail};
use shm_fifo_redis_client::{Connection, Sharing};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The addresses of one server.
#[derive(Debug)]
pub(crate) struct Addresses {
    tcp: Option<Target>,
    unix: Option<Target>,
    /// The one a connection in shared memory begins on.
    named: Target,
}

impl Addresses {
    pub(crate) fn of(args: &LatencyArgs) -> anyhow::Result<Self> {
        let endpoint = &args.server.endpoint;
        let named = endpoint.target();
        let unix = endpoint.socket.clone().map(Target::Unix);
        let tcp = (unix.is_none() || endpoint.names_tcp()).then(|| endpoint.tcp());
        let mut addresses = Self { tcp, unix, named };
        if args.compare {
            addresses.complete(&args.server)?;
        }
        Ok(addresses)
    }

    /// Asks the server for what was not named.
    fn complete(&mut self, server: &RunningServer) -> anyhow::Result<()> {
        if self.tcp.is_some() && self.unix.is_some() {
            return Ok(());
        }
        let connected = server.client(Sharing::Never)?.get_connection();
        // Its text holds that of its source already.
        let mut connection = connected.map_err(|error| anyhow!("{error}"))?;
        let mut setting = |name: &str| {
            config_get(&mut connection, name).context(
                "the server does not say where it listens; name both: -s PATH -h HOST -p PORT",
            )
        };
        if self.tcp.is_none() {
            let port = setting("port")?.parse().context("its port is no number")?;
            let host = Ipv4Addr::LOCALHOST.to_string();
            self.tcp = (port != 0).then_some(Target::Tcp { host, port });
        } else {
            let path = PathBuf::from(setting("unixsocket")?);
            let directory = setting("dir")?;
            let is_there = !path.as_os_str().is_empty();
            self.unix = is_there.then(|| Target::Unix(Path::new(&directory).join(path)));
        }
        Ok(())
    }

    /// What is to be measured, and where each begins.
    pub(crate) fn ways(&self, args: &LatencyArgs) -> anyhow::Result<Vec<(Transport, Target)>> {
        let way = |transport| self.target(transport).map(|target| (transport, target.clone()));
        if !args.compare {
            let missing = match args.transport {
                Transport::Unix => "--transport unix needs the socket's path: -s PATH",
                _ => "--transport tcp needs the server's host and port: -h and -p",
            };
            return Ok(vec![way(args.transport).context(missing)?]);
        }
        let ways: Vec<_> = Transport::ALL.into_iter().filter_map(way).collect();
        if ways.len() < 2 {
            bail!("the server has no socket to compare with");
        }
        if self.unix.is_none() {
            eprintln!("redis-shm: without unix: the server has no unix socket (its unixsocket)");
        }
        if self.tcp.is_none() {
            eprintln!("redis-shm: without tcp: the server listens on no TCP port (its port is 0)");
        }
        Ok(ways)
    }

    fn target(&self, transport: Transport) -> Option<&Target> {
        match transport {
            Transport::Tcp => self.tcp.as_ref(),
            Transport::Unix => self.unix.as_ref(),
            Transport::Shm => Some(&self.named),
        }
    }
}

fn config_get(connection: &mut Connection, name: &str) -> anyhow::Result<String> {
    let reply: redis::RedisResult<Vec<String>> =
        redis::cmd("CONFIG").arg("GET").arg(name).query(connection);
    let reply = reply.map_err(|error| anyhow!("CONFIG GET {name}: {error}"))?;
    Ok(reply.into_iter().nth(1).unwrap_or_default())
}
