//! `redis-shm latency`: PING round trips to a server that is running.

use crate::Answer;
use crate::args::LatencyArgs;
use crate::connect::{self, Target};
use crate::exchange::{self, Command};
use crate::interrupt::Interrupts;
use crate::report;
use crate::statistics::{Series, Summary};
use crate::transport::Transport;
use anyhow::{Context, bail};
use shm_fifo_redis_client::Stream;
use std::io::{self, IsTerminal};

/// So many between two looks at the clock and for Ctrl-C.
const BATCH: usize = 16;

pub(crate) fn run(args: &LatencyArgs) -> anyhow::Result<Answer> {
    let target = target(args)?;
    let mut stream = args.server.connect()?;
    if args.transport == Transport::Shm {
        stream = match connect::move_over(stream)? {
            Ok(stream) => stream,
            Err(refusal) => return Ok(Answer::No(refusal.to_string())),
        };
    }
    let series = measure(&mut stream, args)?;
    let summary = series.summary().context("no round trip was measured")?;
    let text = if io::stdout().is_terminal() {
        for_people(args.transport, &target, &series, &summary)
    } else {
        for_programs(args.transport, &summary)
    };
    report::print_text(&text)?;
    Ok(Answer::Yes)
}

fn target(args: &LatencyArgs) -> anyhow::Result<Target> {
    let target = args.server.endpoint.target();
    match (args.transport, &target) {
        (Transport::Unix, Target::Tcp { .. }) => {
            bail!("--transport unix needs the socket's path: -s PATH")
        }
        (Transport::Tcp, Target::Unix(_)) => {
            bail!("--transport tcp and -s contradict each other; use -h and -p")
        }
        _ => Ok(target),
    }
}

/// Until the time is over, the samples are enough or Ctrl-C, whatever is first.
fn measure(stream: &mut Stream, args: &LatencyArgs) -> anyhow::Result<Series> {
    let interrupts = Interrupts::catch().context("cannot catch signals")?;
    let ping = Command::Ping.exchange();
    let mut series = Series::new();
    let mut samples_ns = [0; BATCH];
    while series.elapsed() < args.duration && interrupts.check().is_ok() {
        let left = args.samples.map_or(u64::MAX, |samples| samples - series.count());
        let wanted = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
        if wanted == 0 {
            break;
        }
        let batch = &mut samples_ns[..wanted];
        exchange::time(batch, || ping.run(stream))?;
        series.record(batch);
    }
    Ok(series)
}

fn for_people(transport: Transport, target: &Target, series: &Series, summary: &Summary) -> String {
    let count = report::thousands(summary.count);
    let seconds = series.elapsed().as_secs_f64();
    let mut header = String::new();
    let mut values = String::new();
    for (name, us) in figures_us(summary) {
        header += &format!("{name:>10}");
        values += &format!("{us:>10.2}");
    }
    format!(
        "PING over {transport} to {target}, {count} round trips in {seconds:.1} s\n\
         {header}\n{values}  µs\n"
    )
}

/// One line of name=value pairs.
fn for_programs(transport: Transport, summary: &Summary) -> String {
    let mut line = format!("transport={transport} samples={}", summary.count);
    for (name, us) in figures_us(summary) {
        line += &format!(" {}_us={us:.3}", name.replace('.', ""));
    }
    line + "\n"
}

fn figures_us(summary: &Summary) -> [(&'static str, f64); 6] {
    let us = |ns: u64| ns as f64 / 1000.0;
    [
        ("min", us(summary.min_ns)),
        ("avg", summary.mean_ns / 1000.0),
        ("p50", us(summary.p50_ns)),
        ("p99", us(summary.p99_ns)),
        ("p99.9", us(summary.p999_ns)),
        ("max", us(summary.max_ns)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Series {
        let mut series = Series::new();
        series.record(&[1_000, 2_000, 3_000]);
        series
    }

    #[test]
    fn programs_get_one_line_of_pairs() {
        let summary = series().summary().expect("samples");
        let line = for_programs(Transport::Unix, &summary);
        let expected = "transport=unix samples=3 min_us=1.000 avg_us=2.000 p50_us=2.000 \
                        p99_us=3.000 p999_us=3.000 max_us=3.000\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn people_get_a_heading_and_columns() {
        let series = series();
        let target = Target::Unix("/run/redis.sock".into());
        let text =
            for_people(Transport::Shm, &target, &series, &series.summary().expect("samples"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "PING over shm to /run/redis.sock, 3 round trips in 0.0 s");
        assert!(lines[1].ends_with("p99.9       max"), "{text}");
        assert!(lines[2].ends_with("3.00      3.00  µs"), "{text}");
    }
}
