//! Who we are to a server, by redis-cli's options.

use crate::exchange::Exchange;
use crate::interrupt::Interrupted;
use anyhow::{Context, anyhow};
use clap::ArgGroup;
use redis::RedisConnectionInfo;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
use shm_fifo_redis_client::Stream;
use std::fmt;
use std::io::{self, IsTerminal};
use std::process::Command;

/// What to do where a server wants to know.
pub(crate) const ADVICE: &str =
    "give the password by REDISCLI_AUTH, -a or --askpass, and a user's name by --user";

/// What an error says, and what to do if it is about the login.
pub(crate) fn explain(error: impl fmt::Display) -> anyhow::Error {
    let text = error.to_string();
    let is_about_it = ["NOAUTH", "authentication failed"].iter().any(|&words| text.contains(words));
    if is_about_it { anyhow!("{text}; {ADVICE}") } else { anyhow!("{text}") }
}

/// Where redis-cli looks for the password.
const PASSWORD: &str = "REDISCLI_AUTH";
/// As the terminal takes it.
const LONGEST_LINE: usize = 4096;
const CTRL_C: u8 = 3;

#[derive(Debug, Clone, Default, clap::Args)]
#[command(group = ArgGroup::new("secret").multiple(true))]
pub(crate) struct Login {
    /// The password; safer in the environment.
    #[arg(
        short = 'a',
        long = "pass",
        value_name = "PASSWORD",
        env = PASSWORD,
        hide_env_values = true,
        group = "secret"
    )]
    password: Option<String>,

    /// Ask for the password.
    #[arg(long, group = "secret")]
    askpass: bool,

    /// The ACL user; needs a password.
    #[arg(long, value_name = "NAME", requires = "secret")]
    pub(crate) user: Option<String>,
}

impl Login {
    /// Asks for the password, if that is wished.
    pub(crate) fn complete(&mut self) -> anyhow::Result<()> {
        if self.askpass {
            self.password = Some(ask()?);
        }
        Ok(())
    }

    /// As redis-rs has it.
    pub(crate) fn settings(&self) -> RedisConnectionInfo {
        let mut settings = RedisConnectionInfo::default();
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        settings
    }

    /// For another process of this program.
    pub(crate) fn name_to(&self, command: &mut Command) {
        match &self.password {
            Some(password) => command.env(PASSWORD, password),
            None => command.env_remove(PASSWORD),
        };
        if let Some(user) = &self.user {
            command.arg("--user").arg(user);
        }
    }

    /// On a connection that has just been made.
    pub(crate) fn log_in(&self, stream: &mut Stream) -> anyhow::Result<()> {
        let Some(password) = &self.password else { return Ok(()) };
        let mut words = vec!["AUTH"];
        words.extend(self.user.as_deref());
        words.push(password);
        let auth = Exchange::new(&words, b"+OK\r\n");
        auth.run(stream).context("the password was not accepted")
    }
}

/// A line of stdin; where that is a terminal, nobody sees it.
fn ask() -> anyhow::Result<String> {
    let mut line = String::new();
    if io::stdin().is_terminal() {
        line = ask_in_terminal()?;
    } else {
        io::stdin().read_line(&mut line)?;
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn ask_in_terminal() -> anyhow::Result<String> {
    let shown = tcgetattr(io::stdin())?;
    let mut hidden = shown.clone();
    // Ctrl-C ends the line, and not a program that has the terminal to put right.
    hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    hidden.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
    tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
    eprint!("Password: ");
    let mut line = vec![0; LONGEST_LINE];
    let read = rustix::io::read(io::stdin(), &mut line);
    tcsetattr(io::stdin(), OptionalActions::Now, &shown)?;
    eprintln!();
    line.truncate(read?);
    if line.ends_with(&[CTRL_C]) {
        return Err(Interrupted.into());
    }
    Ok(String::from_utf8(line)?)
}
