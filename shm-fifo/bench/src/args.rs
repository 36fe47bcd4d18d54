use crate::place;
use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Compares shm-fifo with what the machine allows and with other ways to carry messages
/// between two cores.
#[derive(Debug, Parser)]
pub struct Args {
    /// Times that everything is measured; what is reported are medians
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// One short round, to see that everything works
    #[arg(long)]
    pub quick: bool,
    /// Only those whose name begins with one of these
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Only this measurement
    #[arg(long, value_enum)]
    pub bench: Option<Bench>,
    /// The CPUs of the two ends [default: the first two this process may use]
    #[arg(long, value_name = "CPU,CPU", value_parser = parse_cpus)]
    cpus: Option<[usize; 2]>,
    /// Where fifo.json and fifo.svg are written
    #[arg(long, value_name = "DIRECTORY", default_value = "target/bench")]
    pub output: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// Round trips of one message
    Rtt,
    /// Messages one way, as many as possible
    Stream,
}

impl Args {
    pub fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds.into() }
    }

    /// The CPUs to pin to.
    pub fn cpus(&self) -> Result<[usize; 2]> {
        if let Some(cpus) = self.cpus {
            return Ok(cpus);
        }
        match place::allowed_cpus()?[..] {
            [near, far, ..] => Ok([near, far]),
            _ => bail!("two CPUs are needed, and this process may use one only"),
        }
    }

    /// How long one contender exchanges messages in one round.
    pub fn rtt_time(&self) -> Duration {
        Duration::from_millis(if self.quick { 1 } else { 20 })
    }

    /// How long the ruler is laid on between two measurements.
    pub fn ruler_time(&self) -> Duration {
        self.rtt_time() / 10
    }

    /// Bytes that one contender carries in one round: a multiple of every burst.
    pub fn stream_bytes(&self, message_bytes: usize) -> u64 {
        let mebibytes = match message_bytes {
            ..64 => 16,
            64..1024 => 64,
            1024..65536 => 256,
            _ => 512,
        };
        let divisor = if self.quick { 64 } else { 1 };
        (mebibytes << 20) / divisor
    }
}

fn parse_cpus(text: &str) -> Result<[usize; 2]> {
    let (near, far) = text.split_once(',').context("two numbers with a comma between them")?;
    Ok([near.parse()?, far.parse()?])
}
