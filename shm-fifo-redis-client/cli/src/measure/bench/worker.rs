//! A client in a process of its own, which measures when a line on its stdin says
//! so and answers with a line of JSON. It ends with its stdin.

use super::engine::{Amount, Engine};
use super::script::{Script, Step};
use crate::Answer;
use crate::connect::Target;
use crate::cpu_time;
use crate::interrupt::Interrupts;
use crate::login::Login;
use crate::place::Place;
use crate::statistics::Series;
use crate::transport::Transport;
use anyhow::{Context, bail, ensure};
use redis::{ConnectionAddr, ConnectionLike, IntoConnectionInfo};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use shm_fifo_redis_client::{Address, Client, Sharing};
use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// Payloads of [`Job::Echo`] before they repeat.
const ECHOES: u64 = 256;
const LARGEST_ECHO_BYTES: usize = 300_000;
/// Between two commands of [`Job::Paced`].
const PACE: Duration = Duration::from_millis(1);

/// What the commands of a worker are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Job {
    /// PING, one at a time on each connection.
    Ping,
    /// PING, one at a time, a millisecond apart: each moment counts alike, those
    /// in which the answer comes late too.
    Paced,
    /// ECHO of 1 B to 300 kB.
    Echo,
    /// Connect, PING, close, as a program that leaves all else to the library.
    Connect,
    /// A script that takes as many loops as `--loops` says.
    Slow,
    /// Nothing: connections that stay silent.
    Idle,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WorkerArgs {
    #[arg(long, value_enum)]
    pub(crate) job: Job,
    #[arg(long, value_enum)]
    pub(crate) transport: Transport,
    #[arg(long)]
    pub(crate) socket: PathBuf,
    #[arg(long)]
    pub(crate) port: u16,
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 0)]
    pub(crate) loops: u64,
}

impl WorkerArgs {
    pub(crate) fn to_arguments(&self) -> Vec<OsString> {
        let pairs: [(&str, OsString); 6] = [
            ("--job", name_of(self.job).into()),
            ("--transport", self.transport.name().into()),
            ("--socket", self.socket.clone().into()),
            ("--port", self.port.to_string().into()),
            ("--connections", self.connections.to_string().into()),
            ("--loops", self.loops.to_string().into()),
        ];
        pairs.into_iter().flat_map(|(name, value)| [name.into(), value]).collect()
    }

    fn client(&self) -> anyhow::Result<Client> {
        let (address, sharing) = match self.transport {
            Transport::Tcp => {
                (ConnectionAddr::Tcp(Ipv4Addr::LOCALHOST.to_string(), self.port), Sharing::Never)
            }
            Transport::Unix => (ConnectionAddr::Unix(self.socket.clone()), Sharing::Never),
            Transport::Shm => (ConnectionAddr::Unix(self.socket.clone()), Sharing::Preferred),
        };
        let address = Address::try_from(address.into_connection_info()?)?;
        Ok(Client::open(address.with_sharing(sharing))?)
    }

    fn place(&self) -> Place {
        let host = Ipv4Addr::LOCALHOST.to_string();
        Place {
            tcp: Some(Target::Tcp { host, port: self.port }),
            unix: Some(Target::Unix(self.socket.clone())),
            login: Login::default(),
        }
    }
}

fn name_of(job: Job) -> String {
    use clap::ValueEnum;
    job.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A line to the worker: do so many requests, but no longer than this.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) requests: u64,
    pub(crate) at_most_ms: u64,
}

/// A line from the worker. The first one, when it is connected, is all zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) commands: u64,
    pub(crate) elapsed_ns: u64,
    pub(crate) cpu_ns: u64,
    /// Latencies in nanoseconds and how often each was seen.
    pub(crate) places: Vec<(u64, u64)>,
}

pub(crate) fn run(args: &WorkerArgs) -> anyhow::Result<Answer> {
    raise_file_limit();
    let mut work = Work::prepare(args)?;
    tell(&Findings::default())?;
    for line in io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?).context("an order that is none")?;
        tell(&work.follow(order)?)?;
    }
    Ok(Answer::Yes)
}

/// A thousand connections are more than the usual limit leaves room for. Where it
/// cannot be raised, connecting says so.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn tell(findings: &Findings) -> anyhow::Result<()> {
    let line = serde_json::to_string(findings)?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("nobody listens")
}

