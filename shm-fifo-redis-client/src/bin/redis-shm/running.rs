//! A server that is running already, as the command line names it.

use crate::connect::Target;
use crate::exchange::{Command, Exchange};
use anyhow::Context;
use shm_fifo_redis_client::Stream;
use std::path::PathBuf;

/// The options of redis-cli.
#[derive(Debug, clap::Args)]
pub(crate) struct RunningServer {
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,

    /// The password. Better in the environment, where other users cannot read it.
    #[arg(
        short = 'a',
        long = "password",
        value_name = "PASSWORD",
        env = "REDISCLI_AUTH",
        hide_env_values = true
    )]
    pub(crate) password: Option<String>,

    /// The ACL user; needs a password.
    #[arg(long, value_name = "NAME", requires = "password")]
    pub(crate) user: Option<String>,
}

/// Where it listens.
#[derive(Debug, clap::Args)]
pub(crate) struct Endpoint {
    /// The server's host.
    #[arg(short = 'h', long = "host", value_name = "HOST", default_value = "127.0.0.1")]
    pub(crate) host: String,

    /// The server's port.
    #[arg(short = 'p', long = "port", value_name = "PORT", default_value_t = 6379)]
    pub(crate) port: u16,

    /// The server's unix socket, instead of host and port.
    #[arg(short = 's', long = "socket", value_name = "PATH", conflicts_with_all = ["host", "port"])]
    pub(crate) socket: Option<PathBuf>,
}

impl Endpoint {
    pub(crate) fn target(&self) -> Target {
        match &self.socket {
            Some(path) => Target::Unix(path.clone()),
            None => Target::Tcp { host: self.host.clone(), port: self.port },
        }
    }
}

impl RunningServer {
    /// A connection that is authenticated, where a password is given, and that has
    /// answered.
    pub(crate) fn connect(&self) -> anyhow::Result<Stream> {
        let mut stream = self.endpoint.target().connect()?;
        if let Some(password) = self.password.as_deref() {
            let mut words = vec!["AUTH"];
            words.extend(self.user.as_deref());
            words.push(password);
            let auth = Exchange::new(&words, b"+OK\r\n");
            auth.run(&mut stream).context("the password was not accepted")?;
        }
        let answer = Command::Ping.exchange().run(&mut stream);
        answer.context(
            "PING failed; a server that wants a password gets it by REDISCLI_AUTH or -a",
        )?;
        Ok(stream)
    }
}
