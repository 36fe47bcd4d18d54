//! The command line of `redis-shm report`.

use super::section::Section;
use crate::measure::place::ServerArgs;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct ReportArgs {
    /// Where the page goes.
    #[arg(short = 'o', long, value_name = "FILE", default_value = "redis-shm-report.html")]
    pub(crate) output: PathBuf,

    /// Requests in each measurement [default: 20000; with --update as each section says].
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) requests: Option<u64>,

    /// Measurements of each kind; the medians are reported [default: 3; with --update 5].
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) rounds: Option<u64>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// No page: measure what these Markdown files have marks for, and write it there.
    #[arg(long, value_name = "FILES", num_args = 1.., conflicts_with_all = ["output", "host", "port", "socket"], help_heading = "Documents")]
    pub(crate) update: Vec<PathBuf>,

    /// These sections of the files alone.
    #[arg(
        long,
        value_enum,
        value_name = "LIST",
        value_delimiter = ',',
        requires = "update",
        help_heading = "Documents"
    )]
    pub(crate) only: Vec<Section>,

    /// Write the plots into this directory, as SVG, and beside each what it is drawn from, as JSON.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath, requires = "update", help_heading = "Documents")]
    pub(crate) plots: Option<PathBuf>,

    /// Measure nothing: draw these JSON files of --plots again, each beside itself.
    #[arg(long, value_name = "FILES", num_args = 1.., conflicts_with_all = ["output", "requests", "rounds", "update", "host", "port", "socket"], help_heading = "Documents")]
    pub(crate) draw: Vec<PathBuf>,

    /// Print help.
    #[arg(long, action = clap::ArgAction::HelpShort, help_heading = None)]
    help: Option<bool>,
}