enum Work {
    Commands(Engine, Script),
    Paced(Engine, Script),
    Connect(Client),
}

impl Work {
    fn prepare(args: &WorkerArgs) -> anyhow::Result<Self> {
        let place = args.place();
        let script = match args.job {
            Job::Connect => return Ok(Self::Connect(args.client()?)),
            Job::Ping | Job::Paced | Job::Idle => Script::of(vec![Step::ping()], Vec::new(), 1, 0),
            Job::Echo => Script::echoes(LARGEST_ECHO_BYTES, ECHOES),
            Job::Slow => Script::of(vec![Step::busy_loop(args.loops)], Vec::new(), 1, 0),
        };
        let streams = place.connect_many(args.transport, args.connections)?;
        // Ctrl-C is the parent's; this process ends with its stdin.
        let engine = Engine::new(streams, Interrupts::ignore());
        Ok(match args.job {
            Job::Paced => Self::Paced(engine, script),
            _ => Self::Commands(engine, script),
        })
    }

    fn follow(&mut self, order: Order) -> anyhow::Result<Findings> {
        let mut series = Series::new();
        let at_most = Duration::from_millis(order.at_most_ms);
        let cpu_ns = cpu_time::own_ns();
        let (commands, elapsed) = match self {
            Self::Commands(engine, script) => {
                let requests = Amount::of_requests(order.requests, engine.connections(), 1);
                let done = engine.run(script, Amount { at_most, ..requests }, &mut series)?;
                (done.commands, done.elapsed)
            }
            Self::Paced(engine, script) => {
                run_paced(engine, script, order.requests, at_most, &mut series)?
            }
            Self::Connect(client) => {
                connect_again_and_again(client, order.requests, at_most, &mut series)?
            }
        };
        Ok(Findings {
            commands,
            elapsed_ns: u64::try_from(elapsed.as_nanos())?,
            cpu_ns: cpu_time::own_ns() - cpu_ns,
            places: series.places().collect(),
        })
    }
}

fn run_paced(
    engine: &mut Engine,
    script: &Script,
    requests: u64,
    at_most: Duration,
    series: &mut Series,
) -> anyhow::Result<(u64, Duration)> {
    let started = Instant::now();
    let mut done = 0;
    while done < requests && started.elapsed() < at_most {
        done += engine.run(script, Amount::of_requests(1, 1, 1), series)?.commands;
        thread::sleep(PACE);
    }
    Ok((done, started.elapsed()))
}

fn connect_again_and_again(
    client: &Client,
    requests: u64,
    at_most: Duration,
    series: &mut Series,
) -> anyhow::Result<(u64, Duration)> {
    let started = Instant::now();
    let mut before = started;
    let mut done = 0;
    while done < requests && before - started < at_most {
        let mut connection = client.get_lazy_connection()?;
        ensure!(connection.check_connection(), "PING was not answered");
        drop(connection);
        let after = Instant::now();
        series.record(&[u64::try_from((after - before).as_nanos())?]);
        before = after;
        done += 1;
    }
    if done == 0 {
        bail!("nothing was asked for");
    }
    Ok((done, before - started))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        worker: WorkerArgs,
    }

    #[test]
    fn arguments_come_through_the_command_line() {
        let args = WorkerArgs {
            job: Job::Slow,
            transport: Transport::Shm,
            socket: "/a b".into(),
            port: 7,
            connections: 50,
            loops: 9,
        };
        let line = Line::parse_from([OsString::from("x")].into_iter().chain(args.to_arguments()));
        assert_eq!(line.worker.job, args.job);
        assert_eq!(line.worker.transport, args.transport);
        assert_eq!(line.worker.socket, args.socket);
        assert_eq!((line.worker.connections, line.worker.loops), (50, 9));
    }

    #[test]
    fn findings_come_through_the_pipe() {
        let findings =
            Findings { commands: 3, elapsed_ns: 4, cpu_ns: 5, places: vec![(10, 2), (20, 1)] };
        let line = serde_json::to_string(&findings).expect("serialisable");
        assert_eq!(serde_json::from_str::<Findings>(&line).expect("the same"), findings);
    }
}
