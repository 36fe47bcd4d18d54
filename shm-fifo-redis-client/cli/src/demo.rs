//! `redis-shm demo`: the three transports side by side, on a server of its own.

mod neighbours;

use crate::Answer;
use crate::args::DemoArgs;
use crate::child::Confinement;
use crate::connect::REPLY_TIMEOUT;
use crate::exchange::{self, Command};
use crate::files;
use crate::interrupt::Interrupts;
use crate::place::{Place, Programs};
use crate::report::{self, Heading, Report, Row};
use crate::statistics::Series;
use crate::transport::Transport;
use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use neighbours::Neighbours;
use redis::ConnectionLike;
use shm_fifo_redis_client::{Client, Stream};

/// So many requests in a row before it is the next one's turn: slow changes of
/// the machine then meet all transports alike.
const BATCH_REQUESTS: u64 = 2_000;
/// Requests before each batch that do not count: the others had their turn, and
/// caches and waiting policies have to find back.
const WARM_UP_REQUESTS: u64 = 200;

/// What is going to happen, for who sees it for the first time.
const INTRODUCTION: &str = "\
How long until a command is answered? This starts a redis-server of its own
with the shm module and sends it PING, SET and GET, one at a time: over TCP
(loopback), over a unix socket, and over shared memory (shm), by a minimal
client and by redis-rs. All take turns, so that they meet the same machine.
Ctrl-C ends it and leaves nothing.
";
/// What to do with what was seen.
const OUTLOOK: &str = "\
Is a server of yours used like this? redis-shm doctor -s PATH tells, and what
to do.
";

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<Answer> {
    let interrupts = Interrupts::catch().context("cannot catch signals")?;
    let programs = Programs::find(&args.server, args.module.as_deref())?;
    files::make_directory(&args.output)?;
    report::print_text(INTRODUCTION)?;
    let server = programs.start(&Confinement::default(), &interrupts)?;
    let neighbours = Neighbours::watch(server.pid());
    let kinds = [ClientKind::Raw, ClientKind::RedisRs];
    let report = measure(&Place::of(&server), &kinds, args.requests, &interrupts);
    let report = interrupts.explain(report)?;
    let neighbours = neighbours.to_tell();
    drop(server);
    let written = report::write_files(&report, &args.output)?;
    report::print(&report, &written)?;
    report::print_text(&format!("\n{}{OUTLOOK}", neighbours.unwrap_or_default()))?;
    Ok(Answer::Yes)
}

/// Round trips by clients of these kinds, over all transports that lead there.
pub(crate) fn measure(
    place: &Place,
    kinds: &[ClientKind],
    requests: u64,
    interrupts: &Interrupts,
) -> anyhow::Result<Report> {
    let heading = Heading::of(place.server_info()?);
    let transports = place.transports(&[])?;
    let of_kind =
        |&kind| transports.iter().map(move |&transport| Run::start(place, kind, transport));
    let mut runs = kinds.iter().flat_map(of_kind).collect::<anyhow::Result<Vec<Run>>>()?;
    let rounds = requests.div_ceil(BATCH_REQUESTS);
    let progress = progress_bar(rounds * (Command::ALL.len() * runs.len()) as u64)?;
    for round in 0..rounds {
        let batch = BATCH_REQUESTS.min(requests - round * BATCH_REQUESTS);
        for command in Command::ALL {
            for run in &mut runs {
                run.measure(command, batch)?;
                interrupts.check()?;
                progress.inc(1);
            }
        }
        // Nobody always follows the same one.
        runs.reverse();
    }
    progress.finish_and_clear();
    Ok(Report {
        heading,
        results: rows(&runs, ClientKind::Raw),
        redis_rs: rows(&runs, ClientKind::RedisRs),
    })
}

