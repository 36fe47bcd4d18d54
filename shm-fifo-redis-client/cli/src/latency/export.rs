//! The results as files and as CSV.

use super::args::LatencyArgs;
use super::hgrm;
use super::probe::Probe;
use super::row::Row;
use super::spectrum::starts_ns;
use crate::files::{check_file, write_json};
use crate::transport::Transport;
use anyhow::Context;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Finds out before the work whether the results can be kept.
pub(crate) fn check_paths(args: &LatencyArgs) -> anyhow::Result<()> {
    if let Some(path) = &args.json {
        check_file(path)?;
    }
    match &args.hgrm {
        Some(path) if args.compare => {
            Transport::ALL.iter().try_for_each(|one| check_file(&path_of(path, *one)))
        }
        Some(path) => check_file(path),
        None => Ok(()),
    }
}

pub(crate) fn write(args: &LatencyArgs, rows: &[Row], probes: &[Probe]) -> anyhow::Result<()> {
    if let Some(path) = &args.json {
        write_json(path, rows)?;
    }
    if let Some(path) = &args.hgrm {
        for probe in probes {
            let path = if args.compare { path_of(path, probe.transport) } else { path.clone() };
            let text = hgrm::render(&probe.total());
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// `ping.hgrm` becomes `ping-tcp.hgrm`.
fn path_of(path: &Path, transport: Transport) -> PathBuf {
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(format!("-{transport}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

pub(crate) fn csv(rows: &[Row]) -> String {
    csv_header(false) + &rows.iter().map(csv_line).collect::<String>()
}

/// The names are those of the JSON; no value has a comma or a quote.
pub(crate) fn csv_header(with_buckets: bool) -> String {
    let mut text = "transport,sample_rate_us,start_s,seconds,samples,min_ns,avg_ns,p50_ns,\
                    p99_ns,p999_ns,max_ns"
        .to_owned();
    if with_buckets {
        text.extend(starts_ns().iter().map(|start| format!(",from_{start}_ns")));
    }
    text + "\n"
}

pub(crate) fn csv_line(row: &Row) -> String {
    let mut text = format!(
        "{},{},{},{},{},{},{},{},{},{},{}",
        row.transport,
        row.sample_rate_us,
        row.start_s,
        row.seconds,
        row.samples,
        row.min_ns,
        row.avg_ns,
        row.p50_ns,
        row.p99_ns,
        row.p999_ns,
        row.max_ns
    );
    let buckets = row.buckets.iter().flatten();
    text.extend(buckets.map(|bucket| format!(",{}", bucket.count)));
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transport_has_a_file_of_its_own() {
        let names = ["/tmp/ping.hgrm", "ping"].map(|path| path_of(path.as_ref(), Transport::Tcp));
        assert_eq!(names, [PathBuf::from("/tmp/ping-tcp.hgrm"), PathBuf::from("ping-tcp")]);
    }
}
