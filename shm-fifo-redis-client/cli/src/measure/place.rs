//! Which server is measured: one that runs, or one of our own.

use crate::child::Confinement;
use crate::connect::Target;
use crate::interrupt::Interrupts;
use crate::login::Login;
use crate::measure::bench::args::SERVER;
use crate::place::{Place, Programs};
use crate::server::PrivateServer;
use crate::transport::Transport;
use shm_fifo_redis_client::Stream;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Which server to measure, by redis-cli's options.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArgs {
    /// A running server's unix socket.
    #[arg(short = 's', long, value_name = "PATH", help_heading = SERVER)]
    pub(crate) socket: Option<PathBuf>,

    /// A running server's host [default with -p: 127.0.0.1].
    #[arg(short = 'h', long, value_name = "HOST", value_hint = clap::ValueHint::Hostname, help_heading = SERVER)]
    pub(crate) host: Option<String>,

    /// A running server's port [default with -h: 6379].
    #[arg(short = 'p', long, value_name = "PORT", help_heading = SERVER)]
    pub(crate) port: Option<u16>,

    #[command(flatten, next_help_heading = SERVER)]
    pub(crate) login: Login,

    /// The server to start otherwise.
    #[arg(long, value_name = "PATH", default_value = "redis-server", help_heading = SERVER)]
    pub(crate) server: PathBuf,

    /// Its module [default: came with this program].
    #[arg(long, value_name = "PATH", env = "SHM_FIFO_MODULE", hide_env_values = true, help_heading = SERVER)]
    pub(crate) module: Option<PathBuf>,
}

impl ServerArgs {
    /// Whether a server that runs already is to be measured.
    pub(crate) fn names_a_server(&self) -> bool {
        self.socket.is_some() || self.host.is_some() || self.port.is_some()
    }
}

impl Place {
    /// The server that is named, or one of our own, confined, to be dropped at the
    /// end.
    pub(crate) fn find(
        args: &ServerArgs,
        confinement: &Confinement,
        interrupts: &Interrupts,
    ) -> anyhow::Result<(Self, Option<PrivateServer>)> {
        if args.names_a_server() {
            return Ok((Self::named(args), None));
        }
        let server =
            Programs::find(&args.server, args.module.as_deref())?.start(confinement, interrupts)?;
        Ok((Self::of(&server), Some(server)))
    }

    fn named(args: &ServerArgs) -> Self {
        let has_tcp = args.host.is_some() || args.port.is_some();
        let host = args.host.clone().unwrap_or_else(|| Ipv4Addr::LOCALHOST.to_string());
        let port = args.port.unwrap_or(6379);
        Self {
            tcp: has_tcp.then_some(Target::Tcp { host, port }),
            unix: args.socket.clone().map(Target::Unix),
            login: args.login.clone(),
        }
    }

    pub(crate) fn connect_many(
        &self,
        transport: Transport,
        count: usize,
    ) -> anyhow::Result<Vec<Stream>> {
        (0..count).map(|_| self.connect(transport)).collect()
    }
}