/// Drawn between batches only: a thread that keeps a bar moving would take its
/// time from what is measured. Without a terminal it draws nothing.
fn progress_bar(batches: u64) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template(
        "  measuring tcp, unix and shm in turns {bar:30.cyan} {percent:>3} %  {eta} left",
    )?;
    let progress = ProgressBar::new(batches).with_style(style);
    progress.tick();
    Ok(progress)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientKind {
    /// The minimal loop of [`exchange::Exchange`].
    Raw,
    RedisRs,
}

/// One client over one transport, and what it measured.
struct Run {
    kind: ClientKind,
    transport: Transport,
    client: Box<dyn Timed>,
    series: [(Command, Series); 3],
}

impl Run {
    fn start(place: &Place, kind: ClientKind, transport: Transport) -> anyhow::Result<Self> {
        let client: Box<dyn Timed> = match (kind, transport) {
            (ClientKind::Raw, _) => Box::new(RawClient(place.connect(transport)?)),
            (ClientKind::RedisRs, Transport::Shm) => {
                let client = Client::open(place.connection_info(transport)?)?;
                let client = client.require_shared_memory(true).response_timeout(REPLY_TIMEOUT);
                Box::new(RedisRsClient(client.get_connection_with_timeout(REPLY_TIMEOUT)?))
            }
            (ClientKind::RedisRs, _) => {
                let client = redis::Client::open(place.connection_info(transport)?)?;
                let connection = client.get_connection()?;
                connection.set_read_timeout(Some(REPLY_TIMEOUT))?;
                Box::new(RedisRsClient(connection))
            }
        };
        let series = Command::ALL.map(|command| (command, Series::new()));
        Ok(Self { kind, transport, client, series })
    }

    fn measure(&mut self, command: Command, requests: u64) -> anyhow::Result<()> {
        let mut samples_ns = vec![0; usize::try_from(WARM_UP_REQUESTS + requests)?];
        self.client
            .time(command, &mut samples_ns)
            .with_context(|| format!("{command} over {}", self.transport))?;
        let warm_up = usize::try_from(WARM_UP_REQUESTS)?;
        for (measured, series) in &mut self.series {
            if *measured == command {
                series.record(&samples_ns[warm_up..]);
            }
        }
        Ok(())
    }
}

/// Something that runs a command again and again.
trait Timed {
    /// Fills `samples_ns` with round trips of `command`.
    fn time(&mut self, command: Command, samples_ns: &mut [u64]) -> anyhow::Result<()>;
}

struct RawClient(Stream);

impl Timed for RawClient {
    fn time(&mut self, command: Command, samples_ns: &mut [u64]) -> anyhow::Result<()> {
        let exchange = command.exchange();
        Ok(exchange::time(samples_ns, || exchange.run(&mut self.0))?)
    }
}

struct RedisRsClient<C>(C);

impl<C: ConnectionLike> Timed for RedisRsClient<C> {
    fn time(&mut self, command: Command, samples_ns: &mut [u64]) -> anyhow::Result<()> {
        exchange::time(samples_ns, || {
            let [name, arguments @ ..] = command.words() else {
                unreachable!("a command has a name")
            };
            let answer: redis::RedisResult<String> =
                redis::cmd(name).arg(arguments).query(&mut self.0);
            // Its text holds that of its source already.
            let answer = answer.map_err(|error| anyhow!("{error}"))?;
            if answer == command.answer() {
                Ok(())
            } else {
                Err(anyhow!("the server answered {answer:?}"))
            }
        })
    }
}

fn rows(runs: &[Run], kind: ClientKind) -> Vec<Row> {
    let mut rows = Vec::new();
    for command in Command::ALL {
        for transport in Transport::ALL {
            let of_this = |run: &&Run| run.kind == kind && run.transport == transport;
            let series = runs.iter().filter(of_this).flat_map(|run| &run.series);
            let summaries = series
                .filter(|(measured, _)| *measured == command)
                .filter_map(|(_, series)| series.summary());
            rows.extend(summaries.map(|summary| Row::new(transport, command, &summary)));
        }
    }
    rows
}
