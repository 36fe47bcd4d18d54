//! One result: what a transport measured in an interval, or in all.

use super::args::LatencyArgs;
use super::spectrum::{Bucket, Spectrum};
use crate::statistics::{Series, Summary};
use crate::transport::Transport;
use serde::Serialize;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) transport: Transport,
    pub(crate) sample_rate_us: u64,
    /// When its interval began, since the run began.
    pub(crate) start_s: f64,
    /// How long that was, pauses and drawing included.
    pub(crate) seconds: f64,
    pub(crate) samples: u64,
    pub(crate) min_ns: u64,
    pub(crate) avg_ns: f64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    pub(crate) max_ns: u64,
    /// With --dist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) buckets: Option<Vec<Bucket>>,
}

impl Row {
    /// The figures, each with its name.
    pub(crate) fn figures_us(&self) -> [(&'static str, f64); 6] {
        let us = |ns: u64| ns as f64 / 1000.0;
        [
            ("min", us(self.min_ns)),
            ("avg", self.avg_ns / 1000.0),
            ("p50", us(self.p50_ns)),
            ("p99", us(self.p99_ns)),
            ("p99.9", us(self.p999_ns)),
            ("max", us(self.max_ns)),
        ]
    }

    /// How often this row's median holds that of shared memory.
    pub(crate) fn times_shm(&self, rows: &[Self]) -> Option<f64> {
        let shm = rows.iter().find(|row| row.transport == Transport::Shm)?;
        (shm.p50_ns > 0).then(|| self.p50_ns as f64 / shm.p50_ns as f64)
    }
}

/// Makes rows of what the probes measured.
#[derive(Debug)]
pub(crate) struct Rows {
    started: Instant,
    sample_rate_us: u64,
    with_buckets: bool,
}

impl Rows {
    pub(crate) fn begin(args: &LatencyArgs) -> Self {
        Self {
            started: Instant::now(),
            sample_rate_us: args.sample_rate_us(),
            with_buckets: args.dist,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What was measured since `start`; `None` if nothing was.
    pub(crate) fn since(
        &self,
        start: Duration,
        transport: Transport,
        series: &Series,
    ) -> Option<Row> {
        let Summary { count, min_ns, mean_ns, p50_ns, p99_ns, p999_ns, max_ns, .. } =
            series.summary()?;
        Some(Row {
            transport,
            sample_rate_us: self.sample_rate_us,
            start_s: to_the_microsecond(start),
            seconds: to_the_microsecond(self.elapsed().saturating_sub(start)),
            samples: count,
            min_ns,
            avg_ns: (mean_ns * 1000.0).round() / 1000.0,
            p50_ns,
            p99_ns,
            p999_ns,
            max_ns,
            buckets: self.with_buckets.then(|| Spectrum::of(series).buckets()),
        })
    }
}

fn to_the_microsecond(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}
