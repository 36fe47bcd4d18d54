//! `redis-shm bench`: throughput and latency over pipeline depths, numbers of
//! clients and commands, or under conditions that make waiting hard.

pub(crate) mod args;
pub(crate) mod child;
mod conditions;
mod cpu_time;
mod engine;
mod example;
mod measure;
mod median;
mod output;
mod place;
mod plot;
pub(crate) mod quota;
mod row;
mod script;
mod sweep;
mod table;
mod worker;

use crate::Answer;
use crate::interrupt::Interrupts;
use crate::machine::Machine;
use crate::report;
use crate::server::PrivateServer;
use anyhow::Context;
use args::BenchArgs;
use child::Confinement;
use indicatif::{ProgressBar, ProgressStyle};
pub(crate) use output::{check_file, write_json};
use place::{NotShared, Place, Programs};
use redis::IntoConnectionInfo;

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<Answer> {
    let interrupts = Interrupts::catch().context("cannot catch signals")?;
    if let Some(chosen) = &args.conditions {
        return conditions::run(args, chosen, &interrupts);
    }
    match run_sweep(args, &interrupts) {
        Err(error) if error.is::<NotShared>() => Ok(Answer::No(format!("{error:#}"))),
        done => done.map(|()| Answer::Yes),
    }
}

fn run_sweep(args: &BenchArgs, interrupts: &Interrupts) -> anyhow::Result<()> {
    output::check_paths(args)?;
    let (place, server) = server(args, interrupts)?;
    let heading = Heading { machine: Machine::this(), server: server_info(&place)? };
    let results = sweep::run(args, &place, interrupts)?;
    drop(server);
    output::write(args, &heading, &results)
}

/// The server that is named, or one of our own.
fn server(
    args: &BenchArgs,
    interrupts: &Interrupts,
) -> anyhow::Result<(Place, Option<PrivateServer>)> {
    if args.names_a_server() {
        return Ok((Place::named(args), None));
    }
    let server = Programs::find(args)?.start(&Confinement::default(), interrupts)?;
    Ok((Place::of(&server), Some(server)))
}

/// What the figures were measured on.
#[derive(Debug)]
struct Heading {
    machine: Machine,
    server: report::ServerInfo,
}

impl std::fmt::Display for Heading {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}, {}", self.server, self.machine)
    }
}

fn server_info(place: &Place) -> anyhow::Result<report::ServerInfo> {
    use crate::connect::Target;
    use redis::ConnectionAddr;
    let target = place.unix.as_ref().or(place.tcp.as_ref()).context("the server has no address")?;
    let address = match target {
        Target::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
        Target::Unix(path) => ConnectionAddr::Unix(path.clone()),
    };
    let mut settings = redis::RedisConnectionInfo::default();
    if let Some(password) = &place.password {
        settings = settings.set_password(password);
    }
    let info = address.into_connection_info()?.set_redis_settings(settings);
    let mut connection = redis::Client::open(info)?
        .get_connection()
        .with_context(|| format!("cannot connect to {target}"))?;
    let info: String = redis::cmd("INFO").arg("server").query(&mut connection)?;
    Ok(report::ServerInfo::from_info(&info))
}

/// Drawn between measurements only: a thread that keeps a bar moving would take
/// its time from what is measured. Without a terminal it draws nothing.
fn progress_bar(args: &BenchArgs, measurements: u64) -> anyhow::Result<ProgressBar> {
    if args.quiet {
        return Ok(ProgressBar::hidden());
    }
    let style =
        ProgressStyle::with_template("  {msg:36} {bar:24.cyan} {percent:>3} %  {eta} left")?;
    let progress = ProgressBar::new(measurements).with_style(style);
    progress.tick();
    Ok(progress)
}
