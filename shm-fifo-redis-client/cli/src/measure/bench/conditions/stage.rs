//! One condition set up: a server, client processes, and what goes on beside them.

use super::super::args::BenchArgs;
use super::super::quota::Quota;
use super::super::worker::{Job, Order, WorkerArgs};
use super::Condition;
use super::crew::Crew;
use super::disturbance::{self, Disturbance};
use super::row::{Round, Row};
use crate::child::Confinement;
use crate::cpu_time;
use crate::interrupt::Interrupts;
use crate::place::{Place, Programs};
use crate::server::PrivateServer;
use crate::transport::Transport;
use anyhow::Context;
use indicatif::ProgressBar;
use std::time::Duration;

/// Before each measurement, not counted: the others had their turn.
const WARM_UP_MS: u64 = 150;
const MEASURE_MS: u64 = 1_000;
/// What goes on beside it lasts longer, or its last moments would be undisturbed.
const MARGIN_MS: u64 = 500;

/// A condition, or one variant of it.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) name: String,
    condition: Condition,
    /// What carries the slow commands.
    slow: Option<Transport>,
}

impl Scene {
    pub(crate) fn of(condition: Condition) -> Vec<Self> {
        if condition == Condition::SlowCommands {
            let over = |transport| Self {
                name: format!("{condition}-over-{transport}"),
                condition,
                slow: Some(transport),
            };
            return vec![over(Transport::Unix), over(Transport::Shm)];
        }
        vec![Self { name: condition.name(), condition, slow: None }]
    }

    fn job(&self) -> Job {
        match self.condition {
            Condition::Processes20 => Job::Echo,
            Condition::Connect => Job::Connect,
            Condition::SlowCommands => Job::Paced,
            _ => Job::Ping,
        }
    }

    fn connections(&self) -> usize {
        if self.condition == Condition::Clients50 { 50 } else { 1 }
    }

    fn processes(&self) -> usize {
        if self.condition == Condition::Processes20 { 20 } else { 1 }
    }
}

/// Everything that runs, in the order in which it is to end.
#[derive(Debug)]
pub(crate) struct Stage {
    name: String,
    crews: Vec<(Transport, Crew, Vec<Round>)>,
    disturbances: Vec<Disturbance>,
    place: Place,
    server: PrivateServer,
    _quota: Option<Quota>,
}

impl Stage {
    /// Sets the scene up, or says why that is not possible here.
    pub(crate) fn set(
        scene: &Scene,
        programs: &Programs,
        transports: &[Transport],
        interrupts: &Interrupts,
    ) -> anyhow::Result<Result<Self, String>> {
        interrupts.check()?;
        let cpus = disturbance::cpus()?;
        let mut confinement = Confinement::default();
        let mut quota = None;
        match scene.condition {
            Condition::TwoCores if cpus.len() < 2 => {
                return Ok(Err("this program may use one CPU only".to_owned()));
            }
            // Interrupts are often served by the first one.
            Condition::OneCore => confinement.cpus.extend(cpus.last()),
            Condition::CpuQuota => match Quota::of_one_core() {
                Ok(made) => {
                    confinement.cgroup = Some(made.directory().to_owned());
                    quota = Some(made);
                }
                Err(reason) => return Ok(Err(format!("{reason:#}"))),
            },
            _ => {}
        }
        let server = programs.start(&confinement, interrupts)?;
        let place = Place::of(&server);
        let args = |transport| WorkerArgs {
            job: scene.job(),
            transport,
            socket: server.socket(),
            port: server.port(),
            connections: scene.connections(),
            loops: 0,
        };
        let crew = |&transport: &Transport| {
            let crew = Crew::start(scene.processes(), &args(transport), &confinement)?;
            Ok((transport, crew, Vec::new()))
        };
        let crews = transports.iter().map(crew).collect::<anyhow::Result<_>>()?;
        let disturbances = disturbances(scene, &place, &args(Transport::Shm))?;
        let name = scene.name.clone();
        Ok(Ok(Self { name, crews, disturbances, place, server, _quota: quota }))
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// All rounds, transports in turns.
    pub(crate) fn measure(
        &mut self,
        args: &BenchArgs,
        progress: &ProgressBar,
        interrupts: &Interrupts,
    ) -> anyhow::Result<Vec<Row>> {
        let requests = args.requests.unwrap_or(u64::MAX / 2);
        for round in 0..usize::try_from(args.rounds)? {
            for step in 0..self.crews.len() {
                interrupts.check()?;
                // Nobody always follows the same one.
                let index = (step + round) % self.crews.len();
                self.measure_once(index, requests)
                    .with_context(|| format!("{} over {}", self.name, self.crews[index].0))?;
                progress.inc(1);
            }
        }
        let row = |(transport, _, rounds): &(Transport, Crew, Vec<Round>)| {
            Row::of(&self.name, *transport, rounds).context("no round was measured")
        };
        self.crews.iter().map(row).collect()
    }

    fn measure_once(&mut self, index: usize, requests: u64) -> anyhow::Result<()> {
        let lasting = Duration::from_millis(WARM_UP_MS + MEASURE_MS + MARGIN_MS);
        for disturbance in &mut self.disturbances {
            disturbance.begin(lasting)?;
        }
        let (_, crew, rounds) = &mut self.crews[index];
        crew.work(Order { requests: requests.div_ceil(10), at_most_ms: WARM_UP_MS })?;
        let pid = self.server.pid();
        let before_ns = cpu_time::of_process_ns(pid)?;
        let together = crew.work(Order { requests, at_most_ms: MEASURE_MS })?;
        let server_cpu_ns = cpu_time::of_process_ns(pid)?.saturating_sub(before_ns);
        rounds.push(Round {
            summary: together.series.summary().context("nothing was measured")?,
            commands: together.commands,
            commands_per_s: together.commands_per_s,
            server_cpu_ns,
            client_cpu_ns: together.cpu_ns,
        });
        for disturbance in &mut self.disturbances {
            disturbance.finish()?;
        }
        Ok(())
    }
}

/// What goes on beside the clients.
fn disturbances(
    scene: &Scene,
    place: &Place,
    args: &WorkerArgs,
) -> anyhow::Result<Vec<Disturbance>> {
    Ok(match scene.condition {
        Condition::BusyCores => vec![Disturbance::busy(1)?],
        Condition::Oversubscribed => vec![Disturbance::busy(2)?],
        Condition::IdleConnections => vec![Disturbance::idle(args.clone())?],
        Condition::Bgsave => vec![Disturbance::saving(place)?],
        Condition::SlowCommands => {
            let transport = scene.slow.unwrap_or(Transport::Shm);
            vec![Disturbance::slow(place, transport, args.clone())?]
        }
        _ => Vec::new(),
    })
}
