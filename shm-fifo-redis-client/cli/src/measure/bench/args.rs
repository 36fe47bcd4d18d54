//! The command line of `redis-shm bench`, in redis-benchmark's habits.

use super::conditions::Condition;
use super::script::Load;
use crate::measure::place::ServerArgs;
use crate::transport::Transport;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use std::path::PathBuf;

const SWEEP: &str = "Sweep";
pub(crate) const SERVER: &str = "Server";
const OUTPUT: &str = "Output";

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct BenchArgs {
    /// PING under these conditions instead, or all: two-cores, one-core, busy-cores,
    /// oversubscribed, idle-connections, clients-50, processes-20, bgsave, cpu-quota,
    /// slow-commands, connect.
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "LIST",
        num_args = 0..,
        value_delimiter = ',',
        conflicts_with_all = ["clients", "pipeline", "data", "tests", "keyspace", "threads", "csv",
                              "plots", "cpu", "server_cpu", "host", "port", "socket"]
    )]
    pub(crate) conditions: Option<Vec<Condition>>,

    /// tcp, unix, shm: what carries the commands [default: all there are].
    #[arg(
        long,
        value_enum,
        value_name = "LIST",
        hide_possible_values = true,
        value_delimiter = ','
    )]
    pub(crate) transport: Vec<Transport>,

    /// Requests in each measurement [default: 20000; of --conditions, 1 s].
    #[arg(short = 'n', long, value_name = "N", value_parser = from_1_to(1_000_000_000))]
    pub(crate) requests: Option<u64>,

    /// Measurements of each kind; the medians are reported.
    #[arg(long, value_name = "R", default_value_t = 5, value_parser = from_1_to(1000))]
    pub(crate) rounds: u64,

    /// Numbers of connections.
    #[arg(short = 'c', long, value_name = "LIST", value_delimiter = ',', default_value = "1,10,50", value_parser = from_1_to(10_000), help_heading = SWEEP)]
    pub(crate) clients: Vec<u64>,

    /// Pipeline depths.
    #[arg(short = 'P', long, value_name = "LIST", value_delimiter = ',', default_value = "1,2,4,8,16,32,64,128,256,512,1024,10000", value_parser = from_1_to(1_000_000), help_heading = SWEEP)]
    pub(crate) pipeline: Vec<u64>,

    /// Sizes in bytes of the values of SET and GET.
    #[arg(short = 'd', long, value_name = "LIST", value_delimiter = ',', default_value = "3", value_parser = from_1_to(8 << 20), help_heading = SWEEP)]
    pub(crate) data: Vec<u64>,

    /// ping, set, get, or mixed: all three, 3 B to 64 KiB.
    #[arg(short = 't', long, value_enum, hide_possible_values = true, value_name = "LIST", value_delimiter = ',', default_value = "ping,set,get,mixed", ignore_case = true, help_heading = SWEEP)]
    pub(crate) tests: Vec<Load>,

    /// SET and GET random keys of so many, instead of one key.
    #[arg(short = 'r', long, value_name = "N", default_value_t = 0, help_heading = SWEEP)]
    pub(crate) keyspace: u64,

    /// Threads that share the connections.
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = from_1_to(256), help_heading = SWEEP)]
    pub(crate) threads: u64,

    /// The CPUs for the client.
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = SWEEP)]
    pub(crate) cpu: Vec<usize>,

    /// The CPUs for a server that is started.
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with_all = ["host", "port", "socket"], help_heading = SERVER)]
    pub(crate) server_cpu: Vec<usize>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// One line for each result, no tables.
    #[arg(short = 'q', long, help_heading = OUTPUT)]
    pub(crate) quiet: bool,

    /// The results as CSV, no tables.
    #[arg(long, conflicts_with = "quiet", help_heading = OUTPUT)]
    pub(crate) csv: bool,

    /// Write the results there, as an array of JSON objects.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) json: Option<PathBuf>,

    /// Draw throughput and latency there, as SVG and PNG.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath, help_heading = OUTPUT)]
    pub(crate) plots: Option<PathBuf>,

    // Not in the help, which is long enough: who reads it has found it.
    #[arg(long, action = clap::ArgAction::HelpShort, hide = true)]
    help: Option<bool>,
}

fn from_1_to(most: u64) -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..=most)
}

impl BenchArgs {
    /// As the command line `redis-shm bench WORDS` has them.
    pub(crate) fn of(words: &str) -> Self {
        #[derive(clap::Parser)]
        #[command(no_binary_name = true, disable_help_flag = true)]
        struct Line {
            #[command(flatten)]
            bench: BenchArgs,
        }
        Line::parse_from(words.split_whitespace()).bench
    }
}
