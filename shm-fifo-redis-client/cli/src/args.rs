//! The command line.

use crate::child::ChildArgs;
use crate::conformance::ConformanceArgs;
use crate::doctor::DoctorArgs;
use crate::exec::endpoints::Endpoints;
use crate::generate::GenerateArgs;
use crate::latency::args::LatencyArgs;
use crate::login::Login;
#[cfg(feature = "measure")]
use crate::measure::{bench::args::BenchArgs, publish::args::ReportArgs};
use crate::stat::StatArgs;
use clap::ValueHint;
use clap::builder::styling::{AnsiColor, Styles};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold());

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the answer is no (shared memory cannot be used there; \
    exec --strict: not by that program), 2 an error, 130 interrupted. exec becomes the program, \
    whose exit code it is then.";

const MEASURING_CODES: &str =
    "Exit codes: 0 done, 1 shared memory cannot be used there, 2 an error, 130 interrupted.";
const EXEC_CODES: &str = "Exit codes: the program's own; 1 with --strict where it cannot be served, 2 if it cannot be run.";

/// Redis over shared memory: see it, measure it, give it to any program.
#[derive(Debug, clap::Parser)]
#[command(name = "redis-shm", version, styles = STYLES, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Subcommand {
    /// Measure PING, SET and GET over TCP, unix socket and shared memory.
    ///
    /// Starts a private redis-server with the module, measures the three
    /// transports in turns, prints the results, writes them into a directory,
    /// and stops the server.
    #[command(after_help = MEASURING_CODES)]
    Demo(DemoArgs),
    /// Measure the round trip of PING to a running server, as redis-cli --latency does.
    Latency(LatencyArgs),
    #[cfg(feature = "measure")]
    /// Measure throughput and latency over depths, clients and commands, or under conditions.
    ///
    /// Depths of the pipeline, numbers of clients, and commands are swept; or PING is
    /// measured under conditions that make waiting hard.
    ///
    /// Starts a private redis-server with the module, unless -s, -h or -p names
    /// one that is running.
    #[command(after_help = MEASURING_CODES)]
    Bench(Box<BenchArgs>),
    #[cfg(feature = "measure")]
    /// Measure a server and write the result as one page to show to others.
    ///
    /// Starts a private redis-server with the module, unless -s, -h or -p names one
    /// that is running. The page names the machine, but neither hosts nor users nor
    /// paths.
    #[command(after_help = MEASURING_CODES)]
    Report(Box<ReportArgs>),
    /// Run a program with its connections to Redis on shared memory.
    ///
    /// The program is not changed and need not know. Each of its connections to a server
    /// that is named here, or in SHM_FIFO_ENDPOINTS, moves after a few commands, if the
    /// server has the module; everything else it does is untouched. So are those of the
    /// programs that it starts. -s, -h and -p may be repeated. For example:
    /// redis-shm exec -s /run/redis.sock -p 7000-7005 -- python3 app.py
    #[command(after_help = EXEC_CODES)]
    Exec(ExecArgs),
    /// Say whether shared memory is used from here, and why not.
    ///
    /// Tries it on a connection of its own, and looks at the server, its module and
    /// this machine. What is not as it should be comes with what to do.
    Doctor(DoctorArgs),
    /// Watch what a server's shared memory does, a line at a time.
    ///
    /// Connections, commands, doorbells and spinning, from INFO. The first line's
    /// rates are averages since the server's start. Where stdout is no terminal, a
    /// line is name=value pairs.
    Stat(StatArgs),
    /// Look whether a client, in whatever language, keeps to the protocol.
    ///
    /// Plays a server that offers shared memory, once for each scenario, and runs a program
    /// that connects to it: good moves, late answers, refusals, memory that must not be used,
    /// doorbells of all kinds, ends at any moment, and a server that breaks the protocol.
    Conformance(ConformanceArgs),
    /// Write man pages and completions, for make install.
    #[command(hide = true)]
    Generate(GenerateArgs),
    /// A part of bench in a process of its own.
    #[command(hide = true)]
    Child(ChildArgs),
}

impl Subcommand {
    /// Of those that connect to a server that is running.
    pub(crate) fn login(&mut self) -> Option<&mut Login> {
        match self {
            Self::Latency(args) => Some(&mut args.server.login),
            #[cfg(feature = "measure")]
            Self::Bench(args) => Some(&mut args.server.login),
            #[cfg(feature = "measure")]
            Self::Report(args) => Some(&mut args.server.login),
            Self::Doctor(args) => Some(&mut args.server.login),
            Self::Stat(args) => Some(&mut args.server.login),
            Self::Demo(_)
            | Self::Exec(_)
            | Self::Conformance(_)
            | Self::Generate(_)
            | Self::Child(_) => None,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Requests measured for each transport and command.
    #[arg(long, value_name = "N", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) requests: u64,

    /// Where its files go: the results as JSON, and drawn.
    #[arg(long, value_name = "DIR", default_value = "redis-shm-demo", value_hint = ValueHint::DirPath)]
    pub(crate) output: PathBuf,

    /// The server to start: a name in PATH or a path; valkey-server works too.
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    pub(crate) server: PathBuf,

    /// The module to load [default: the one that came with this program].
    #[arg(long, value_name = "PATH", env = "SHM_FIFO_MODULE")]
    pub(crate) module: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) endpoints: Endpoints,

    /// Do not run a program whose file shows that nothing can be preloaded into it, or that
    /// it goes past the C library: say why, and exit with 1. What moves, --verbose says.
    #[arg(long)]
    pub(crate) strict: bool,

    /// Each process says on stderr, at its exit, how many connections moved and why not all.
    #[arg(long)]
    pub(crate) verbose: bool,

    /// A connection begins to move after so many answered commands, 1 at least [default: 16].
    #[arg(long, value_name = "COMMANDS")]
    pub(crate) after: Option<u64>,

    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    /// The program and its arguments.
    #[arg(
        value_name = "PROGRAM",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_hint = ValueHint::CommandWithArguments
    )]
    pub(crate) command: Vec<OsString>,
}

/// A time as a number of seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be greater than 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn seconds_are_positive_numbers() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "inf", "NaN", "3s", ""] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
    }
}
