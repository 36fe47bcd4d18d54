//! A server that is running already, as the command line names it.

use crate::connect::{REPLY_TIMEOUT, Target};
use crate::exchange::Command;
use crate::login::{self, Login};
use anyhow::Context;
use redis::{ConnectionAddr, IntoConnectionInfo};
use shm_fifo_redis_client::{Address, Client, Sharing, Stream};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process;

/// The options of redis-cli.
#[derive(Debug, clap::Args)]
pub(crate) struct RunningServer {
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,

    #[command(flatten)]
    pub(crate) login: Login,
}

/// Where it listens.
#[derive(Debug, clap::Args)]
pub(crate) struct Endpoint {
    /// The server's host [default: 127.0.0.1].
    #[arg(short = 'h', long = "host", value_name = "HOST", value_hint = clap::ValueHint::Hostname)]
    pub(crate) host: Option<String>,

    /// The server's port [default: 6379].
    #[arg(short = 'p', long = "port", value_name = "PORT")]
    pub(crate) port: Option<u16>,

    /// The server's unix socket, instead of host and port.
    #[arg(short = 's', long = "socket", value_name = "PATH", conflicts_with_all = ["host", "port"])]
    pub(crate) socket: Option<PathBuf>,
}

impl Endpoint {
    pub(crate) fn target(&self) -> Target {
        match &self.socket {
            Some(path) => Target::Unix(path.clone()),
            None => self.tcp(),
        }
    }

    /// Whether host or port are named.
    pub(crate) fn names_tcp(&self) -> bool {
        self.host.is_some() || self.port.is_some()
    }

    /// By host and port.
    pub(crate) fn tcp(&self) -> Target {
        Target::Tcp { host: self.host().to_owned(), port: self.port() }
    }

    pub(crate) fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("127.0.0.1")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(6379)
    }
}

impl RunningServer {
    /// What makes connections for more than a loop of one command.
    pub(crate) fn client(&self, sharing: Sharing) -> anyhow::Result<Client> {
        let endpoint = &self.endpoint;
        let address = match &endpoint.socket {
            Some(path) => ConnectionAddr::Unix(path.clone()),
            None => ConnectionAddr::Tcp(endpoint.host().to_owned(), endpoint.port()),
        };
        let info = address.into_connection_info()?.set_redis_settings(self.login.settings());
        let client = Client::open(Address::try_from(info)?.with_sharing(sharing))?;
        Ok(client.connect_timeout(REPLY_TIMEOUT).response_timeout(REPLY_TIMEOUT))
    }

    /// Names it to this program in another process; the password not where others see it.
    pub(crate) fn name_to(&self, command: &mut process::Command) {
        let Endpoint { host, port, socket } = &self.endpoint;
        let named =
            |option: &str, value: Option<OsString>| value.map(|value| [option.into(), value]);
        let arguments: [Option<[OsString; 2]>; 3] = [
            named("--host", host.clone().map(OsString::from)),
            named("--port", port.map(|port| port.to_string().into())),
            named("--socket", socket.clone().map(OsString::from)),
        ];
        command.args(arguments.into_iter().flatten().flatten());
        self.login.name_to(command);
    }

    /// A connection to one of its addresses that is authenticated, where a password
    /// is given, and that has answered.
    pub(crate) fn connect_to(&self, target: &Target) -> anyhow::Result<Stream> {
        let mut stream = target.connect()?;
        self.login.log_in(&mut stream)?;
        let answer = Command::Ping.exchange().run(&mut stream);
        answer.map_err(login::explain).context("PING failed")?;
        Ok(stream)
    }
}
