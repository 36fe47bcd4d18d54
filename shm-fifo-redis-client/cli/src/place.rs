//! Where the server is, for each transport.

use crate::child::{self, Confinement};
use crate::connect::{self, Target};
use crate::interrupt::Interrupts;
use crate::login::{self, Login};
use crate::report::ServerInfo;
use crate::server::{self, PrivateServer};
use crate::transport::Transport;
use anyhow::{Context, bail};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use shm_fifo_redis_client::{Refusal, Stream};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The addresses of one server, and how to be let in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) tcp: Option<Target>,
    pub(crate) unix: Option<Target>,
    pub(crate) login: Login,
}

/// The server does not take a connection into shared memory.
#[derive(Debug)]
pub(crate) struct NotShared(Refusal);

impl std::fmt::Display for NotShared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::error::Error for NotShared {}

impl Place {
    pub(crate) fn of(server: &PrivateServer) -> Self {
        let host = Ipv4Addr::LOCALHOST.to_string();
        Self {
            tcp: Some(Target::Tcp { host, port: server.port() }),
            unix: Some(Target::Unix(server.socket())),
            login: Login::default(),
        }
    }

    /// Those of `wanted` that lead here; all that do, if none is wanted.
    pub(crate) fn transports(&self, wanted: &[Transport]) -> anyhow::Result<Vec<Transport>> {
        let leads_here = |transport| self.target(transport).is_some();
        if let Some(other) = wanted.iter().copied().find(|transport| !leads_here(*transport)) {
            let option = if other == Transport::Unix { "-s PATH" } else { "-h and -p" };
            bail!("--transport {other} needs the server's address: {option}");
        }
        let chosen = |transport: &Transport| {
            leads_here(*transport) && (wanted.is_empty() || wanted.contains(transport))
        };
        Ok(Transport::ALL.into_iter().filter(chosen).collect())
    }

    /// What a connection begins on.
    pub(crate) fn target(&self, transport: Transport) -> Option<&Target> {
        match transport {
            Transport::Tcp => self.tcp.as_ref(),
            Transport::Unix => self.unix.as_ref(),
            Transport::Shm => self.unix.as_ref().or(self.tcp.as_ref()),
        }
    }

    /// A connection that is logged in, over `transport`.
    pub(crate) fn connect(&self, transport: Transport) -> anyhow::Result<Stream> {
        let target = self.target(transport).context("this transport has no address")?;
        let mut stream = target.connect()?;
        self.login.log_in(&mut stream)?;
        if transport == Transport::Shm {
            stream = connect::move_over(stream)?.map_err(NotShared)?;
        }
        Ok(stream)
    }

    /// As redis-rs has it; for shared memory, where the connection begins.
    pub(crate) fn connection_info(&self, transport: Transport) -> anyhow::Result<ConnectionInfo> {
        let target = self.target(transport).context("this transport has no address")?;
        let address = match target.clone() {
            Target::Tcp { host, port } => ConnectionAddr::Tcp(host, port),
            Target::Unix(path) => ConnectionAddr::Unix(path),
        };
        Ok(address.into_connection_info()?.set_redis_settings(self.login.settings()))
    }

    /// A connection over a socket for what is not measured.
    pub(crate) fn side_connection(&self) -> anyhow::Result<redis::Connection> {
        // Shared memory begins on any address that there is.
        let info = self.connection_info(Transport::Shm)?;
        let connection = redis::Client::open(info)?.get_connection();
        let connection = connection.map_err(|error| match self.target(Transport::Shm) {
            Some(target) if error.is_io_error() => target.no_connection(&error),
            _ => login::explain(error),
        })?;
        connection.set_read_timeout(Some(connect::REPLY_TIMEOUT))?;
        Ok(connection)
    }

    pub(crate) fn server_info(&self) -> anyhow::Result<ServerInfo> {
        let info = redis::cmd("INFO").arg("server").query::<String>(&mut self.side_connection()?);
        let info = info.map_err(login::explain).context("INFO failed")?;
        Ok(ServerInfo::from_info(&info))
    }
}

/// The programs a private server is made of.
#[derive(Debug)]
pub(crate) struct Programs {
    server: PathBuf,
    module: PathBuf,
}

impl Programs {
    pub(crate) fn find(server: &Path, module: Option<&Path>) -> anyhow::Result<Self> {
        let server = server::find_server(server)?;
        Ok(Self { server, module: server::find_module(module)? })
    }

    /// Starts a server that ends with this process, whatever ends it.
    pub(crate) fn start(
        &self,
        confinement: &Confinement,
        interrupts: &Interrupts,
    ) -> anyhow::Result<PrivateServer> {
        let own = std::env::current_exe().context("the path of this program is not known")?;
        let command = || child::command_running(&own, confinement, &self.server);
        PrivateServer::start(command, &self.module, interrupts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(tcp: bool, unix: bool) -> Place {
        let host = "localhost".to_owned();
        Place {
            tcp: tcp.then_some(Target::Tcp { host, port: 1 }),
            unix: unix.then_some(Target::Unix("/s".into())),
            login: Login::default(),
        }
    }

    #[test]
    fn transports_are_those_that_the_addresses_lead_to() {
        use Transport::{Shm, Tcp, Unix};
        assert_eq!(place(true, true).transports(&[]).expect("all"), [Tcp, Unix, Shm]);
        assert_eq!(place(true, false).transports(&[]).expect("two"), [Tcp, Shm]);
        assert_eq!(place(false, true).transports(&[Shm, Unix]).expect("two"), [Unix, Shm]);
    }

    #[test]
    fn a_transport_without_address_is_an_error_that_says_what_is_missing() {
        let error = place(true, false).transports(&[Transport::Unix]).expect_err("no path");
        assert!(error.to_string().contains("-s PATH"), "{error}");
    }

    #[test]
    fn shared_memory_begins_on_the_unix_socket_if_there_is_one() {
        assert!(matches!(place(true, true).target(Transport::Shm), Some(Target::Unix(_))));
        assert!(matches!(place(true, false).target(Transport::Shm), Some(Target::Tcp { .. })));
    }
}
