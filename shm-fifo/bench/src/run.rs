//! All measurements, interleaved: what the machine does meanwhile hits everyone alike. Between
//! any two the ruler is laid on, which is a cache line that goes there and back: a virtual machine
//! moves its CPUs, and then times cannot be compared.

use crate::args::{Args, Bench};
use crate::measure::RoundTrips;
use crate::row::{Row, median};
use crate::suite::{Contender, RTT_BYTES, STREAM_BYTES, line_ns};
use anyhow::{Context, Result};
use std::time::Duration;

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
    let samples = in_rounds(contenders, cpus, args, |contender| {
        let measure = contender.round_trips?;
        Some(measure(message_bytes, cpus, args.rtt_time()))
    })?;
    let row = |(name, samples): (_, Samples<RoundTrips>)| Row::Rtt {
        name,
        message_bytes,
        p50_ns: samples.median(|times, _| times.p50_ns),
        p99_ns: samples.median(|times, _| times.p99_ns),
        by_line: samples.median(|times, line_ns| times.p50_ns / line_ns),
        line_ns: samples.median(|_, line_ns| line_ns),
    };
    Ok(samples.into_iter().map(row).collect())
}

fn streams(
    contenders: &[Contender],
    cpus: [usize; 2],
    message_bytes: usize,
    args: &Args,
) -> Result<Vec<Row>> {
    let messages = args.stream_bytes(message_bytes) / message_bytes as u64;
    let samples = in_rounds(contenders, cpus, args, |contender| {
        let measure = contender.stream?;
        Some(measure(message_bytes, cpus, messages))
    })?;
    let row = |(name, samples): (_, Samples<Duration>)| {
        let messages_per_s = samples.median(|time, _| messages as f64 / time.as_secs_f64()).round();
        let gb_per_s = rounded(messages_per_s * message_bytes as f64 / 1e9);
        let line_ns = samples.median(|_, line_ns| line_ns);
        Row::Stream { name, message_bytes, messages_per_s, gb_per_s, line_ns }
    };
    Ok(samples.into_iter().map(row).collect())
}

/// What was measured in each round, and the ruler before and after it.
struct Samples<T>(Vec<(T, [f64; 2])>);

impl<T> Samples<T> {
    /// The median of `figure`, which is given a measurement and the ruler beside it: of the rounds
    /// in which that was the same before and after, if there are any.
    fn median(&self, figure: impl Fn(&T, f64) -> f64) -> f64 {
        let is_steady = |lines: &[f64; 2]| !has_moved(lines);
        let some_are = self.0.iter().any(|(_, lines)| is_steady(lines));
        let counted = self.0.iter().filter(|(_, lines)| is_steady(lines) || !some_are);
        let figures =
            counted.map(|(sample, [before, after])| figure(sample, (before + after) / 2.0));
        rounded(median(figures.collect()))
    }
}

/// Whether a ruler that showed these times was not the same all the time: more than noise.
pub fn has_moved(lines: &[f64]) -> bool {
    const NOISE: f64 = 1.5;
    let least = lines.iter().copied().fold(f64::INFINITY, f64::min);
    lines.iter().any(|&line_ns| line_ns > least * NOISE)
}

/// Measures everybody once in each round; another one begins each time.
fn in_rounds<T>(
    contenders: &[Contender],
    cpus: [usize; 2],
    args: &Args,
    measure: impl Fn(&Contender) -> Option<Result<T>>,
) -> Result<Vec<(&'static str, Samples<T>)>> {
    let mut results: Vec<_> =
        contenders.iter().map(|one| (one.name, Samples(Vec::new()))).collect();
    let mut before = line_ns(cpus, args.ruler_time())?;
    for round in 0..args.rounds() {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            let contender = &contenders[index];
            if let Some(result) = measure(contender) {
                let result = result.with_context(|| contender.name)?;
                let after = line_ns(cpus, args.ruler_time())?;
                results[index].1.0.push((result, [before, after]));
                before = after;
            }
        }
    }
    results.retain(|(_, Samples(samples))| !samples.is_empty());
    Ok(results)
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
