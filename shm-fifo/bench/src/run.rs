//! All measurements, interleaved: what the machine does meanwhile hits everyone alike.

use crate::args::{Args, Bench};
use crate::measure::RoundTrips;
use crate::row::{Row, median};
use crate::suite::{Contender, RTT_BYTES, STREAM_BYTES};
use anyhow::{Context, Result};

/// The rows, in the order of `contenders` within each length.
pub fn run(contenders: &[Contender], cpus: [usize; 2], args: &Args) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if args.bench != Some(Bench::Stream) {
        for bytes in RTT_BYTES {
            rows.extend(round_trips(contenders, cpus, bytes, args)?);
        }
    }
    if args.bench != Some(Bench::Rtt) {
        for bytes in STREAM_BYTES {
            rows.extend(streams(contenders, cpus, bytes, args)?);
        }
    }
    Ok(rows)
}

fn round_trips(
    contenders: &[Contender],
    cpus: [usize; 2],
    message_bytes: usize,
    args: &Args,
) -> Result<Vec<Row>> {
    let times = in_rounds(contenders, args, |contender| {
        let measure = contender.round_trips?;
        Some(measure(message_bytes, cpus, args.rtt_time()))
    })?;
    let row = |(name, times): (_, Vec<RoundTrips>)| Row::Rtt {
        name,
        message_bytes,
        p50_ns: rounded(median(times.iter().map(|times| times.p50_ns).collect())),
        p99_ns: rounded(median(times.iter().map(|times| times.p99_ns).collect())),
    };
    Ok(times.into_iter().map(row).collect())
}

fn streams(
    contenders: &[Contender],
    cpus: [usize; 2],
    message_bytes: usize,
    args: &Args,
) -> Result<Vec<Row>> {
    let messages = args.stream_bytes(message_bytes) / message_bytes as u64;
    let rates = in_rounds(contenders, args, |contender| {
        let measure = contender.stream?;
        let time = measure(message_bytes, cpus, messages);
        Some(time.map(|time| messages as f64 / time.as_secs_f64()))
    })?;
    let row = |(name, rates)| {
        let messages_per_s = median(rates).round();
        let gb_per_s = rounded(messages_per_s * message_bytes as f64 / 1e9);
        Row::Stream { name, message_bytes, messages_per_s, gb_per_s }
    };
    Ok(rates.into_iter().map(row).collect())
}

/// Measures everybody once in each round; another one begins each time.
fn in_rounds<T>(
    contenders: &[Contender],
    args: &Args,
    measure: impl Fn(&Contender) -> Option<Result<T>>,
) -> Result<Vec<(&'static str, Vec<T>)>> {
    let mut results: Vec<_> = contenders.iter().map(|one| (one.name, Vec::new())).collect();
    for round in 0..args.rounds() {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            let contender = &contenders[index];
            if let Some(result) = measure(contender) {
                results[index].1.push(result.with_context(|| contender.name)?);
            }
        }
    }
    results.retain(|(_, values)| !values.is_empty());
    Ok(results)
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
