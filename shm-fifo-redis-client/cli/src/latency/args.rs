//! The command line of `redis-shm latency`, in redis-cli's habits.

use crate::args::seconds;
use crate::running::RunningServer;
use crate::transport::Transport;
use clap::builder::Resettable;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

const NOTES: &str = "\
Exit codes: 0 done, also by Ctrl-C, 1 shared memory cannot be used there, 2 an error, \
130 Ctrl-C before --duration or --samples is over; the results so far are printed.

A pause lets both sides fall asleep: each figure has the waking up of a CPU in it, over every \
transport. With --sample-rate 0 they stay awake: the round trip of a busy connection.

Where stdout is no terminal: lines of name=value pairs, a plain run of 3 s.";

const HOUR_US: u64 = 3_600_000_000;

const SERVER: &str = "Server";
const OUTPUT: &str = "Output";

#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = NOTES,
    next_help_heading = SERVER,
    // Both are addresses of the one server.
    mut_arg("socket", |socket| socket.conflicts_with(Resettable::Reset).help("Its unix socket"))
)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    pub(crate) server: RunningServer,

    /// What carries the PINGs.
    #[arg(long, value_enum, default_value_t = Transport::Shm, help_heading = None)]
    pub(crate) transport: Transport,

    /// All transports in turns, side by side.
    #[arg(long, conflicts_with_all = ["transport", "lines"], help_heading = None)]
    pub(crate) compare: bool,

    /// A line for each interval: the figures.
    #[arg(long, group = "lines", help_heading = None)]
    pub(crate) history: bool,

    /// A line for each interval: a spectrum.
    #[arg(long, group = "lines", help_heading = None)]
    pub(crate) dist: bool,

    /// The interval [default: 15; of --dist 1].
    #[arg(short = 'i', long, value_name = "SECONDS", requires = "lines", value_parser = seconds, help_heading = None)]
    pub(crate) interval: Option<Duration>,

    /// Pause before each sample, in µs; 0: as fast as it can [default: 10000; of
    /// --compare 0].
    #[arg(long, value_name = "US", value_parser = clap::value_parser!(u64).range(..=HOUR_US), help_heading = None)]
    pub(crate) sample_rate: Option<u64>,

    /// How long to measure [default: until Ctrl-C].
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = None)]
    pub(crate) duration: Option<Duration>,

    /// How many to measure over each transport.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = None)]
    pub(crate) samples: Option<u64>,

    /// The results as CSV, instead of text.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) csv: bool,

    /// Write the results there, an array of JSON objects.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) json: Option<PathBuf>,

    /// Write the percentiles there, as HdrHistogram does, in µs.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) hgrm: Option<PathBuf>,

    /// Print help.
    #[arg(long, action = clap::ArgAction::HelpShort, help_heading = OUTPUT)]
    help: Option<bool>,
}

/// Whom the results on stdout are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// People, refreshed in place.
    Terminal,
    /// Programs: lines of name=value pairs.
    Pairs,
    Csv,
}

impl LatencyArgs {
    pub(crate) fn output(&self) -> Output {
        match self.csv {
            true => Output::Csv,
            false if io::stdout().is_terminal() => Output::Terminal,
            false => Output::Pairs,
        }
    }

    /// Whether it ends by itself.
    pub(crate) fn has_an_end(&self) -> bool {
        self.samples.is_some() || self.longest().is_some()
    }

    /// A plain run that nobody looks at must not go on for ever.
    pub(crate) fn longest(&self) -> Option<Duration> {
        let plain = !self.history && !self.dist && self.samples.is_none();
        let unseen = self.output() != Output::Terminal;
        self.duration.or((plain && unseen).then_some(Duration::from_secs(3)))
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval.unwrap_or(Duration::from_secs(if self.dist { 1 } else { 15 }))
    }

    /// The pause before each sample: redis-cli's, but for what redis-cli cannot do.
    pub(crate) fn sample_rate_us(&self) -> u64 {
        self.sample_rate.unwrap_or(if self.compare { 0 } else { 10_000 })
    }
}
